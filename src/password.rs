//! Passwords: the policy for new ones, and bcrypt off the async threads.

mod breached;
mod generate;
mod hash;
mod policy;
mod queue;
mod workers;

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use tracing::Instrument as _;
use unicode_normalization::UnicodeNormalization as _;

pub use self::generate::generate;
pub use self::hash::Unusable;
pub use self::queue::QueueKey;
pub use self::workers::Place;
use self::workers::Workers;
use crate::client::Client;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::metrics::Hashing;
use crate::problem::FieldError;
use crate::telemetry::TRACE;

/// Characters that a login looks at; a longer password is wrong, at the same cost.
const MAX_LOGIN_CHARS: usize = 1024;

/// What a hash of cost 0 would take on a usual machine, until ours is known.
const USUAL_HASH: Duration = Duration::from_micros(50);

/// bcrypt's cost for mailed codes. They stand for minutes, and 2^40 of these take a GPU a year.
const CODE_COST: u32 = 8;

/// What came of a password.
#[derive(Debug)]
pub enum Verdict {
    /// Not the password.
    Wrong,
    /// The password; `rehashed` is what to store from now on if the stored hash is of another
    /// scheme or cost than new ones.
    Right {
        /// The hash that is to take the place of the stored one.
        rehashed: Option<String>,
    },
}

/// Hashes and verifies, as many at once as there are cores.
#[derive(Clone, Debug)]
pub struct Hasher {
    cost: u32,
    min_length: usize,
    /// What the service is called: no password is made of that.
    own_names: [String; 2],
    workers: Workers,
    /// Whose turns its work takes.
    key: QueueKey,
}

/// A password that somebody wants to have.
#[derive(Clone, Debug)]
pub struct NewPassword<'a> {
    /// The field that it came in, for the fault.
    pub field: &'a str,
    /// The password.
    pub password: &'a SecretString,
    /// What the account is called.
    pub names: Vec<&'a str>,
}

impl Hasher {
    /// A hasher that makes hashes of the configured bcrypt cost.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        // A new password waits twice, to verify the old one and to hash: both within the request.
        let longest = config.password_queue_wait.min(config.request_timeout / 3);
        Self {
            cost: config.bcrypt_cost,
            min_length: config.password_min_length,
            own_names: ["portcullis".to_owned(), config.public_url.host().to_owned()],
            workers: Workers::start(USUAL_HASH * 2_u32.pow(config.bcrypt_cost), longest),
            key: QueueKey::default(),
        }
    }

    /// The same hasher for a client: it takes the turns of the client's network.
    #[must_use]
    pub fn for_client(&self, client: &Client) -> Self {
        Self { key: QueueKey::of(client), ..self.clone() }
    }

    /// What is counted of the hashing.
    #[must_use]
    pub fn metrics(&self) -> &Hashing {
        &self.workers.metrics
    }

    /// A place in line. Handlers take it before anything costly, and give it to the call that hashes.
    ///
    /// # Errors
    /// `Busy` at once when its turn cannot come within `PORTCULLIS_PASSWORD_QUEUE_WAIT`.
    pub async fn admit(&self) -> Result<Place> {
        self.workers.admit(&self.key).await
    }

    async fn run<T: Send + 'static>(
        &self,
        place: Place,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let span = tracing::info_span!(target: TRACE, "hash");
        self.workers.run(place, work).instrument(span).await
    }

    /// What is wrong with a new password at first sight; `None` when nothing.
    #[must_use]
    pub fn fault(&self, field: &str, password: &SecretString) -> Option<FieldError> {
        policy::fault(field, password, self.min_length)
    }

    /// The hash to store for a new password.
    ///
    /// # Errors
    /// `ValidationFailed` when the policy rejects it; `Busy`.
    pub async fn hash_new(&self, new: NewPassword<'_>) -> Result<String> {
        if let Some(fault) = self.fault(new.field, new.password) {
            return Err(Error::ValidationFailed(vec![fault]));
        }
        let place = self.admit().await?;
        self.hash_new_at(place, new).await
    }

    /// As [`Hasher::hash_new`], for a caller that has a place.
    ///
    /// # Errors
    /// As for [`Hasher::hash_new`].
    pub async fn hash_new_at(&self, place: Place, new: NewPassword<'_>) -> Result<String> {
        if let Some(fault) = self.fault(new.field, new.password) {
            return Err(Error::ValidationFailed(vec![fault]));
        }
        let (cost, field, password) = (self.cost, new.field.to_owned(), new.password.clone());
        let names = new.names.iter().map(|name| (*name).to_owned());
        let names: Vec<_> = names.chain(self.own_names.clone()).collect();
        let hash = move || match policy::estimate(&field, &password, &names) {
            Some(fault) => Err(Error::ValidationFailed(vec![fault])),
            None => hash::make(password.expose_secret(), cost).map_err(Error::internal),
        };
        self.run(place, hash).await?
    }

    /// The hash to store for a password that the service generated. It is random, so the policy is not asked: about one
    /// of 20,000 random passwords counts as leaked by chance.
    ///
    /// # Errors
    /// `Busy` when the turn does not come in time.
    pub async fn hash_generated(&self, password: &SecretString) -> Result<String> {
        let (place, cost, password) = (self.admit().await?, self.cost, password.clone());
        let hash = move || hash::make(password.expose_secret(), cost).map_err(Error::internal);
        self.run(place, hash).await?
    }

    /// The hash of a code that was mailed. Slow, since a code has 40 bits; always the same for one salt,
    /// since it is looked for by its hash.
    ///
    /// # Errors
    /// `Busy` when the turn does not come in time.
    pub async fn hash_code(&self, place: Place, salt: [u8; 16], code: &str) -> Result<Vec<u8>> {
        let (cost, code) = (self.cost.min(CODE_COST), SecretString::from(code));
        let hash = move || bcrypt::bcrypt(cost, salt, code.expose_secret().as_bytes()).to_vec();
        self.run(place, hash).await
    }

    /// Whether `password` is the one of the `stored` hash.
    ///
    /// No hash (an unknown account) is a wrong password and takes as long as one.
    ///
    /// # Errors
    /// `Busy` when the turn does not come in time.
    pub async fn verify(
        &self,
        place: Place,
        password: &SecretString,
        stored: Option<&str>,
    ) -> Result<Verdict> {
        let (cost, password, stored) = (self.cost, password.clone(), stored.map(str::to_owned));
        let judge = move || judge(password.expose_secret(), stored.as_deref(), cost);
        self.run(place, judge).await?
    }
}

/// Whether two passwords are the same to the hashes made here, which normalise them.
#[must_use]
pub fn is_same(one: &SecretString, other: &SecretString) -> bool {
    one.expose_secret().nfkc().eq(other.expose_secret().nfkc())
}

fn judge(password: &str, stored: Option<&str>, cost: u32) -> Result<Verdict> {
    let stored = stored.map(hash::Stored::parse).transpose().unwrap_or_else(|unusable| {
        tracing::error!("nobody can log in with a stored password hash: it {unusable}");
        None
    });
    let end = password.char_indices().nth(MAX_LOGIN_CHARS).map(|(end, _)| end);
    let Some(stored) = stored.filter(|_| end.is_none()) else {
        // All that a known account costs, with the work that the password's own form makes.
        let looked_at = &password[..end.unwrap_or(password.len())];
        let _ = std::hint::black_box(hash::make(looked_at, cost));
        return Ok(Verdict::Wrong);
    };
    if !stored.verify(password) {
        // A hash of a lower cost would tell by its speed that the account exists.
        // 2^a + 2^(a+1) + … + 2^(b-1) = 2^b - 2^a: together this costs what a new hash does.
        hash::spend(stored.cost()..=cost.saturating_sub(1));
        return Ok(Verdict::Wrong);
    }
    let rehashed = if stored.is_current(cost) {
        None
    } else {
        Some(hash::make(password, cost).map_err(Error::internal)?)
    };
    Ok(Verdict::Right { rehashed })
}

/// The form in which a hash of another service is stored.
///
/// `long_passwords` says that a plain bcrypt hash is one of Flask-Bcrypt with
/// `BCRYPT_HANDLE_LONG_PASSWORDS`.
///
/// # Errors
/// Why it cannot be verified here.
pub fn imported(hash: &str, long_passwords: bool) -> Result<String, Unusable> {
    hash::imported(hash, long_passwords)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_generated_password_that_counts_as_leaked_by_chance_is_hashed_all_the_same() {
        let hasher = Hasher::new(&Config { bcrypt_cost: 4, ..Config::defaults().unwrap() });
        // Its hash begins as that of a leaked password.
        let password = SecretString::from("example-8794-generated");
        assert!(breached::contains(password.expose_secret()));
        let new = NewPassword { field: "password", password: &password, names: vec![] };
        assert!(matches!(hasher.hash_new(new).await, Err(Error::ValidationFailed(_))));
        let hash = hasher.hash_generated(&password).await.unwrap();
        let place = hasher.admit().await.unwrap();
        let verdict = hasher.verify(place, &password, Some(&hash)).await.unwrap();
        assert!(matches!(verdict, Verdict::Right { rehashed: None }));
    }
}
