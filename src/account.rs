//! Changes to accounts that must hold together: an admin is always left, sessions end with what they
//! were made by, and what happened is written down, in one transaction.

mod email;
mod limits;
mod owner;
mod password;
mod sessions;
mod tokens;
mod update;

use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

pub use self::email::{ask_to_verify, verify_email};
pub use self::limits::trim;
pub use self::owner::AccountOwner;
pub use self::password::{
    ChosenPassword, ResetPassword, change_password, log_in_by_mail, reset_password, unchanged,
};
pub use self::sessions::{end_session, end_sessions, lock_out};
pub use self::tokens::{MOST_TOKENS, TokenRequest, create_token, revoke_token, revoke_tokens};
pub use self::update::update;

use crate::audit::{Event, Kind};
use crate::auth::{Access, CurrentUser};
use crate::client::Client;
use crate::error::{Error, OnConstraint as _, Result};
use crate::store::outbox::{self, NewMail};
use crate::store::users::{self, NewUser, Role, User};
use crate::store::{self, anonymizations, former_usernames};

/// Who changes an account. A caller's credential is checked again under the lock, and so is an admin's role.
#[derive(Clone, Copy, Debug)]
pub enum Actor<'a> {
    /// Somebody who makes an account of their own.
    Registrant,
    /// Its owner.
    Owner(AccountOwner<'a>),
    /// An admin.
    Admin(&'a CurrentUser),
    /// Somebody at the command line.
    Operator,
}

impl<'a> Actor<'a> {
    fn current(self) -> Option<&'a CurrentUser> {
        match self {
            Self::Owner(owner) => Some(owner.current()),
            Self::Admin(current) => Some(current),
            Self::Registrant | Self::Operator => None,
        }
    }

    /// Whether it decides for the service, and so may give a reserved username to another account.
    fn may_reassign(self) -> bool {
        matches!(self, Self::Admin(_) | Self::Operator)
    }
}

/// Makes an account, and mails to its address unless that is verified.
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
    claim(connection, &user, actor).await?;
    let event = event(Kind::UserCreated, client, user.id, actor);
    event.details(json!({"role": user.role})).record(&mut *connection).await?;
    if let Some(email) = user.email.as_deref().filter(|_| !user.email_verified) {
        outbox::insert(connection, &NewMail::to_verify(user.id, email)).await?;
    }
    Ok(user)
}

/// Audit events of a deleted account that are anonymised in the transaction that deletes it. The sweep does the rest, so
/// that the answer is quick however many there are.
const ANONYMIZED_AT_ONCE: i64 = 200;

/// Deletes an account with everything that is its own. Audit events stay, without addresses, user agents and request
/// ids. Its username stays reserved for a while.
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
    store::sessions::delete_all(&mut *connection, id, None).await?;
    users::delete(&mut *connection, id).await?;
    // An owner's own address would be personal; an admin's is not the account's.
    let nobody = Client { request_id: client.request_id.clone(), ..Client::operator() };
    let client = if matches!(actor, Actor::Owner(..)) { &nobody } else { client };
    event(Kind::UserDeleted, client, id, actor).record(&mut *connection).await?;
    let anonymization = anonymizations::insert(&mut *connection, id).await?;
    anonymizations::advance(connection, &anonymization, ANONYMIZED_AT_ONCE).await?;
    Ok(())
}

/// Checks that the username that an account was just given is not reserved for another one. An admin and an operator may
/// reassign it.
async fn claim(connection: &mut PgConnection, user: &User, actor: Actor<'_>) -> Result<()> {
    let Some(username) = user.username.as_deref().filter(|_| !actor.may_reassign()) else {
        return Ok(());
    };
    match former_usernames::is_reserved(connection, username, Some(user.id)).await? {
        true => Err(Error::UsernameTaken),
        false => Ok(()),
    }
}

/// An account whose row is locked.
struct Locked {
    user: User,
    is_last_admin: bool,
}

/// Locks the account, and checks the actor again under the lock. If an admin acts, or an admin may be lost, also every active admin: of two
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
    if let Some(current) = actor.current() {
        current.confirm(connection).await?;
    }
    let own =
        actor.current().and_then(|current| locked.iter().find(|user| user.id == current.user.id));
    if own.is_some_and(|own| own.must_change_password) {
        return Err(Error::PasswordChangeRequired);
    }
    let mut admins = locked.iter().filter(is_admin).map(|admin| admin.id);
    if let Actor::Admin(admin) = actor
        && !admins.clone().any(|id| id == admin.user.id)
    {
        return Err(Error::Forbidden);
    }
    let is_last_admin = admins.next() == Some(id) && admins.next().is_none();
    let user = locked.into_iter().find(|user| user.id == id).ok_or(Error::NotFound)?;
    Ok(Locked { user, is_last_admin })
}

fn on_names<T>(done: Result<T>) -> Result<T> {
    done.on_constraint("users_username_key", || Error::UsernameTaken)
        .on_constraint("users_email_key", || Error::EmailTaken)
        .on_constraint("users_username_or_email_check", || {
            Error::invalid("username", "required", "or email must be left")
        })
}

fn event<'a>(kind: Kind, client: &'a Client, id: Uuid, actor: Actor<'_>) -> Event<'a> {
    let event = Event::new(kind, client).to(id);
    let Some(current) = actor.current() else {
        return if matches!(actor, Actor::Registrant) { event.by(id) } else { event };
    };
    let event = event.by(current.user.id);
    match &current.access {
        Access::Session(session) if matches!(actor, Actor::Owner(..)) => {
            event.session(session.live.session.id)
        }
        Access::Session(_) => event,
        Access::ApiToken { id, .. } => event.with_token(*id),
        Access::Password(_) => event.with_password(),
    }
}
