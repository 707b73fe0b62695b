//! Which PostgreSQL a command works on.

use std::str::FromStr as _;

use secrecy::ExposeSecret as _;
use sqlx::postgres::PgConnectOptions;

use crate::config::Config;
use crate::embedded::Embedded;

/// The PostgreSQL of `DATABASE_URL`, or the embedded one.
pub enum Database {
    /// Somebody else runs it.
    External(PgConnectOptions),
    /// It runs with the service.
    Embedded(Embedded),
}

impl Database {
    /// For the service itself: starts the embedded one.
    ///
    /// # Errors
    /// One line for the operator.
    pub async fn start(config: &Config) -> Result<Self, String> {
        match external(config)? {
            Some(external) => Ok(external),
            None => match Embedded::start(&config.data_dir).await {
                Ok(embedded) => Ok(Self::Embedded(embedded)),
                Err(error) => Err(error.to_string()),
            },
        }
    }

    /// For the other commands: uses the embedded one of a service that runs, if one does.
    ///
    /// # Errors
    /// One line for the operator.
    pub async fn join(config: &Config) -> Result<Self, String> {
        match external(config)? {
            Some(external) => Ok(external),
            None => match Embedded::join_or_start(&config.data_dir).await {
                Ok(embedded) => Ok(Self::Embedded(embedded)),
                Err(error) => Err(error.to_string()),
            },
        }
    }

    /// How to connect.
    #[must_use]
    pub fn options(&self) -> PgConnectOptions {
        match self {
            Self::External(options) => options.clone(),
            Self::Embedded(embedded) => embedded.connect_options(),
        }
    }

    /// What a person reads of where the data is.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            Self::External(options) => {
                let database = options.get_database().unwrap_or("(the user's own)");
                format!("PostgreSQL at {}, database {database}", options.get_host())
            }
            Self::Embedded(embedded) => {
                format!("{} (embedded PostgreSQL)", embedded.data_dir().display())
            }
        }
    }

    /// Resolves only when an embedded server has ended without being asked.
    pub async fn died(&mut self) {
        match self {
            Self::External(_) => std::future::pending().await,
            Self::Embedded(embedded) => embedded.died().await,
        }
    }

    /// Stops the embedded one, if it was started here.
    pub async fn close(self) {
        if let Self::Embedded(embedded) = self
            && let Err(error) = embedded.stop().await
        {
            tracing::error!(%error, "the embedded PostgreSQL did not stop cleanly");
        }
    }
}

fn external(config: &Config) -> Result<Option<Database>, String> {
    let Some(url) = &config.database_url else { return Ok(None) };
    PgConnectOptions::from_str(url.expose_secret())
        .map(|options| Some(Database::External(options)))
        // The error may repeat the URL, and the URL holds the password.
        .map_err(|_| "DATABASE_URL must be a postgres:// URL (its value is not shown)".to_owned())
}
