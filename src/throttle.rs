//! Limits on guessing, kept in PostgreSQL so that all replicas share them (ASVS 6.3.1).
//!
//! A try is counted before the password is looked at and given back when it was right, so that many
//! at once get no further than one after the other. Each name has a limit of its own, whether or not
//! an account has it, and so does each client that has logged in to the account before: a stranger
//! who guesses does not lock its owner out.

mod mails;

use std::time::Duration;

use secrecy::SecretString;
use sha2::{Digest as _, Sha256};
use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, Postgres};
use uuid::Uuid;

pub use self::mails::{count_mail, may_tell};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::names::{self, Identifier};
use crate::password::{Hasher, Verdict};
use crate::rate_limit::RateLimit;
use crate::state::App;
use crate::store::known_devices;
use crate::store::throttles::{self, Bucket};
use crate::store::users::Credentials;

/// The limit on a name, for strangers.
const ACCOUNT: &str = "account";

/// What a right password does to the limit that its try was counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Success {
    /// Makes it whole again: a login.
    Clears,
    /// Gives the one try back: a program that sends its password with every request would otherwise
    /// give strangers all of theirs with each.
    GivesBack,
}

/// One try at a password.
#[derive(Debug)]
pub struct Attempt<'a> {
    app: &'a App,
    /// None where there are no limits.
    own: Option<Bucket>,
    network: Option<Bucket>,
    success: Success,
    /// Whether it is the last one that strangers have at the name, for a while.
    pub is_last: bool,
}

impl<'a> Attempt<'a> {
    /// A try to log in by a name, whether or not there is such an account.
    ///
    /// # Errors
    /// `RateLimited`; `DatabaseUnavailable` when the limit cannot be asked.
    pub async fn to_log_in(
        app: &'a App,
        client: &Client,
        identifier: &Identifier,
        success: Success,
    ) -> Result<Self> {
        match known(app, client, identifier).await? {
            Some(key) => Self::begin(app, "device", key, None, success).await,
            None => {
                let network = wrong_from(app, client);
                Self::begin(app, ACCOUNT, account(identifier), network, success).await
            }
        }
    }

    /// A try of somebody who is logged in to give the password again. The session has a limit of its
    /// own, so that nobody else can use it up.
    ///
    /// # Errors
    /// `RateLimited`; `DatabaseUnavailable` when the limit cannot be asked.
    pub async fn to_confirm(app: &'a App, session_id: Uuid) -> Result<Self> {
        let key = key("session", &[session_id.as_bytes()]);
        Self::begin(app, "session", key, None, Success::Clears).await
    }

    /// A try at a code that was mailed to an address, whether or not one was.
    ///
    /// # Errors
    /// `RateLimited`; `DatabaseUnavailable` when the limit cannot be asked.
    pub async fn to_redeem(
        app: &'a App,
        client: &Client,
        purpose: &str,
        email: &str,
    ) -> Result<Self> {
        let (purpose, identifier) = (purpose.as_bytes(), Identifier::email(email));
        // As with passwords: a client that the account knows is not kept out by strangers.
        match known(app, client, &identifier).await? {
            Some(device) => {
                let key = key("device code", &[purpose, &device]);
                Self::begin(app, "device", key, None, Success::Clears).await
            }
            None => {
                let key = key("code", &[purpose, email.as_bytes()]);
                Self::begin(app, "code", key, wrong_from(app, client), Success::Clears).await
            }
        }
    }

    async fn begin(
        app: &'a App,
        policy: &'static str,
        key: Vec<u8>,
        network: Option<Bucket>,
        success: Success,
    ) -> Result<Self> {
        if !app.config.throttle.is_on() {
            return Ok(Self { app, own: None, network: None, success, is_last: false });
        }
        let own = Bucket { key, rate: app.config.throttle_account };
        let taken = take(app, &mut *acquire(app).await?, policy, &own, network.as_ref()).await?;
        let is_last = taken && policy == ACCOUNT;
        Ok(Self { app, own: Some(own), network, success, is_last })
    }

    /// Looks at the password with the client's [`hasher`]. A try at which it was not looked at, or was right, does not count.
    ///
    /// # Errors
    /// `Busy`, and those of the database.
    pub async fn verify(
        self,
        hasher: &Hasher,
        password: &SecretString,
        found: Option<&Credentials>,
    ) -> Result<Verdict> {
        let verdict = hasher.verify(password, found.map(Credentials::hash)).await;
        match &verdict {
            Ok(Verdict::Wrong) => {}
            Ok(Verdict::Right { .. }) if self.success == Success::Clears => self.clear().await?,
            Ok(Verdict::Right { .. }) | Err(_) => self.give_back().await?,
        }
        verdict
    }

    /// Makes the limit whole again that this try was counted for, and no other: a stranger who has used
    /// up a name's would else see by it that the owner has logged in, and so is there.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn clear(self) -> Result<()> {
        let Some(own) = self.own else { return Ok(()) };
        Ok(throttles::clear(&self.app.pool, &[own.key], self.network.as_ref()).await?)
    }

    /// Undoes the counting: it was no try.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn give_back(self) -> Result<()> {
        for bucket in self.own.iter().chain(&self.network) {
            throttles::give_back(&self.app.pool, bucket).await?;
        }
        Ok(())
    }
}

/// The key of the client's own limit on logging in by a name, if an account of that name knows the
/// client. What is asked of the database goes by the client alone, so that its time tells nothing.
async fn known(app: &App, client: &Client, identifier: &Identifier) -> Result<Option<Vec<u8>>> {
    let hashes = client.device_hashes();
    if hashes.is_empty() {
        return Ok(None);
    }
    let accounts = known_devices::find_accounts(&app.pool, &hashes).await?;
    let known = accounts.iter().find(|account| {
        let mut names = names::identifiers(account.username.as_deref(), account.email.as_deref());
        names.any(|name| name == *identifier)
    });
    Ok(known.map(|account| key("device", &[account.user_id.as_bytes(), &account.hash])))
}

/// The hasher for what a client gives: its network has no more than its share.
pub fn hasher(app: &App, client: &Client) -> Hasher {
    app.hasher.share_of(network(client).filter(|_| app.config.throttle.is_on()))
}

/// Counts somebody who takes a name: one that is taken is told, so this is a way to ask for names.
///
/// # Errors
/// `RateLimited`; `DatabaseUnavailable` when the limit cannot be asked.
pub async fn count_name(app: &App, client: &Client) -> Result<()> {
    let Some(network) = network(client).filter(|_| app.config.throttle.is_on()) else {
        return Ok(());
    };
    let key = key("registration", &[network.as_bytes()]);
    let bucket = Bucket { key, rate: app.config.throttle_registration };
    take(app, &mut *acquire(app).await?, "registration", &bucket, None).await.map(drop)
}

/// The keys of the limits on logging in by the names of an account.
pub fn account_keys(identifiers: impl Iterator<Item = Identifier>) -> Vec<Vec<u8>> {
    identifiers.map(|name| account(&name)).collect()
}

/// Whatever keeps the limit from being asked, nobody gets past it.
fn closed(error: sqlx::Error) -> Error {
    Error::DatabaseUnavailable(error.into())
}

async fn acquire(app: &App) -> Result<PoolConnection<Postgres>> {
    app.pool.acquire().await.map_err(closed)
}

/// Takes one try, and returns whether it was the last one.
async fn take(
    app: &App,
    connection: &mut PgConnection,
    policy: &'static str,
    own: &Bucket,
    network: Option<&Bucket>,
) -> Result<bool> {
    let taken = throttles::take(&mut *connection, own, network).await.map_err(closed)?;
    if taken.own && taken.network {
        return Ok(taken.was_last);
    }
    if taken.own {
        // Others took the network's last one at this very moment.
        throttles::give_back(connection, own).await.map_err(closed)?;
    }
    let by_network = network.filter(|_| taken.own || taken.network_wait > taken.own_wait);
    let (policy, rate, wait) = match by_network {
        Some(network) => ("network", network.rate, taken.network_wait),
        None => (policy, own.rate, taken.own_wait),
    };
    // When others took the last one at this very moment, the wait was reckoned without theirs.
    let wait = u64::try_from(wait).ok().filter(|wait| *wait > 0);
    let wait = wait.map_or(rate.interval, Duration::from_secs).max(Duration::from_secs(1));
    app.metrics.count_throttled(policy);
    tracing::info!(event = "rate_limited", policy, wait = wait.as_secs());
    Err(Error::RateLimited(RateLimit { policy, rate, wait }))
}

/// The limit on what goes wrong in a client's network.
fn wrong_from(app: &App, client: &Client) -> Option<Bucket> {
    let key = |network: String| key("network", &[network.as_bytes()]);
    network(client).map(|network| Bucket { key: key(network), rate: app.config.throttle_network })
}

/// What the limits of a client's surroundings go by; none for a backend of ours, which tries for many.
fn network(client: &Client) -> Option<String> {
    client.network().filter(|_| !client.is_backend)
}

fn account(identifier: &Identifier) -> Vec<u8> {
    match identifier {
        Identifier::Username(username) => key("username", &[username.as_bytes()]),
        Identifier::Email(email) => key("email", &[email.as_bytes()]),
    }
}

/// What is limited, hashed; each part with its length before it.
fn key(kind: &str, parts: &[&[u8]]) -> Vec<u8> {
    let mut digest = Sha256::new();
    for part in std::iter::once(kind.as_bytes()).chain(parts.iter().copied()) {
        digest.update(part.len().to_be_bytes());
        digest.update(part);
    }
    digest.finalize().to_vec()
}
