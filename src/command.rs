//! The command line: what each command does.

mod database;
pub mod doctor;
pub mod health;
pub mod import;
mod known_passwords;
pub mod migrate;
pub mod output;
mod readiness;
mod refusal;
pub mod serve;
pub mod token;
pub mod user;

pub use database::Database;

use sqlx::PgPool;
use uuid::Uuid;

use crate::config::Config;
use crate::error::Error;
use crate::names::Identifier;
use crate::store::{self, users};

/// Runs a task on the database of the settings, whose schema is brought up to date first.
async fn on_database<T>(
    config: &Config,
    task: impl AsyncFnOnce(&PgPool) -> Result<T, String>,
) -> Result<T, String> {
    let database = Database::join(config).await?;
    let done = async {
        store::migrate(&database.options()).await.map_err(|error| error.to_string())?;
        let pool = store::pool(database.options(), config);
        let done = task(&pool).await;
        pool.close().await;
        done
    };
    let done = done.await;
    database.close().await;
    done
}

/// The id of the account with a username or an email address.
async fn find_account(pool: &PgPool, account: &str) -> Result<Uuid, String> {
    let found = users::find_credentials(pool, &Identifier::new(account)).await.map_err(failed)?;
    found.map(|found| found.user_id).ok_or_else(|| format!("there is no account {account}"))
}

/// Why a value was rejected, in one line for the operator.
fn refused(error: Error) -> String {
    match error {
        Error::ValidationFailed(faults) => {
            faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        }
        error => error.to_string(),
    }
}

/// An error in words for an operator, who may know the cause.
fn cause(error: &Error) -> String {
    let source = std::error::Error::source(error);
    source.map_or_else(
        || error.to_string(),
        |source| format!("PostgreSQL rejected a statement: {source}"),
    )
}

fn failed(error: sqlx::Error) -> String {
    format!("PostgreSQL rejected a statement: {error}")
}
