//! Limits on guessing, kept in PostgreSQL so that all replicas share them (ASVS 6.3.1).
//!
//! An attempt is taken before the password is checked, and given back if it was correct, so that
//! concurrent attempts get no further than consecutive ones. Each name has a limit, whether or not an
//! account has it. Each client that has logged in to the account before has its own, so that strangers
//! who guess do not lock the owner out.
//!
//! A correct password resets only the limit of a known device. A stranger's gives back the one attempt
//! that it took: otherwise each login of the owner would allow strangers more guesses, and show them
//! that the account exists.

mod buckets;
mod mails;

use std::time::Duration;

use secrecy::SecretString;
use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, PgExecutor, Postgres};
use uuid::Uuid;

pub use self::buckets::PasswordUse;
pub use self::mails::{count_mail, may_tell};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::names::{self, Identifier};
use crate::password::{Hasher, Place, Verdict};
use crate::rate_limit::RateLimit;
use crate::session::CurrentSession;
use crate::state::App;
use crate::store::known_devices;
use crate::store::throttles::{self, Bucket, Taken};
use crate::store::users::{Credentials, User};

/// An attempt at a password or a mailed code, taken from its limits.
#[derive(Debug)]
pub struct Attempt<'a> {
    app: &'a App,
    /// The buckets that gave an attempt; none where limits are off.
    taken: Vec<Bucket>,
    /// Whether they are a known device's own.
    is_known: bool,
    /// Whether it is the last attempt for a while of strangers at a name, or of sessions at their
    /// account. The owner is notified if it fails.
    pub is_last: bool,
    /// What is left of the limit that will be used up first; none where limits are off.
    pub left: Option<RateLimit>,
}

impl<'a> Attempt<'a> {
    /// An attempt to log in by a name, whether or not an account has it.
    ///
    /// # Errors
    /// `RateLimited`, and those of the database: if the limits cannot be read, nobody gets past them.
    pub async fn to_log_in(app: &'a App, client: &Client, identifier: &Identifier) -> Result<Self> {
        match known(&app.pool, client, identifier).await? {
            Some(known) => {
                Self::take(app, vec![buckets::device(&app.config, known.key)], true).await
            }
            None => {
                let name = vec![buckets::name(&app.config, identifier)];
                Self::take(app, with_networks(app, client, name), false).await
            }
        }
    }

    /// An attempt of a logged-in user to confirm the password. Limited per session and per account.
    ///
    /// # Errors
    /// `RateLimited`, and those of the database: if the limits cannot be read, nobody gets past them.
    pub async fn to_confirm(app: &'a App, current: &CurrentSession) -> Result<Self> {
        let (user, session) = (&current.live.user, &current.live.session);
        let names = names_of(user);
        let buckets = buckets::confirmation(&app.config, session.id, user.id, names);
        Self::take(app, buckets, false).await
    }

    /// An attempt at a code that is mailed to an address, whether or not one was. A code that is bound to a request
    /// for it has a limit for each request: strangers who guess do not use up the owner's.
    ///
    /// # Errors
    /// `RateLimited`, and those of the database: if the limits cannot be read, nobody gets past them.
    pub async fn to_redeem(
        app: &'a App,
        client: &Client,
        purpose: &str,
        email: &str,
        requests: &[Vec<u8>],
    ) -> Result<Self> {
        match known(&app.pool, client, &Identifier::email(email)).await? {
            Some(known) => {
                let device = buckets::device_code(&app.config, purpose, &known.key);
                Self::take(app, vec![device], true).await
            }
            None => {
                let codes = buckets::codes(&app.config, purpose, email, requests);
                Self::take(app, with_networks(app, client, codes), false).await
            }
        }
    }

    async fn take(app: &'a App, buckets: Vec<Bucket>, is_known: bool) -> Result<Self> {
        if !app.config.throttle.is_on() {
            return Ok(Self { app, taken: vec![], is_known, is_last: false, left: None });
        }
        let results = take(app, &mut *acquire(app).await?, &buckets).await?;
        let reports = [buckets::ACCOUNT, buckets::SESSION, buckets::REAUTHENTICATION];
        let is_last = buckets
            .iter()
            .zip(&results)
            .any(|(bucket, result)| result.was_last && reports.contains(&bucket.policy));
        let refusing = buckets.iter().zip(&results).filter(|(bucket, _)| bucket.refuses);
        let left = refusing.map(|(bucket, taken)| left(bucket, taken)).min_by_key(|it| it.left);
        let taken = buckets.into_iter().zip(results);
        let taken = taken.filter(|(_, result)| result.taken).map(|(bucket, _)| bucket).collect();
        Ok(Self { app, taken, is_known, is_last, left })
    }

    /// Checks the password with the client's hasher. Only a wrong password counts.
    ///
    /// A correct one has a rate of its own, read only after the check, so that it tells strangers
    /// nothing. Beyond that rate the attempt counts as a wrong one. The limits that refuse before the
    /// check then end what a flood of correct passwords costs, as they would for a name without account.
    ///
    /// # Errors
    /// `Busy`, `RateLimited`, and those of the database.
    pub async fn verify(
        self,
        (hasher, place): (&Hasher, Place),
        password: &SecretString,
        found: Option<&Credentials>,
        used: PasswordUse,
    ) -> Result<Verdict> {
        let verdict = hasher.verify(place, password, found.map(Credentials::hash)).await;
        match (&verdict, found) {
            (Ok(Verdict::Right { .. }), Some(found)) => {
                let device = self.taken.first().filter(|_| self.is_known);
                let device = device.map(|bucket| bucket.key.as_slice());
                let correct = used.bucket(&self.app.config, found.user_id, device);
                self.succeed_within(correct).await?;
            }
            (Err(_), _) => self.give_back().await?,
            (Ok(_), _) => {}
        }
        verdict
    }

    /// Ends a successful attempt: resets a known device's own limit, and gives others the attempt back.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn succeed(self) -> Result<()> {
        self.give_back_attempts(self.is_known).await
    }

    /// Ends a successful attempt as [`Attempt::succeed`] does, if the bucket of correct ones allows it.
    async fn succeed_within(self, correct: Bucket) -> Result<()> {
        if !self.app.config.throttle.is_on() {
            return Ok(());
        }
        let connection = &mut *acquire(self.app).await?;
        let exchanged = throttles::exchange(connection, &correct, &self.taken, self.is_known);
        let exchanged = exchanged.await?;
        if exchanged.taken { Ok(()) } else { Err(refuse(self.app, &correct, exchanged.wait)) }
    }

    /// Gives the attempt back: nothing was checked, or the answer was correct.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn give_back(self) -> Result<()> {
        self.give_back_attempts(false).await
    }

    async fn give_back_attempts(&self, all: bool) -> Result<()> {
        if self.taken.is_empty() {
            return Ok(());
        }
        Ok(throttles::give_back(&self.app.pool, &self.taken, all).await?)
    }
}

/// A client that an account recognises.
struct KnownDevice {
    /// The key of its own limits.
    key: Vec<u8>,
    /// Whether the account's address is known to be that of the person who chose the password.
    owns_email: bool,
}

/// The client's own limit on logging in by a name, if an account of that name knows the
/// client. The query depends on the client alone, so that its time tells nothing about the name.
async fn known(
    db: impl PgExecutor<'_>,
    client: &Client,
    identifier: &Identifier,
) -> Result<Option<KnownDevice>> {
    let hashes = client.device_hashes();
    if hashes.is_empty() {
        return Ok(None);
    }
    let accounts = known_devices::find_accounts(db, &hashes).await?;
    let known = accounts.iter().find(|account| {
        let mut names = names::identifiers(account.username.as_deref(), account.email.as_deref());
        names.any(|name| name == *identifier)
    });
    Ok(known.map(|account| KnownDevice {
        key: buckets::device_key(account.user_id, &account.hash),
        owns_email: account.owns_email,
    }))
}

/// Counts a claimed username or address. The answer shows whether it is taken, so this is a way to
/// enumerate accounts.
///
/// # Errors
/// `RateLimited`, and those of the database: if the limits cannot be read, nobody gets past them.
pub async fn count_name(app: &App, client: &Client) -> Result<()> {
    let rate = app.config.throttle_registration;
    let networks = buckets::networks(client, &buckets::CLAIMED, rate);
    if networks.is_empty() || !app.config.throttle.is_on() {
        return Ok(());
    }
    take(app, &mut *acquire(app).await?, &networks).await.map(drop)
}

/// Takes one change that an account makes to itself from its limit. It is never given back, so that a change that fails
/// counts as well. Call it before the transaction of the change, whose rollback would give it back.
///
/// # Errors
/// `RateLimited`, and those of the database.
pub async fn count_write(app: &App, user_id: Uuid) -> Result<()> {
    if !app.config.throttle.is_on() {
        return Ok(());
    }
    let writes = buckets::writes(&app.config, user_id);
    take(app, &mut *acquire(app).await?, &[writes]).await.map(drop)
}

/// Resets the limits on logging in by the names of an account: its owner has proved the address, or an
/// admin has set a new password, and strangers' guesses at the old one must not lock the owner out.
///
/// # Errors
/// Those of the database.
pub async fn reset_names(connection: &mut PgConnection, user: &User) -> sqlx::Result<()> {
    let keys: Vec<_> = names_of(user).map(|name| buckets::name_key(&name)).collect();
    throttles::clear(connection, &keys).await
}

fn names_of(user: &User) -> impl Iterator<Item = Identifier> {
    names::identifiers(user.username.as_deref(), user.email.as_deref())
}

/// Buckets for unknown clients, and those of the client's networks.
fn with_networks(app: &App, client: &Client, own: Vec<Bucket>) -> Vec<Bucket> {
    let networks = buckets::networks(client, &buckets::WRONG, app.config.throttle_network);
    own.into_iter().chain(networks).collect()
}

async fn acquire(app: &App) -> Result<PoolConnection<Postgres>> {
    Ok(app.pool.acquire().await?)
}

/// Takes one attempt from each bucket, or none.
async fn take(app: &App, connection: &mut PgConnection, buckets: &[Bucket]) -> Result<Vec<Taken>> {
    let results = throttles::take(&mut *connection, buckets).await?;
    let both = || buckets.iter().zip(&results);
    let refused = both().filter(|(bucket, result)| bucket.refuses && !result.taken);
    let Some((empty, result)) = refused.max_by_key(|(_, result)| result.wait) else {
        return Ok(results);
    };
    // Concurrent attempts emptied this bucket at the same moment.
    let others: Vec<_> =
        both().filter(|(_, result)| result.taken).map(|(bucket, _)| bucket.clone()).collect();
    if !others.is_empty() {
        throttles::give_back(connection, &others, false).await?;
    }
    Err(refuse(app, empty, result.wait))
}

/// What a bucket has left.
fn left(bucket: &Bucket, taken: &Taken) -> RateLimit {
    RateLimit {
        policy: bucket.policy,
        rate: bucket.rate,
        left: u32::try_from(taken.left).unwrap_or_default(),
        wait: Duration::from_secs(u64::try_from(taken.more).unwrap_or_default()),
    }
}

/// The error for an empty bucket, which is counted and logged.
fn refuse(app: &App, empty: &Bucket, wait: i64) -> Error {
    let (policy, rate) = (empty.policy, empty.rate);
    // Concurrent attempts that emptied it at this very moment are not part of the wait.
    let wait = u64::try_from(wait).ok().filter(|wait| *wait > 0);
    let wait = wait.map_or(rate.interval, Duration::from_secs).max(Duration::from_secs(1));
    app.metrics.count_throttled(policy);
    tracing::info!(event = "rate_limited", policy, wait = wait.as_secs());
    Error::RateLimited(RateLimit { policy, rate, left: 0, wait })
}
