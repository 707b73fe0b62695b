//! Changes to accounts that must hold together: an admin is always left, sessions end with what they
//! were made by, and what happened is written down, in one transaction.

use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::audit::{Event, Kind};
use crate::client::Client;
use crate::error::{Error, OnConstraint as _, Result};
use crate::store::users::{self, Changes, Credentials, NewUser, Role, User};
use crate::store::{audit_events, sessions};

/// Who changes an account.
#[derive(Clone, Copy, Debug)]
pub enum Actor {
    /// Its owner.
    Owner,
    /// An admin, by their account's id; they must still be one when the change is made.
    Admin(Uuid),
    /// Somebody at the command line.
    Operator,
}

/// Makes an account.
///
/// # Errors
/// `UsernameTaken`, `EmailTaken`, and those of the database.
pub async fn create(
    connection: &mut PgConnection,
    new: &NewUser,
    hash: &str,
    actor: Actor,
    client: &Client,
) -> Result<User> {
    let user = users::insert(&mut *connection, new, hash).await.map_err(Error::from);
    let user = on_names(user)?;
    let event = event(Kind::UserCreated, client, user.id, actor);
    event.details(json!({"role": user.role})).record(connection).await?;
    Ok(user)
}

/// Changes an account, and ends the sessions that the change makes void: all of them when it is
/// disabled, demoted or given a new password.
///
/// # Errors
/// `NotFound`, `LastAdmin`, `Forbidden` for an admin who is none any more, those of taken names, a
/// 422 when no name would be left, and those of the database.
pub async fn update(
    connection: &mut PgConnection,
    id: Uuid,
    changes: &Changes,
    actor: Actor,
    client: &Client,
) -> Result<User> {
    let takes_away = changes.role == Some(Role::User) || changes.is_active == Some(false);
    let before = lock(connection, id, actor, takes_away).await?;
    let demotes = changes.role == Some(Role::User) && before.user.role == Role::Admin;
    let disables = changes.is_active == Some(false);
    if (demotes || disables) && before.is_last_admin {
        return Err(Error::LastAdmin);
    }
    let user = users::update(&mut *connection, id, changes).await.map_err(Error::from);
    let user = on_names(user)?;
    if demotes || disables || changes.password_hash.is_some() {
        sessions::delete_all(&mut *connection, id, None).await?;
    }
    if changes.password_hash.is_some() {
        event(Kind::PasswordChanged, client, id, actor).record(&mut *connection).await?;
    }
    let fields = changes.fields();
    if !fields.is_empty() {
        let updated = event(Kind::UserUpdated, client, id, actor);
        updated.details(json!({"fields": fields})).record(connection).await?;
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
    actor: Actor,
    client: &Client,
) -> Result<()> {
    if lock(connection, id, actor, true).await?.is_last_admin {
        return Err(Error::LastAdmin);
    }
    sessions::delete_all(&mut *connection, id, None).await?;
    users::delete(&mut *connection, id).await?;
    // An owner's own address would be personal; an admin's is not the account's.
    let nobody = Client { request_id: client.request_id.clone(), ..Client::operator() };
    let client = if matches!(actor, Actor::Owner) { &nobody } else { client };
    event(Kind::UserDeleted, client, id, actor).record(&mut *connection).await?;
    Ok(audit_events::anonymize(connection, id).await?)
}

/// Gives an account the password that its owner chose, and ends its other sessions. The current
/// password was `verified`.
///
/// # Errors
/// `SessionExpired` when the account changed since, and those of the database.
pub async fn change_password(
    connection: &mut PgConnection,
    verified: &Credentials,
    hash: String,
    current: Uuid,
    client: &Client,
) -> Result<User> {
    let locked = users::lock_verified(&mut *connection, verified).await?;
    let id = locked.ok_or(Error::SessionExpired)?.id;
    let changes = Changes { password_hash: Some(hash), ..Changes::default() };
    let user = users::update(&mut *connection, id, &changes).await?;
    sessions::delete_all(&mut *connection, id, Some(current)).await?;
    event(Kind::PasswordChanged, client, id, Actor::Owner).record(connection).await?;
    Ok(user)
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
    actor: Actor,
    takes_away: bool,
) -> Result<Locked> {
    let with_admins = takes_away || matches!(actor, Actor::Admin(_));
    let locked = users::lock_with_admins(connection, id, with_admins).await?;
    let is_admin = |user: &&User| user.role == Role::Admin && user.is_active;
    if let Actor::Admin(actor) = actor
        && !locked.iter().filter(is_admin).any(|admin| admin.id == actor)
    {
        return Err(Error::Forbidden);
    }
    let mut admins = locked.iter().filter(is_admin).map(|admin| admin.id);
    let is_last_admin = admins.next() == Some(id) && admins.next().is_none();
    let user = locked.into_iter().find(|user| user.id == id).ok_or(Error::NotFound)?;
    Ok(Locked { user, is_last_admin })
}

fn on_names(user: Result<User>) -> Result<User> {
    user.on_constraint("users_username_key", || Error::UsernameTaken)
        .on_constraint("users_email_key", || Error::EmailTaken)
        .on_constraint("users_username_or_email_check", || {
            Error::invalid("username", "required", "or email must be left")
        })
}

fn event(kind: Kind, client: &Client, id: Uuid, actor: Actor) -> Event<'_> {
    let event = Event::new(kind, client).to(id);
    match actor {
        Actor::Owner => event.by(id),
        Actor::Admin(admin) => event.by(admin),
        Actor::Operator => event,
    }
}
