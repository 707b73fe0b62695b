//! Ending sessions that somebody wants ended: their owner, or an admin.

use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Actor, email, event, lock, tokens};
use crate::audit::Kind;
use crate::client::Client;
use crate::error::Result;
use crate::store::sessions::{self, Owned};
use crate::store::{known_devices, users};

/// Ends one session of an account; `false` when it has no such session. An address that waits to be verified is
/// dropped: that session may have asked for it. While the account's address is not proven, every device is
/// forgotten: the session may be that of a shared browser.
///
/// # Errors
/// Those of the actor's credential, and those of the database.
pub async fn end_session(
    connection: &mut PgConnection,
    owned: Owned,
    actor: Actor<'_>,
    client: &Client,
) -> Result<bool> {
    lock(connection, owned.user_id, actor, false).await?;
    let ended = sessions::delete(&mut *connection, owned).await?;
    if ended {
        users::drop_pending_email(&mut *connection, owned.user_id).await?;
        known_devices::forget_unproven(&mut *connection, Some(owned.user_id), None).await?;
        let revoked = event(Kind::SessionRevoked, client, owned.user_id, actor);
        revoked.session(owned.id).record(connection).await?;
    }
    Ok(ended)
}

/// Ends every session of an account but one, and forgets every device that the account knows but the client's own. An
/// address that waits to be verified is dropped, as by [`end_session`]. If all sessions end while the account's
/// address is not proven, the client's own device is forgotten, too.
///
/// # Errors
/// Those of the actor's credential, and those of the database.
pub async fn end_sessions(
    connection: &mut PgConnection,
    user_id: Uuid,
    but: Option<Uuid>,
    actor: Actor<'_>,
    client: &Client,
) -> Result<()> {
    lock(connection, user_id, actor, false).await?;
    let ended = sessions::delete_all(&mut *connection, user_id, but).await?;
    known_devices::forget(&mut *connection, user_id, &client.device_hashes()).await?;
    if but.is_none() {
        known_devices::forget_unproven(&mut *connection, Some(user_id), None).await?;
    }
    // Also if none was left: the session that asked for the address may have logged out.
    users::drop_pending_email(&mut *connection, user_id).await?;
    if ended > 0 {
        let revoked = event(Kind::SessionRevoked, client, user_id, actor);
        revoked.details(json!({"sessions": ended})).record(connection).await?;
    }
    Ok(())
}

/// Revokes all access to an account but its password, for admins: sessions, API tokens, known devices, emails that
/// open it, and an address that waits to be verified.
///
/// # Errors
/// `NotFound`, `Forbidden` for an admin who is none any more, those of the actor's credential, and those of the
/// database.
pub async fn lock_out(
    connection: &mut PgConnection,
    user_id: Uuid,
    actor: Actor<'_>,
    client: &Client,
) -> Result<()> {
    let user = lock(connection, user_id, actor, false).await?.user;
    let sessions = sessions::delete_all(&mut *connection, user_id, None).await?;
    users::drop_pending_email(&mut *connection, user_id).await?;
    known_devices::forget(&mut *connection, user_id, &[]).await?;
    email::void_mails(connection, &user).await?;
    if sessions > 0 {
        let revoked = event(Kind::SessionRevoked, client, user_id, actor);
        revoked.details(json!({"sessions": sessions})).record(&mut *connection).await?;
    }
    tokens::revoke_all(connection, user_id, actor, client).await
}
