//! The command line: what each command does.

mod database;
pub mod doctor;
pub mod health;
pub mod import;
mod known_passwords;
pub mod migrate;
pub mod output;
mod refusal;
pub mod serve;
pub mod user;

pub use database::Database;

use crate::error::Error;

/// Why a password was not taken, in one line for the operator.
fn refused(error: Error) -> String {
    match error {
        Error::ValidationFailed(faults) => faults.iter().map(ToString::to_string).collect(),
        error => error.to_string(),
    }
}
