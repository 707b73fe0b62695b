//! The command line: what each command does.

mod database;
pub mod doctor;
pub mod health;
pub mod import;
mod known_passwords;
pub mod serve;
pub mod user;

pub use database::Database;

use crate::config::Config;
use crate::error::Error;
use crate::store;

/// Why a password was not taken, in one line for the operator.
fn refused(error: Error) -> String {
    match error {
        Error::ValidationFailed(faults) => faults.iter().map(ToString::to_string).collect(),
        error => error.to_string(),
    }
}

/// Brings the schema up to date.
///
/// # Errors
/// One line for the operator.
pub async fn migrate(config: &Config) -> Result<(), String> {
    let database = Database::join(config).await?;
    let migrated = store::migrate(&database.options()).await.map_err(|error| error.to_string());
    database.close().await;
    migrated
}
