//! Begins, renews, finds and revokes sessions. Only `records` knows tower-sessions.
//!
//! A session is a row in `sessions` (the authority) and a row in `session_records`, whose id is the hash of the
//! client's secret. Both must be unexpired. A record is created before the transaction that uses it begins.
//! Locks are taken in this order: users, sessions, session_records.

pub mod cookie;
mod find;
pub mod records;
pub(crate) mod trial;

use std::time::Duration;

use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

pub(crate) use self::find::by_use;
pub use self::find::{find, find_only};
use self::records::SessionId;

use crate::audit::{Event, Kind};
use crate::client::{Client, NewDevice};
use crate::error::{Error, Result};
use crate::state::App;
use crate::store::credentials::{self, Checked};
use crate::store::outbox::MailKind;
use crate::store::sessions::{self, Live, NewSession, Owned, Renewal, Session, Transport};
use crate::store::users::{self, User};
use crate::store::{self, known_devices, outbox, registrations};
use crate::{request_id, throttle};

/// What a session is to be like.
#[derive(Debug)]
pub struct Begin<'a> {
    /// Where it is made from.
    pub client: &'a Client,
    /// How the client will hold its secret.
    pub transport: Transport,
    /// How long it outlives the browser, if it does.
    pub remember: Option<Duration>,
    /// What opened the account, for the audit event.
    pub by: &'static str,
    /// The sessions that the request itself named: they are revoked.
    pub replaces: &'a [(SessionId, Transport)],
    /// The account, unless it is made in the same transaction.
    pub user_id: Option<Uuid>,
}

/// Somebody who is logged in, and the session that says so.
#[derive(Debug)]
pub struct CurrentSession {
    /// The session and its account.
    pub live: Live,
    /// The secret that the client gave.
    pub id: SessionId,
}

impl CurrentSession {
    /// What is checked again once the account is locked.
    #[must_use]
    pub fn checked(&self) -> Checked {
        Checked::Session { id: self.live.session.id, record_id: self.id.record_id() }
    }
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
    /// The secret by which the account will recognise the client; none when it does so already.
    pub device: Option<NewDevice>,
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
    let lifetime = begin.remember.unwrap_or(app.config.session_lifetime);
    let id = app.records.create(lifetime).await?;
    let begun = async {
        let mut replaced = Vec::new();
        for (old, transport) in begin.replaces {
            replaced.extend(sessions::find_owner(&app.pool, &old.record_id(), *transport).await?);
        }
        let mut transaction = store::begin(&app.pool).await?;
        if !replaced.is_empty() {
            let owners = replaced.iter().map(|replaced| replaced.user_id);
            let ids: Vec<_> = owners.chain(begin.user_id).collect();
            users::lock(&mut transaction, &ids).await?;
        }
        let user = account(&mut transaction).await?;
        let new = NewSession {
            record_id: &id.record_id(),
            user_id: user.id,
            transport: begin.transport,
            remember: begin.remember.is_some(),
            idle: begin.remember.is_none().then_some(app.config.session_idle),
            lifetime,
            fresh_for: app.config.fresh_for,
            client: begin.client,
        };
        let session = sessions::insert(&mut transaction, &new).await?;
        for replaced in replaced {
            end_owned(&mut transaction, replaced, begin.client).await?;
            let (user, devices) = (Some(replaced.user_id), begin.client.device_hashes());
            if !devices.is_empty() {
                known_devices::forget_unproven(&mut *transaction, user, Some(&devices)).await?;
            }
        }
        make_room(&mut transaction, app, &session, user.id, begin.client).await?;
        let logged_in =
            Event::new(Kind::LoggedIn, begin.client).by_own(user.id).session(session.id);
        let how = json!({
            "by": begin.by,
            "transport": session.transport,
            "remember": session.remember,
        });
        logged_in.details(how).record(&mut *transaction).await?;
        let device = remember(&mut transaction, app, user.id, begin.client).await?;
        transaction.commit().await?;
        Ok((user, session, device))
    };
    match begun.await {
        Ok((user, session, device)) => {
            request_id::name_caller(user.id, Some(session.id));
            Ok(Begun { user, session, id, device })
        }
        Err(error) => {
            app.records.discard(&id).await;
            Err(error)
        }
    }
}

/// How long after a renewal the old secret still finds the session: other tabs of the browser have requests in flight
/// with the old cookie.
const GRACE: Duration = Duration::from_secs(10);

/// What becomes of the old secret of a session that is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldSecret {
    /// It still finds the session for a few seconds, but never as recently authenticated.
    Expires,
    /// It is revoked at once.
    Revoked,
}

/// Gives a session a new secret and makes it recently authenticated, because the password was given again. `account`
/// runs first in its transaction, as in [`begin`].
///
/// # Errors
/// `SessionExpired` when the session was revoked meanwhile, `SessionRenewed` when another request renewed it, those of
/// `account`, and those of the database.
pub async fn renew(
    app: &App,
    current: &CurrentSession,
    client: &Client,
    old_secret: OldSecret,
    account: impl AsyncFnOnce(&mut PgConnection) -> Result<User>,
) -> Result<Begun> {
    let id = app.records.create_until(current.live.ends_at).await?;
    let renewed = async {
        let mut transaction = store::begin(&app.pool).await?;
        let user = account(&mut transaction).await?;
        let renewal = Renewal {
            id: current.live.session.id,
            old: &current.id.record_id(),
            grace: (old_secret == OldSecret::Expires).then_some(GRACE),
            new: &id.record_id(),
            idle: (!current.live.session.remember).then_some(app.config.session_idle),
            ends_at: current.live.ends_at,
        };
        let session =
            sessions::renew(&mut transaction, &renewal, client, app.config.fresh_for).await?;
        let Some(session) = session else {
            let checked = current.checked();
            return match credentials::is_valid(&mut *transaction, user.id, &checked).await? {
                true => Err(Error::SessionRenewed),
                false => Err(Error::SessionExpired),
            };
        };
        let confirmed = Event::new(Kind::LoginConfirmed, client).by_own(user.id);
        confirmed.session(session.id).record(&mut *transaction).await?;
        let device = remember(&mut transaction, app, user.id, client).await?;
        transaction.commit().await?;
        Ok((user, session, device))
    };
    match renewed.await {
        Ok((user, session, device)) => Ok(Begun { user, session, id, device }),
        Err(error) => {
            app.records.discard(&id).await;
            Err(error)
        }
    }
}

/// Makes the client known to an account whose row is locked, tells its owner if it was not, and returns
/// the secret by which it will be if it has none.
async fn remember(
    connection: &mut PgConnection,
    app: &App,
    user_id: Uuid,
    client: &Client,
) -> sqlx::Result<Option<NewDevice>> {
    let (given, new) = (client.device_hashes(), client.new_device());
    let hash = new.secret.hash();
    let remembered = known_devices::remember(connection, user_id, &given, &hash).await?;
    if remembered.is_stranger
        && throttle::may_tell(connection, &app.config, MailKind::NewDevice, user_id.as_bytes())
            .await?
    {
        let details = json!({"device": client.device(), "ip": client.ip});
        outbox::insert_to_owner(connection, Some(user_id), MailKind::NewDevice, &details).await?;
    }
    Ok(Some(new).filter(|_| remembered.is_given))
}

/// Sessions that one login revokes at most. The sweep revokes the others, if the limit was lowered.
const REVOKED_AT_ONCE: i64 = 100;

/// Revokes the sessions unused longest of an account that has more than it may have with a new one. The account's row is
/// locked.
async fn make_room(
    connection: &mut PgConnection,
    app: &App,
    new: &Session,
    user_id: Uuid,
    client: &Client,
) -> Result<()> {
    let limit = app.config.sessions_per_user;
    let revoked = sessions::delete_beyond(
        &mut *connection,
        user_id,
        Some(new.id),
        limit.into(),
        REVOKED_AT_ONCE,
    );
    let revoked = revoked.await?;
    if revoked > 0 {
        let event = Event::new(Kind::SessionRevoked, client).by_own(user_id);
        let details = json!({"sessions": revoked, "limit": limit});
        event.details(details).record(connection).await?;
    }
    Ok(())
}

/// Ends the session that a secret names, if there is one: a logout.
///
/// # Errors
/// Those of the database.
pub async fn end(app: &App, id: &SessionId, transport: Transport, client: &Client) -> Result<()> {
    let found = sessions::find_owner(&app.pool, &id.record_id(), transport).await?;
    let Some(owned) = found else { return Ok(()) };
    let mut transaction = store::begin(&app.pool).await?;
    users::lock(&mut transaction, &[owned.user_id]).await?;
    end_owned(&mut transaction, owned, client).await?;
    Ok(transaction.commit().await?)
}

/// Forgets a client that logs out for all accounts whose address is not proven: the next person in a shared browser must
/// not pass for the one who chose the password. There need not be a session: some registrations begin none.
///
/// # Errors
/// Those of the database.
pub async fn forget_unproven(app: &App, client: &Client) -> Result<()> {
    let devices = client.device_hashes();
    if devices.is_empty() {
        return Ok(());
    }
    known_devices::forget_unproven(&app.pool, None, Some(&devices)).await?;
    if app.config.registration_privacy.is_on() {
        registrations::forget_client(&app.pool, &devices).await?;
    }
    Ok(())
}

/// Ends a session of an account whose row is locked, as a logout does.
async fn end_owned(connection: &mut PgConnection, owned: Owned, client: &Client) -> Result<()> {
    if sessions::delete(&mut *connection, owned).await? {
        let logged_out = Event::new(Kind::LoggedOut, client).by_own(owned.user_id);
        logged_out.session(owned.id).record(connection).await?;
    }
    Ok(())
}
