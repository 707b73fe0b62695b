//! Passwords: the policy for new ones, and bcrypt off the async threads.

mod hash;

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use unicode_normalization::UnicodeNormalization as _;

use crate::error::{Error, Result};
use crate::problem::FieldError;

/// Characters of a new password after NFKC (NIST SP 800-63B-4 §3.1.1.2, ASVS 6.2.1 and 6.2.9).
const MIN_CHARS: usize = 8;
const MAX_CHARS: usize = 128;
/// Characters that a login looks at; a longer password is wrong, at the same cost.
const MAX_LOGIN_CHARS: usize = 1024;
/// How long a login waits for its turn at a core.
const MAX_WAIT: Duration = Duration::from_secs(2);

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
    turns: Arc<Semaphore>,
}

impl Hasher {
    /// A hasher that makes hashes of this bcrypt cost (4 to 16).
    #[must_use]
    pub fn new(cost: u32) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { cost, turns: Arc::new(Semaphore::new(cores)) }
    }

    /// The hash to store for a new password.
    ///
    /// # Errors
    /// `Busy` when the cores are taken for too long.
    pub async fn hash(&self, password: &SecretString) -> Result<String> {
        let (cost, password) = (self.cost, password.clone());
        self.run(move || hash::make(password.expose_secret(), cost)).await?.map_err(Error::internal)
    }

    /// Whether `password` is the one of the `stored` hash.
    ///
    /// No hash (an unknown account) is a wrong password and takes as long as one.
    ///
    /// # Errors
    /// `Busy` when the cores are taken for too long.
    pub async fn verify(&self, password: &SecretString, stored: Option<&str>) -> Result<Verdict> {
        let (cost, password, stored) = (self.cost, password.clone(), stored.map(str::to_owned));
        self.run(move || judge(password.expose_secret(), stored.as_deref(), cost)).await?
    }

    /// Runs `work` on a blocking thread when its turn comes. A caller that goes away meanwhile
    /// leaves the turn taken until the work is done, so there are never more than there are cores.
    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let turn = match timeout(MAX_WAIT, Arc::clone(&self.turns).acquire_owned()).await {
            Ok(turn) => turn.map_err(Error::internal)?,
            Err(_) => return Err(Error::Busy),
        };
        let work = spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        work.await.map_err(Error::internal)
    }
}

fn judge(password: &str, stored: Option<&str>, cost: u32) -> Result<Verdict> {
    let stored = match stored.map(hash::Stored::parse) {
        Some(Some(stored)) => Some(stored),
        Some(None) => {
            tracing::error!(
                "a stored password hash is in no known format; nobody can log in with it"
            );
            None
        }
        None => None,
    };
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

/// The form in which a hash of another service is stored, or `None` when it cannot be verified here.
///
/// `long_passwords` says that a plain bcrypt hash is one of Flask-Bcrypt with
/// `BCRYPT_HANDLE_LONG_PASSWORDS`.
#[must_use]
pub fn imported(hash: &str, long_passwords: bool) -> Option<String> {
    hash::imported(hash, long_passwords)
}

/// What the policy has against a new password; `None` when nothing.
#[must_use]
pub fn fault(field: &str, password: &SecretString) -> Option<FieldError> {
    let chars = password.expose_secret().nfkc().take(MAX_CHARS + 1).count();
    match chars {
        0..MIN_CHARS => {
            let message = format!("must have at least {MIN_CHARS} characters");
            Some(FieldError::new(field, "too_short", &message))
        }
        MIN_CHARS..=MAX_CHARS => None,
        _ => {
            let message = format!("must have at most {MAX_CHARS} characters");
            Some(FieldError::new(field, "too_long", &message))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn no_more_hash_at_once_than_there_are_cores_even_when_callers_go_away() {
        let hasher = Hasher::new(4);
        let cores = hasher.turns.available_permits();
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let calls: Vec<_> = (0..cores * 8)
            .map(|i| {
                let (hasher, running, most) = (hasher.clone(), running.clone(), most.clone());
                let call = tokio::spawn(async move {
                    let work = move || {
                        most.fetch_max(
                            running.fetch_add(1, Ordering::SeqCst) + 1,
                            Ordering::SeqCst,
                        );
                        std::thread::sleep(Duration::from_millis(20));
                        running.fetch_sub(1, Ordering::SeqCst);
                    };
                    hasher.run(work).await
                });
                (i, call)
            })
            .collect();
        // Some wait for their turn, and some are at work.
        tokio::time::sleep(Duration::from_millis(30)).await;
        for (i, call) in &calls {
            if i % 2 == 0 {
                call.abort();
            }
        }
        for (_, call) in calls {
            let _ = call.await;
        }
        // Whoever went away may be at work still.
        let all = u32::try_from(cores).unwrap();
        drop(hasher.turns.acquire_many(all).await.unwrap());
        assert!((1..=cores).contains(&most.load(Ordering::SeqCst)), "{most:?} of {cores}");
    }

    #[tokio::test]
    async fn a_login_that_waits_too_long_for_its_turn_is_told_that_we_are_busy() {
        let hasher = Hasher::new(4);
        let turns = u32::try_from(hasher.turns.available_permits()).unwrap();
        let taken = Arc::clone(&hasher.turns).acquire_many_owned(turns).await.unwrap();
        let password = "correct horse".to_owned().into();
        assert!(matches!(hasher.verify(&password, None).await, Err(Error::Busy)));
        drop(taken);
        assert!(matches!(hasher.verify(&password, None).await, Ok(Verdict::Wrong)));
    }
}
