//! What happens to a session with every request that is made with it.

use std::time::Duration;

use serde_json::json;

use super::CurrentSession;
use super::cookie::MOST;
use super::records::{SLACK, SessionId};
use crate::audit::{Event, Kind};
use crate::client::Client;
use crate::config::{Config, SessionProtection};
use crate::error::{Error, Result};
use crate::state::App;
use crate::store;
use crate::store::sessions::{self, Live, Owned, Touch, Transport, Use, Wanted};
use crate::store::users;

/// A use of a session is written down at most this often.
const TOUCH_AFTER: Duration = Duration::from_secs(60);

/// What use does to sessions, by these settings.
pub(crate) fn by_use(config: &Config) -> Use {
    Use {
        fresh_for: config.fresh_for,
        idle: config.session_idle,
        remember_max: config.remember_limit(),
        record_slack: SLACK,
        // A session with a very short idle time must be kept up more often than once a minute.
        touch_after: TOUCH_AFTER.min(config.session_idle / 4),
    }
}

/// The session that a secret opens, with its account; one query, which may be that of others, too.
///
/// # Errors
/// `SessionExpired` when none stands, and those of the database.
pub async fn find(
    app: &App,
    id: &SessionId,
    transport: Transport,
    client: &Client,
) -> Result<Live> {
    let live = look_up(app, id, transport, client).await?.ok_or(Error::SessionExpired)?;
    take_use(app, live, id, client).await
}

/// The session of the only valid one of several cookies. This admits nobody who could not set a single cookie. Two
/// valid ones may be of two accounts, one of them an attacker's.
///
/// # Errors
/// `SessionExpired` if none or more than one is valid, and those of the database.
pub async fn find_only(app: &App, ids: &[SessionId], client: &Client) -> Result<CurrentSession> {
    let mut valid = Vec::new();
    // More are an attack.
    for id in ids.iter().filter(|_| ids.len() <= MOST) {
        if let Some(live) = look_up(app, id, Transport::Cookie, client).await? {
            valid.push(CurrentSession { live, id: *id });
        }
    }
    let (cookie, count) = (app.cookies.name(), valid.len());
    match (valid.pop(), count) {
        (Some(current), 1) => {
            tracing::warn!(
                event = "several_cookies",
                cookie,
                valid = count,
                "the browser sent several session cookies, of which the only valid one counts"
            );
            let live = take_use(app, current.live, &current.id, client).await?;
            Ok(CurrentSession { live, id: current.id })
        }
        _ => {
            tracing::warn!(
                event = "several_cookies",
                cookie,
                valid = count,
                "the browser sent several session cookies, and not exactly one is valid: the next login or logout \
                 removes this service's own"
            );
            Err(Error::SessionExpired)
        }
    }
}

/// The session that a secret opens. Nothing is changed.
async fn look_up(
    app: &App,
    id: &SessionId,
    transport: Transport,
    client: &Client,
) -> Result<Option<Live>> {
    let wanted = Wanted {
        record_id: id.record_id(),
        transport,
        compare: compares(app, client),
        user_agent: client.user_agent.clone(),
        network: client.network(),
    };
    app.lookups.find_session(wanted).await
}

fn compares(app: &App, client: &Client) -> bool {
    app.config.session_protection != SessionProtection::Off && !client.is_backend
}

/// Protects the session from another client than the one that gave the password, and records its use.
async fn take_use(app: &App, mut live: Live, id: &SessionId, client: &Client) -> Result<Live> {
    let (protection, record_id) = (app.config.session_protection, id.record_id());
    if live.differs {
        if protection == SessionProtection::Strong && !live.session.remember {
            // The session is another client's since the renewal.
            if live.is_renewed {
                return Err(Error::SessionExpired);
            }
            end_for_protection(app, &live, &record_id, client).await?;
            return Err(Error::SessionExpired);
        }
        make_stale(app, &mut live, &record_id, client).await?;
    }
    if live.touch_due {
        app.touches.add_session(Touch {
            id: live.session.id,
            record_id,
            last_seen_at: live.session.last_seen_at,
            expires_at: live.session.expires_at,
            ends_at: live.ends_at,
            network: client.network().filter(|_| compares(app, client) && !live.differs),
        });
    }
    Ok(live)
}

/// Makes the session not fresh, for good: going back to the first client undoes nothing.
async fn make_stale(app: &App, live: &mut Live, record_id: &str, client: &Client) -> Result<()> {
    live.is_fresh = false;
    if live.is_protected || live.is_renewed {
        return Ok(());
    }
    let mut transaction = store::begin(&app.pool).await?;
    let protected = sessions::protect(&mut transaction, live.session.id, record_id).await?;
    let protected = protected.ok_or(Error::SessionExpired)?;
    if protected.is_first {
        event(live, client, "not_fresh").record(&mut *transaction).await?;
    }
    transaction.commit().await?;
    live.session.fresh_until = live.session.fresh_until.min(protected.at);
    Ok(())
}

async fn end_for_protection(
    app: &App,
    live: &Live,
    record_id: &str,
    client: &Client,
) -> Result<()> {
    let owned = Owned { id: live.session.id, user_id: live.user.id };
    let mut transaction = store::begin(&app.pool).await?;
    users::lock(&mut transaction, &[owned.user_id]).await?;
    // One that was renewed since is another client's by now.
    if sessions::delete_current(&mut transaction, owned, record_id).await? {
        event(live, client, "ended").record(&mut *transaction).await?;
    }
    Ok(transaction.commit().await?)
}

fn event<'a>(live: &Live, client: &'a Client, effect: &str) -> Event<'a> {
    let event = Event::new(Kind::SessionProtected, client).to(live.user.id);
    event.session(live.session.id).details(json!({"effect": effect}))
}
