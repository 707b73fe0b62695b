//! Which PostgreSQL a command works on.

use secrecy::ExposeSecret as _;
use sqlx::postgres::PgConnectOptions;

use super::readiness;
use crate::config::{Config, database_url};
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

    /// Waits until it accepts connections; the embedded one does.
    ///
    /// # Errors
    /// One line for the operator.
    pub async fn wait(&self, config: &Config) -> Result<(), String> {
        match self {
            Self::External(options) => {
                readiness::wait(options, config.database_start_timeout).await
            }
            Self::Embedded(_) => Ok(()),
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
    database_url::parse(url.expose_secret())
        .map(|options| Some(Database::External(options)))
        .map_err(|error| format!("DATABASE_URL {error} (its value is not shown)"))
}
