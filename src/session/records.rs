//! Session ids: tower-sessions generates them, and the database knows only their hashes.

use std::fmt;
use std::str::FromStr as _;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use sqlx::PgPool;
use time::OffsetDateTime;
use tower_sessions::session::Id;

use crate::error::Result;
use crate::store::session_records;

/// What a record outlives its session by. The session's end is PostgreSQL's to tell, the record's
/// is told by this machine's clock: so much may lie between the two.
pub(super) const SLACK: Duration = Duration::from_secs(24 * 60 * 60);

/// The secret of a session: 128 random bits that the client holds and nobody stores.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SessionId(Id);

impl SessionId {
    /// Reads what a client sent; `None` when it was never ours.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Id::from_str(text).ok().map(Self)
    }

    /// The text that the client is to hold: 22 characters of base64url.
    #[must_use]
    pub fn expose(&self) -> String {
        self.0.to_string()
    }

    /// What the database knows the secret by.
    #[must_use]
    pub fn record_id(&self) -> String {
        hashed(&self.0).to_string()
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(…)")
    }
}

/// A truncated SHA-256: 128 bits of a random value need no salt and no slow hash.
fn hashed(id: &Id) -> Id {
    let digest = Sha256::digest(id.0.to_be_bytes());
    let mut half = [0; 16];
    half.copy_from_slice(&digest[..16]);
    Id(i128::from_be_bytes(half))
}

/// Creates the records of sessions.
///
/// The SQL is our own. The PostgreSQL store of tower-sessions needs the name of a schema, although the search path
/// already names one, and its errors do not tell a wrong statement from an unreachable database.
#[derive(Clone, Debug)]
pub struct Records(PgPool);

impl Records {
    /// Records in the table `session_records` of this database.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        Self(pool)
    }

    /// A new id, with a record that outlives `lifetime` a little.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn create(&self, lifetime: Duration) -> Result<SessionId> {
        self.create_until(OffsetDateTime::now_utc() + lifetime).await
    }

    /// A new id, with a record that outlives `end` a little.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn create_until(&self, end: OffsetDateTime) -> Result<SessionId> {
        let id = SessionId(Id::default());
        session_records::insert(&self.0, &id.record_id(), end + SLACK).await?;
        Ok(id)
    }

    /// Deletes a record that no session uses. If that fails, the sweep does it later.
    pub async fn discard(&self, id: &SessionId) {
        if let Err(error) = session_records::discard(&self.0, &id.record_id()).await {
            tracing::debug!(%error, "a record was left to the sweep");
        }
    }
}
