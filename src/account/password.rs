//! New passwords, and what they make void.

use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::audit::{Event, Kind};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::store::one_time_tokens::{self, Owner, Purpose, Token};
use crate::store::outbox;
use crate::store::users::{self, Changes, Credentials, User};
use crate::store::{api_tokens, known_devices, sessions, throttles};
use crate::{names, throttle};

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
    let changed = Event::new(Kind::PasswordChanged, client).by_own(id).session(current);
    let user = set(connection, id, hash).await?;
    sessions::delete_all(&mut *connection, id, Some(current)).await?;
    follow_new_password(connection, &user, client.device_hash.as_deref()).await?;
    changed.record(connection).await?;
    Ok(user)
}

/// Gives an account the password that somebody chose who had a mail to its address, and ends all its
/// sessions and API tokens: this is the way back into an account that somebody else has got into, or had
/// made with another's address.
///
/// `false` when the token does not stand any more.
///
/// # Errors
/// Those of the database.
pub async fn reset_password(
    connection: &mut PgConnection,
    token: &Token,
    hash: String,
    client: &Client,
) -> Result<bool> {
    let Owner::User(id) = token.owner else { return Ok(false) };
    let owner = users::lock_active_by_email(&mut *connection, &token.email).await?;
    if owner.is_none_or(|owner| owner.id != id) {
        return Ok(false);
    }
    if !one_time_tokens::spend(connection, Purpose::ResetPassword, token).await? {
        return Ok(false);
    }
    users::verify_email(&mut *connection, id).await?;
    let user = set(connection, id, hash).await?;
    sessions::delete_all(&mut *connection, id, None).await?;
    api_tokens::delete_all(&mut *connection, id).await?;
    follow_new_password(connection, &user, client.device_hash.as_deref()).await?;
    changed_by_mail(id, client).record(connection).await?;
    Ok(true)
}

/// Logs in whoever had a mail to the account's address. If that was never verified, whoever made the
/// account need not be the one who reads its mail: their sessions, tokens and password end, and
/// `instead` is a password that nobody knows.
///
/// `None` when the token does not stand any more.
///
/// # Errors
/// Those of the database.
pub async fn log_in_by_mail(
    connection: &mut PgConnection,
    token: &Token,
    instead: Option<String>,
    client: &Client,
) -> Result<Option<User>> {
    let Owner::User(id) = token.owner else { return Ok(None) };
    let before = users::lock_active_by_email(&mut *connection, &token.email).await?;
    let Some(before) = before.filter(|user| user.id == id) else { return Ok(None) };
    if !one_time_tokens::spend(connection, Purpose::LogIn, token).await? {
        return Ok(None);
    }
    if !before.email_verified {
        let Some(hash) = instead else { return Ok(None) };
        let user = set(connection, id, hash).await?;
        sessions::delete_all(&mut *connection, id, None).await?;
        api_tokens::delete_all(&mut *connection, id).await?;
        follow_new_password(connection, &user, None).await?;
        changed_by_mail(id, client).record(&mut *connection).await?;
    }
    Ok(users::record_login_by_mail(connection, id).await?)
}

fn changed_by_mail(id: Uuid, client: &Client) -> Event<'_> {
    Event::new(Kind::PasswordChanged, client).by_own(id).details(json!({"by": "mail"}))
}

async fn set(connection: &mut PgConnection, id: Uuid, hash: String) -> Result<User> {
    let changes = Changes { password_hash: Some(hash), ..Changes::default() };
    Ok(users::update(connection, id, &changes).await?)
}

/// What follows from a new password, besides the end of sessions: whoever knew the old one is a stranger
/// now, mails that open the account are void, tries at the old one count no more, and the owner is told.
pub(super) async fn follow_new_password(
    connection: &mut PgConnection,
    user: &User,
    but: Option<&[u8]>,
) -> Result<()> {
    known_devices::forget(&mut *connection, user.id, but).await?;
    super::email::void_mails(connection, user).await?;
    let names = names::identifiers(user.username.as_deref(), user.email.as_deref());
    throttles::clear(&mut *connection, &throttle::account_keys(names), None).await?;
    let kind = outbox::MailKind::PasswordChanged;
    Ok(outbox::insert_to_owner(connection, Some(user.id), kind, &json!({})).await?)
}
