//! What errors of the database mean to who asked.

use std::borrow::Borrow;
use std::sync::Arc;

use super::{Error, Result, Source};

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        meaning(error)
    }
}

/// An error that many requests share.
impl From<Arc<sqlx::Error>> for Error {
    fn from(error: Arc<sqlx::Error>) -> Self {
        meaning(error)
    }
}

/// What an error of the database means to who asked.
fn meaning(error: impl Borrow<sqlx::Error> + Into<Source>) -> Error {
    // 57014 query canceled, by the statement time-out; 55P03 lock not available, by its own.
    let code = error.borrow().as_database_error().and_then(|error| error.code());
    if matches!(code.as_deref(), Some("57014" | "55P03")) {
        Error::Timeout
    } else if matches!(code.as_deref(), Some("40001" | "40P01" | "40002" | "40000")) {
        // Serialization failure, dead-lock: the transaction was rolled back.
        Error::Conflict(error.into())
    } else if is_unavailable(error.borrow()) {
        Error::DatabaseUnavailable(error.into())
    } else {
        Error::internal(error)
    }
}

/// Whether the database was out of reach, rather than the statement wrong.
fn is_unavailable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        // 08 connection exception, 53 insufficient resources, 57P operator intervention, 25P03 idle
        // in a transaction, 25006 read-only transaction (a standby), 40003 unknown outcome.
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            ["08", "53", "57P", "25P03", "25006", "40003"]
                .iter()
                .any(|class| code.starts_with(class))
        }),
        _ => false,
    }
}

/// Turns the violation of a named constraint into an error of the API.
pub trait OnConstraint<T> {
    /// Calls `error` when the statement broke the constraint `name`.
    ///
    /// # Errors
    /// What `error` gave, or else the database's own error.
    fn on_constraint(self, name: &str, error: impl FnOnce() -> Error) -> Result<T>;
}

impl<T, E: Into<Error>> OnConstraint<T> for std::result::Result<T, E> {
    fn on_constraint(self, name: &str, error: impl FnOnce() -> Error) -> Result<T> {
        self.map_err(|source| {
            let source = source.into();
            if constraint(&source) == Some(name) { error() } else { source }
        })
    }
}

/// The name of the constraint that a statement broke.
fn constraint(error: &Error) -> Option<&str> {
    let Error::Internal(source) = error else { return None };
    source.downcast_ref::<sqlx::Error>()?.as_database_error()?.constraint()
}
