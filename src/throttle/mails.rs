//! Limits on mails.

use std::time::Duration;

use sqlx::PgConnection;

use super::{key, network, take};
use crate::client::Client;
use crate::config::{Config, Rate};
use crate::error::Result;
use crate::state::App;
use crate::store::outbox::MailKind;
use crate::store::throttles::{self, Bucket};

/// How often an owner is told that strangers have used up the limit on a name, however long they go on.
const LOCK_NOTICES: Rate = Rate { burst: 1, interval: Duration::from_secs(24 * 60 * 60) };

/// Counts a mail that somebody asks for, whoever they are, in the transaction in which it is queued: one
/// that is not does not count. Each address has a limit for each kind of mail, whether or not an account
/// has it.
///
/// # Errors
/// `RateLimited`; `DatabaseUnavailable` when the limit cannot be asked.
pub async fn count_mail(
    connection: &mut PgConnection,
    app: &App,
    client: &Client,
    kind: MailKind,
    email: &str,
) -> Result<()> {
    if !app.config.throttle.is_on() {
        return Ok(());
    }
    let own = Bucket {
        key: key("mail", &[kind.as_str().as_bytes(), email.as_bytes()]),
        rate: app.config.throttle_mail,
    };
    let network = network(client).map(|network| Bucket {
        key: key("mail network", &[network.as_bytes()]),
        rate: app.config.throttle_mail_network,
    });
    take(app, connection, "mail", &own, network.as_ref()).await.map(drop)
}

/// Whether somebody may be told once more of what others bring about. `whom` names them among all who
/// are told of it, or would be if they had an account.
///
/// # Errors
/// Those of the database.
pub async fn may_tell(
    connection: &mut PgConnection,
    config: &Config,
    kind: MailKind,
    whom: &[u8],
) -> sqlx::Result<bool> {
    let rate = match kind {
        MailKind::AccountLocked => LOCK_NOTICES,
        _ => config.throttle_mail,
    };
    let bucket = Bucket { key: key("notice", &[kind.as_str().as_bytes(), whom]), rate };
    Ok(!config.throttle.is_on() || throttles::take(connection, &bucket, None).await?.own)
}
