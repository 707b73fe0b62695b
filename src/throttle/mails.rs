//! Limits on mails.

use std::time::Duration;

use sqlx::PgConnection;

use super::{buckets, known, take};
use crate::client::Client;
use crate::config::{Config, Rate};
use crate::error::Result;
use crate::names::Identifier;
use crate::state::App;
use crate::store::outbox::MailKind;
use crate::store::throttles;

/// How often an owner is notified that strangers have exhausted the limit on a name.
const LOCK_NOTICES: Rate = Rate { burst: 1, interval: Duration::from_secs(24 * 60 * 60) };

/// Counts a requested mail in the transaction that queues it, so that one that is not queued does not
/// count. Each address has a limit for each kind of mail, whether or not an account has it. A device that its account
/// knows has its own, once the owner has proved the address.
///
/// # Errors
/// `RateLimited`, and those of the database.
pub async fn count_mail(
    connection: &mut PgConnection,
    app: &App,
    client: &Client,
    kind: MailKind,
    email: &str,
) -> Result<()> {
    let config = &app.config;
    if !config.throttle.is_on() {
        return Ok(());
    }
    let known = known(&mut *connection, client, &Identifier::email(email)).await?;
    // Somebody who registered with the address of another must not send it more mails from many devices.
    let buckets = match known.filter(|known| known.owns_email) {
        Some(known) => vec![buckets::device_mail(config, kind.as_str(), &known.key)],
        None => {
            let address = buckets::mail(config, kind.as_str(), email);
            let rate = config.throttle_mail_network;
            let networks = buckets::networks(client, &buckets::MAILED, rate);
            std::iter::once(address).chain(networks).collect()
        }
    };
    take(app, connection, &buckets).await.map(drop)
}

/// Takes an allowance to notify an owner of what others cause; `false` if none is left. `owner` names
/// the owner among all, also if there is no such account.
///
/// # Errors
/// Those of the database.
pub async fn may_tell(
    connection: &mut PgConnection,
    config: &Config,
    kind: MailKind,
    owner: &[u8],
) -> sqlx::Result<bool> {
    if !config.throttle.is_on() {
        return Ok(true);
    }
    let rate = match kind {
        MailKind::AccountLocked => LOCK_NOTICES,
        _ => config.throttle_mail,
    };
    let notice = buckets::notice(kind.as_str(), owner, rate);
    Ok(throttles::take(connection, &[notice]).await?.iter().all(|result| result.taken))
}
