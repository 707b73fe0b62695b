//! Begins, renews and ends sessions. The only file that knows tower-sessions is its `records`.
//!
//! A session is a row in `sessions` (the authority) that stands on a row in `session_records` (the
//! store of tower-sessions), whose id is the hash of the secret that the client holds. Both must
//! stand. A record is made before the transaction that uses it begins, since the store takes a
//! connection of its own, and is never written again. Locks: users, sessions, session_records.

mod cookie;
mod records;

use std::time::Duration;

use sqlx::PgConnection;
use uuid::Uuid;

pub use self::cookie::{Cookies, GivenCookie};
pub use self::records::{Records, SessionId};

use crate::client::Client;
use crate::error::{Error, Result};
use crate::state::App;
use crate::store::sessions::{self, Live, NewSession, Renewal, Session, Transport};
use crate::store::users::{self, Credentials, User};

/// A use of a session is written down at most this often.
const TOUCH_AFTER: Duration = Duration::from_secs(60);

/// What a session is to be like.
#[derive(Debug)]
pub struct Begin<'a> {
    /// Where it is made from.
    pub client: &'a Client,
    /// How the client will hold its secret.
    pub transport: Transport,
    /// Whether it outlives the browser.
    pub remember: bool,
    /// The session that the request's own cookie named: it ends.
    pub replaces: Option<&'a SessionId>,
    /// The account, unless it is made in the same transaction.
    pub user_id: Option<Uuid>,
}

/// A session that was just begun or renewed, with the secret that opens it.
#[derive(Debug)]
pub struct Begun {
    /// The account.
    pub user: User,
    /// The session.
    pub session: Session,
    /// The secret, for the client and nobody else.
    pub id: SessionId,
}

/// Begins a session. `account` runs first in its transaction: it locks the account's row, after
/// checking that it still is as it was when the password was, or makes it.
///
/// # Errors
/// Those of `account`, and those of the database.
pub async fn begin(
    app: &App,
    begin: Begin<'_>,
    account: impl AsyncFnOnce(&mut PgConnection) -> Result<User>,
) -> Result<Begun> {
    let lifetime =
        if begin.remember { app.config.remember_for } else { app.config.session_lifetime };
    let id = app.records.create(lifetime).await?;
    let begun = async {
        let replaced = match begin.replaces {
            Some(old) => {
                let old = old.record_id();
                let owner = sessions::find_owner(&app.pool, &old, Transport::Cookie).await?;
                owner.map(|owner| (owner, old))
            }
            None => None,
        };
        let mut transaction = app.pool.begin().await?;
        if let Some((owner, _)) = &replaced {
            let ids = [Some(*owner), begin.user_id];
            users::lock(&mut transaction, &ids.into_iter().flatten().collect::<Vec<_>>()).await?;
        }
        let user = account(&mut transaction).await?;
        let new = NewSession {
            record_id: &id.record_id(),
            user_id: user.id,
            transport: begin.transport,
            remember: begin.remember,
            idle: idle(app, begin.remember),
            lifetime,
            fresh_for: app.config.fresh_for,
            client: begin.client,
        };
        let session = sessions::insert(&mut transaction, &new).await?;
        if let Some((_, old)) = &replaced {
            sessions::delete(&mut transaction, old).await?;
        }
        transaction.commit().await?;
        Ok((user, session))
    };
    match begun.await {
        Ok((user, session)) => Ok(Begun { user, session, id }),
        Err(error) => {
            app.records.discard(&id).await;
            Err(error)
        }
    }
}

/// Gives a session a new secret and makes it fresh, because the password was given again. The old
/// secret is dead from then on.
///
/// # Errors
/// `SessionExpired` when the session ended, or the account's password changed, meanwhile; and
/// those of the database.
pub async fn renew(
    app: &App,
    live: Live,
    old: &SessionId,
    verified: &Credentials,
    client: &Client,
) -> Result<Begun> {
    let id = app.records.create_until(live.ends_at).await?;
    let renewed = async {
        let mut transaction = app.pool.begin().await?;
        if !users::lock_verified(&mut transaction, verified).await? {
            return Err(Error::SessionExpired);
        }
        let secrets = Renewal { id: live.session.id, old: &old.record_id(), new: &id.record_id() };
        let fresh_for = app.config.fresh_for;
        let session = sessions::renew(&mut transaction, &secrets, client, fresh_for).await?;
        let session = session.ok_or(Error::SessionExpired)?;
        transaction.commit().await?;
        Ok(session)
    };
    match renewed.await {
        Ok(session) => Ok(Begun { user: live.user, session, id }),
        Err(error) => {
            app.records.discard(&id).await;
            Err(error)
        }
    }
}

/// Ends the session that a secret names, if there is one.
///
/// # Errors
/// Those of the database.
pub async fn end(app: &App, id: &SessionId, transport: Transport) -> Result<()> {
    let record_id = id.record_id();
    let Some(owner) = sessions::find_owner(&app.pool, &record_id, transport).await? else {
        return Ok(());
    };
    let mut transaction = app.pool.begin().await?;
    users::lock(&mut transaction, &[owner]).await?;
    sessions::delete(&mut transaction, &record_id).await?;
    Ok(transaction.commit().await?)
}

/// The session that a secret opens, with its account; one query, and now and then a second one
/// that writes down that the session is in use.
///
/// # Errors
/// `SessionExpired` when none stands, and those of the database.
pub async fn find(app: &App, id: &SessionId, transport: Transport) -> Result<Live> {
    let idle = app.config.session_idle;
    // A session with a very short idle time must be kept up more often than once a minute.
    let touch_after = TOUCH_AFTER.min(idle / 4);
    let (record_id, fresh_for) = (id.record_id(), app.config.fresh_for);
    let live = sessions::find_live(&app.pool, &record_id, transport, fresh_for, touch_after);
    let live = live.await?.ok_or(Error::SessionExpired)?;
    if live.touch_due {
        let idle = self::idle(app, live.session.remember);
        if let Err(error) = sessions::touch(&app.pool, live.session.id, idle, touch_after).await {
            // The session stands; what is lost is a minute of its idle time.
            tracing::warn!(%error, "the use of a session was not written down");
        }
    }
    Ok(live)
}

/// How long a session stands unused: a remembered one, until its end.
fn idle(app: &App, remember: bool) -> Option<Duration> {
    (!remember).then_some(app.config.session_idle)
}
