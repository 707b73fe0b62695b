//! Changes to accounts that must hold together: an admin is always left, sessions end with what they
//! were made by, and what happened is written down, in one transaction.

use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::audit::{Event, Kind};
use crate::auth::CurrentUser;
use crate::client::Client;
use crate::error::{Error, OnConstraint as _, Result};
use crate::session;
use crate::state::App;
use crate::store::users::{self, Changes, Credentials, NewUser, Role, User};
use crate::store::{audit_events, known_devices, sessions, throttles};
use crate::{names, throttle};

/// Who changes an account. Whoever is logged in must still be, by the same secret, when the change is
/// made, and an admin must still be one.
#[derive(Clone, Copy, Debug)]
pub enum Actor<'a> {
    /// Somebody who makes an account of their own.
    Registrant,
    /// Its owner.
    Owner(&'a CurrentUser, &'a App),
    /// An admin.
    Admin(&'a CurrentUser),
    /// Somebody at the command line.
    Operator,
}

impl<'a> Actor<'a> {
    fn current(self) -> Option<&'a CurrentUser> {
        match self {
            Self::Owner(current, _) | Self::Admin(current) => Some(current),
            Self::Registrant | Self::Operator => None,
        }
    }
}

/// Makes an account.
///
/// # Errors
/// `UsernameTaken`, `EmailTaken`, and those of the database.
pub async fn create(
    connection: &mut PgConnection,
    new: &NewUser,
    hash: &str,
    actor: Actor<'_>,
    client: &Client,
) -> Result<User> {
    if let Actor::Admin(admin) = actor {
        lock(connection, admin.user.id, actor, false).await?;
    }
    let user = users::insert(&mut *connection, new, hash).await.map_err(Error::from);
    let user = on_names(user)?;
    let event = event(Kind::UserCreated, client, user.id, actor);
    event.details(json!({"role": user.role})).record(connection).await?;
    Ok(user)
}

/// Changes an account, and ends the sessions that the change makes void: all of them when it is
/// disabled, demoted or given a new password. An owner needs a fresh session for another email address.
///
/// # Errors
/// `NotFound`, `SessionExpired`, `ReauthenticationRequired`, `SessionRequired`, `LastAdmin`, `Forbidden` for an admin who is none any more, those of taken names, a
/// 422 when no name would be left, and those of the database.
pub async fn update(
    connection: &mut PgConnection,
    id: Uuid,
    changes: &Changes,
    actor: Actor<'_>,
    client: &Client,
) -> Result<User> {
    let takes_away = changes.role == Some(Role::User) || changes.is_active == Some(false);
    let before = lock(connection, id, actor, takes_away).await?;
    let demotes = changes.role == Some(Role::User) && before.user.role == Role::Admin;
    let disables = changes.is_active == Some(false);
    if (demotes || disables) && before.is_last_admin {
        return Err(Error::LastAdmin);
    }
    if let Actor::Owner(current, app) = actor
        && changes.email.as_ref().is_some_and(|email| *email != before.user.email)
    {
        current.require_fresh(app)?;
    }
    if changes.is_empty() {
        return Ok(before.user);
    }
    let user = users::update(&mut *connection, id, changes).await.map_err(Error::from);
    let user = on_names(user)?;
    if demotes || disables || changes.password_hash.is_some() {
        sessions::delete_all(&mut *connection, id, None).await?;
    }
    if changes.password_hash.is_some() {
        known_devices::forget(&mut *connection, id, None).await?;
        // Whoever was given a new password may have used up the tries at the old one.
        let names = names::identifiers(user.username.as_deref(), user.email.as_deref());
        throttles::clear(&mut *connection, &throttle::account_keys(names), None).await?;
        event(Kind::PasswordChanged, client, id, actor).record(&mut *connection).await?;
    }
    let fields = changes.fields();
    if !fields.is_empty() {
        let updated = event(Kind::UserUpdated, client, id, actor);
        let mut details = json!({"fields": fields});
        if let Some(role) = changes.role {
            details["role"] = json!(role);
        }
        if let Some(is_active) = changes.is_active {
            details["is_active"] = json!(is_active);
        }
        updated.details(details).record(connection).await?;
    }
    Ok(user)
}

/// Deletes an account with everything that is its own. Events about it stay, without what is
/// personal.
///
/// # Errors
/// `NotFound`, `LastAdmin`, `Forbidden` for an admin who is none any more, and those of the database.
pub async fn delete(
    connection: &mut PgConnection,
    id: Uuid,
    actor: Actor<'_>,
    client: &Client,
) -> Result<()> {
    if lock(connection, id, actor, true).await?.is_last_admin {
        return Err(Error::LastAdmin);
    }
    sessions::delete_all(&mut *connection, id, None).await?;
    users::delete(&mut *connection, id).await?;
    // An owner's own address would be personal; an admin's is not the account's.
    let nobody = Client { request_id: client.request_id.clone(), ..Client::operator() };
    let client = if matches!(actor, Actor::Owner(..)) { &nobody } else { client };
    event(Kind::UserDeleted, client, id, actor).record(&mut *connection).await?;
    Ok(audit_events::anonymize(connection, id).await?)
}

/// Gives an account the password that its owner chose, and ends its other sessions. The current
/// password was `verified`.
///
/// # Errors
/// `InvalidCredentials` when the account changed since, and those of the database.
pub async fn change_password(
    connection: &mut PgConnection,
    verified: &Credentials,
    hash: String,
    current: Uuid,
    client: &Client,
) -> Result<User> {
    let locked = users::lock_verified(&mut *connection, verified).await?;
    let id = locked.ok_or(Error::InvalidCredentials)?.id;
    let changes = Changes { password_hash: Some(hash), ..Changes::default() };
    let user = users::update(&mut *connection, id, &changes).await?;
    sessions::delete_all(&mut *connection, id, Some(current)).await?;
    // Whoever knew the old password is a stranger now.
    known_devices::forget(&mut *connection, id, client.device_hash.as_deref()).await?;
    Event::new(Kind::PasswordChanged, client)
        .by_own(id)
        .session(current)
        .record(connection)
        .await?;
    Ok(user)
}

/// Ends every session of an account, as an admin.
///
/// # Errors
/// `NotFound`, `SessionExpired`, `Forbidden` for an admin who is none any more, and those of the
/// database.
pub async fn end_sessions(
    connection: &mut PgConnection,
    id: Uuid,
    actor: Actor<'_>,
    client: &Client,
) -> Result<()> {
    lock(connection, id, actor, false).await?;
    let ended = sessions::delete_all(&mut *connection, id, None).await?;
    if ended > 0 {
        let revoked = event(Kind::SessionRevoked, client, id, actor);
        revoked.details(json!({"sessions": ended})).record(connection).await?;
    }
    Ok(())
}

/// An account whose row is locked.
struct Locked {
    user: User,
    is_last_admin: bool,
}

/// Locks the account. If an admin acts, or an admin may be lost, also every active admin: of two
/// changes that would together leave no admin, the second one then sees the first.
async fn lock(
    connection: &mut PgConnection,
    id: Uuid,
    actor: Actor<'_>,
    takes_away: bool,
) -> Result<Locked> {
    let is_admin = |user: &&User| user.role == Role::Admin && user.is_active;
    // All at once and in order: whoever locked more afterwards could meet another on the way.
    let with_admins = takes_away || matches!(actor, Actor::Admin(_));
    let locked = users::lock_with_admins(connection, id, with_admins).await?;
    if let Some(session) = actor.current().and_then(CurrentUser::session) {
        session::confirm(connection, session).await?;
    }
    let mut admins = locked.iter().filter(is_admin).map(|admin| admin.id);
    if let Actor::Admin(admin) = actor
        && !admins.clone().any(|id| id == admin.user.id)
    {
        return Err(Error::Forbidden);
    }
    let is_last_admin = admins.next() == Some(id) && admins.next().is_none();
    let user = locked.into_iter().find(|user| user.id == id).ok_or(Error::NotFound)?;
    if matches!(actor, Actor::Owner(..)) && !user.is_active {
        return Err(Error::SessionExpired);
    }
    Ok(Locked { user, is_last_admin })
}

fn on_names(user: Result<User>) -> Result<User> {
    user.on_constraint("users_username_key", || Error::UsernameTaken)
        .on_constraint("users_email_key", || Error::EmailTaken)
        .on_constraint("users_username_or_email_check", || {
            Error::invalid("username", "required", "or email must be left")
        })
}

fn event<'a>(kind: Kind, client: &'a Client, id: Uuid, actor: Actor<'_>) -> Event<'a> {
    let event = Event::new(kind, client).to(id);
    match actor {
        Actor::Registrant => event.by(id),
        Actor::Owner(current, _) => match current.session() {
            Some(session) => event.by(id).session(session.live.session.id),
            None => event.by(id),
        },
        Actor::Admin(admin) => event.by(admin.user.id),
        Actor::Operator => event,
    }
}
