//! Where session ids come from: tower-sessions' store, with every id hashed at rest.

use std::fmt;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};
use sqlx::PgPool;
use time::OffsetDateTime;
use tower_sessions::session::{Id, Record};
use tower_sessions::session_store::{Error as StoreError, Result as StoreResult};
use tower_sessions::{Expiry, SessionStore};
use tower_sessions_sqlx_store::PostgresStore;

use crate::error::{Error, Result};
use crate::telemetry::RequestContext;

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

/// Makes the records that sessions stand on.
#[derive(Clone, Debug)]
pub struct Records(Arc<HashedStore>);

impl Records {
    /// Records in the table `session_records` of this database.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        let named = PostgresStore::new(pool)
            .with_schema_name("public")
            .and_then(|store| store.with_table_name("session_records"));
        #[expect(clippy::expect_used, reason = "both names are constants that the store takes")]
        let inner = named.expect("valid names");
        Self(Arc::new(HashedStore { inner }))
    }

    /// A new id, with a record that stands a little longer than `lifetime`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn create(&self, lifetime: Duration) -> Result<SessionId> {
        self.create_until(OffsetDateTime::now_utc() + lifetime).await
    }

    /// A new id, with a record that stands a little longer than until `end`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn create_until(&self, end: OffsetDateTime) -> Result<SessionId> {
        let expiry = Some(Expiry::AtDateTime(end + SLACK));
        let session = tower_sessions::Session::new(None, Arc::clone(&self.0), expiry);
        // In a task of its own, since the store begins a transaction; see `store::begin`.
        let saved = tokio::spawn({
            let session = session.clone();
            RequestContext::current().run(async move { session.save().await })
        });
        saved.await.map_err(Error::internal)?.map_err(from_store)?;
        session.id().map(SessionId).ok_or_else(|| Error::internal("a saved session has no id"))
    }

    /// Deletes a record that came to nothing. If that fails, the sweep does it later.
    pub async fn discard(&self, id: &SessionId) {
        if let Err(error) = self.0.delete(&id.0).await {
            tracing::debug!(%error, "a record was left to the sweep");
        }
    }
}

/// tower-sessions' store, but for the ids: it gets their hashes.
#[derive(Clone, Debug)]
struct HashedStore {
    inner: PostgresStore,
}

#[async_trait]
impl SessionStore for HashedStore {
    async fn create(&self, record: &mut Record) -> StoreResult<()> {
        loop {
            let mut stored = record.clone();
            stored.id = hashed(&record.id);
            let wanted = stored.id;
            self.inner.create(&mut stored).await?;
            if stored.id == wanted {
                return Ok(());
            }
            // The store met a collision and chose an id of its own, which is no hash of ours.
            self.inner.delete(&stored.id).await?;
            record.id = Id::default();
        }
    }

    async fn save(&self, record: &Record) -> StoreResult<()> {
        let mut stored = record.clone();
        stored.id = hashed(&record.id);
        self.inner.save(&stored).await
    }

    async fn load(&self, id: &Id) -> StoreResult<Option<Record>> {
        let stored = self.inner.load(&hashed(id)).await?;
        Ok(stored.map(|record| Record { id: *id, ..record }))
    }

    async fn delete(&self, id: &Id) -> StoreResult<()> {
        self.inner.delete(&hashed(id)).await
    }
}

/// The store's errors hold no more than a text, so that what kind of fault it was cannot be told;
/// a database that is out of reach is by far the likeliest.
fn from_store(error: tower_sessions::session::Error) -> Error {
    match error {
        tower_sessions::session::Error::Store(StoreError::Backend(text)) => {
            Error::DatabaseUnavailable(text.into())
        }
        other => Error::internal(other),
    }
}
