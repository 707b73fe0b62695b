//! New passwords, and what they make void.

use serde::Serialize;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::audit::{Event, Kind};
use crate::client::Client;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::store::one_time_tokens::{self, Owner, Purpose, Token};
use crate::store::outbox::{self, MailKind};
use crate::store::users::{self, Changes, Credentials, User};
use crate::store::{api_tokens, known_devices, sessions};
use crate::throttle;

/// A new password of an account, by its owner.
#[derive(Debug)]
pub struct ChosenPassword {
    /// Its hash.
    pub hash: String,
    /// Whether it is the current password again.
    pub is_unchanged: bool,
    /// Whether the account's API tokens stay valid.
    pub keep_api_tokens: bool,
}

/// A new password of an account, by somebody who reads its mail.
#[derive(Debug)]
pub struct ResetPassword {
    /// Its hash.
    pub hash: String,
    /// Whether it is the current password again.
    pub is_unchanged: bool,
}

/// A password that had to be changed, and was not (ASVS 6.4.1).
#[must_use]
pub fn unchanged(field: &str) -> Error {
    Error::invalid(field, "unchanged", "must differ from the current password")
}

/// How much a new password revoked: for the owner's email and the audit event.
#[derive(Debug, Default, Serialize)]
pub(super) struct Revoked {
    pub(super) sessions: usize,
    pub(super) api_tokens: i64,
}

/// Gives an account the password that its owner chose, and ends its other sessions and, unless they are to be
/// kept, its API tokens. The current password was `verified`.
///
/// # Errors
/// `InvalidCredentials` when the account has another password by now, and those of the database.
pub async fn change_password(
    connection: &mut PgConnection,
    verified: &Credentials,
    new: ChosenPassword,
    current: Uuid,
    config: &Config,
    client: &Client,
) -> Result<User> {
    let locked = users::lock_verified(&mut *connection, verified).await?;
    let locked = locked.ok_or(Error::InvalidCredentials)?;
    // By the row that is locked: an admin may have asked for a new password since the request began.
    if locked.must_change_password && new.is_unchanged {
        return Err(unchanged("new_password"));
    }
    let id = locked.id;
    let user = set(connection, id, new.hash).await?;
    let revoked = Revoked {
        sessions: sessions::delete_all(&mut *connection, id, Some(current)).await?,
        api_tokens: match new.keep_api_tokens {
            true => 0,
            false => api_tokens::delete_all(&mut *connection, id).await?,
        },
    };
    let devices = client.device_hashes();
    // The address may be a stranger's: it must not be sent mails without end.
    if throttle::may_tell(connection, config, MailKind::PasswordChanged, id.as_bytes()).await? {
        follow_new_password(connection, &user, &devices, &revoked).await?;
    } else {
        void_old_password(connection, &user, &devices).await?;
    }
    let changed = Event::new(Kind::PasswordChanged, client).by_own(id).session(current);
    changed.details(json!(revoked)).record(connection).await?;
    Ok(user)
}

/// Gives an account the password that somebody chose who had a mail to its address, and ends all its
/// sessions and API tokens: this is the way back into an account that somebody else has got into, or had
/// made with another's address.
///
/// Returns `false` if the token is invalid by now.
///
/// # Errors
/// The password must change and does not, and those of the database.
pub async fn reset_password(
    connection: &mut PgConnection,
    token: &Token,
    new: ResetPassword,
    client: &Client,
) -> Result<bool> {
    let Owner::User(id) = token.owner else { return Ok(false) };
    let owner = users::lock_active_by_email(&mut *connection, &token.email).await?;
    let Some(owner) = owner.filter(|owner| owner.id == id) else { return Ok(false) };
    // By the row that is locked: an admin may have asked for a new password since the request began.
    if owner.must_change_password && new.is_unchanged {
        return Err(unchanged("password"));
    }
    if !one_time_tokens::spend(connection, Purpose::ResetPassword, token).await? {
        return Ok(false);
    }
    // A device that came with an unproven password may be that of a stranger.
    let devices = match users::is_owner_proven(&mut *connection, id).await? {
        true => client.device_hashes(),
        false => vec![],
    };
    users::verify_email(&mut *connection, id, true).await?;
    let user = set(connection, id, new.hash).await?;
    let revoked = revoke_all(connection, id).await?;
    follow_new_password(connection, &user, &devices, &revoked).await?;
    throttle::reset_names(&mut *connection, &user).await?;
    changed_by_mail(id, client, &revoked).record(connection).await?;
    Ok(true)
}

/// Logs in by a code that was mailed to the account's address. Unless the person who chose the password is
/// known to read that mail, this revokes all other access, notifies the owner, and replaces the password
/// with `instead`, the hash of one that nobody knows.
///
/// Returns `None` if the token is invalid by now.
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
    let owner = users::lock_active_by_email(&mut *connection, &token.email).await?;
    if owner.is_none_or(|owner| owner.id != id) {
        return Ok(None);
    }
    if !one_time_tokens::spend(connection, Purpose::LogIn, token).await? {
        return Ok(None);
    }
    let mut revoked = None;
    if !users::is_owner_proven(&mut *connection, id).await? {
        let Some(hash) = instead else { return Ok(None) };
        revoked = Some(evict(connection, id, hash, client).await?);
    }
    let user = users::record_login_by_mail(&mut *connection, id).await?;
    if let Some(revoked) = revoked {
        let kind = outbox::MailKind::AccessReset;
        outbox::insert_to_owner(connection, Some(id), kind, &json!(revoked)).await?;
    }
    Ok(user)
}

/// Revokes all access to an account whose row is locked: sessions, API tokens, known devices, mails that
/// open it, a pending address, and the password, which a new hash replaces.
async fn evict(
    connection: &mut PgConnection,
    id: Uuid,
    hash: String,
    client: &Client,
) -> Result<Revoked> {
    let user = set(connection, id, hash).await?;
    let revoked = revoke_all(connection, id).await?;
    void_old_password(connection, &user, &[]).await?;
    changed_by_mail(id, client, &revoked).record(connection).await?;
    Ok(revoked)
}

fn changed_by_mail<'a>(id: Uuid, client: &'a Client, revoked: &Revoked) -> Event<'a> {
    let mut details = json!(revoked);
    details["by"] = json!("mail");
    Event::new(Kind::PasswordChanged, client).by_own(id).details(details)
}

/// Revokes every session and API token of an account whose row is locked.
pub(super) async fn revoke_all(connection: &mut PgConnection, id: Uuid) -> sqlx::Result<Revoked> {
    Ok(Revoked {
        sessions: sessions::delete_all(&mut *connection, id, None).await?,
        api_tokens: api_tokens::delete_all(connection, id).await?,
    })
}

async fn set(connection: &mut PgConnection, id: Uuid, hash: String) -> Result<User> {
    let changes = Changes {
        password_hash: Some(hash),
        must_change_password: Some(false),
        ..Changes::default()
    };
    Ok(users::update(connection, id, &changes).await?)
}

/// What follows from a new password, besides the end of sessions: what the old one opened is void, and
/// the owner is notified.
pub(super) async fn follow_new_password(
    connection: &mut PgConnection,
    user: &User,
    kept_devices: &[Vec<u8>],
    revoked: &Revoked,
) -> Result<()> {
    void_old_password(connection, user, kept_devices).await?;
    let kind = MailKind::PasswordChanged;
    Ok(outbox::insert_to_owner(connection, Some(user.id), kind, &json!(revoked)).await?)
}

/// Forgets all devices but `kept_devices`, and voids the mails that open the account.
async fn void_old_password(
    connection: &mut PgConnection,
    user: &User,
    kept_devices: &[Vec<u8>],
) -> Result<()> {
    known_devices::forget(&mut *connection, user.id, kept_devices).await?;
    super::email::void_mails(connection, user).await
}
