//! Waits for PostgreSQL at the start: it may start at the same time as the service.

use std::io;
use std::time::{Duration, Instant};

use sqlx::error::DatabaseError;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::time::{sleep, timeout};

/// How long one try may take.
const TRY: Duration = Duration::from_secs(5);
/// How long to wait before the next one.
const PAUSE: Duration = Duration::from_millis(500);

/// Waits until PostgreSQL accepts a connection, at most so long. What time does not change ends the wait at once, such
/// as a wrong password.
///
/// # Errors
/// One line for the operator.
pub(super) async fn wait(options: &PgConnectOptions, longest: Duration) -> Result<(), String> {
    let start = Instant::now();
    let mut is_told = false;
    loop {
        let tried = timeout(TRY, options.connect()).await;
        let error = match tried {
            Ok(Ok(connection)) => {
                return connection.close().await.map_err(|it| explain(options, &it));
            }
            Ok(Err(error)) => error,
            Err(_) => sqlx::Error::Io(io::ErrorKind::TimedOut.into()),
        };
        if !may_pass(&error) || start.elapsed() + PAUSE > longest {
            return Err(explain(options, &error));
        }
        if !is_told {
            is_told = true;
            let error = explain(options, &error);
            tracing::warn!(error, longest_s = longest.as_secs(), "waiting for PostgreSQL");
        }
        sleep(PAUSE).await;
    }
}

/// Whether PostgreSQL may be on its way: nobody listens yet, its name is not known yet, or it starts up or has no
/// connection left.
fn may_pass(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        sqlx::Error::Database(error) => {
            matches!(error.code().as_deref(), Some("57P03" | "57P01" | "57P02" | "53300"))
        }
        _ => false,
    }
}

/// Why there is no connection, and what helps.
fn explain(options: &PgConnectOptions, error: &sqlx::Error) -> String {
    let (host, user) = (options.get_host(), options.get_username());
    let database = options.get_database().unwrap_or(user);
    let code = error.as_database_error().and_then(DatabaseError::code);
    match (code.as_deref(), error) {
        (Some("28P01"), _) => {
            format!("cannot log in to PostgreSQL as {user}: wrong password in DATABASE_URL")
        }
        (Some("28000"), _) => {
            let message = error.as_database_error().map_or("", |error| error.message());
            format!(
                "cannot log in to PostgreSQL as {user}: {message}. Create the role, or allow it in pg_hba.conf, \
                 or correct DATABASE_URL"
            )
        }
        (Some("3D000"), _) => format!(
            "PostgreSQL at {host} has no database {database}: create it, or correct DATABASE_URL"
        ),
        (Some("42501"), _) => format!(
            "PostgreSQL does not let {user} use the database {database}: grant it connect, or correct DATABASE_URL"
        ),
        (_, sqlx::Error::Io(error)) => {
            format!("cannot reach PostgreSQL at {host}, port {}: {error}", options.get_port())
        }
        (_, sqlx::Error::Tls(error)) => {
            format!(
                "cannot reach PostgreSQL at {host} with TLS: {error}. Correct sslmode in DATABASE_URL"
            )
        }
        _ => format!("cannot connect to PostgreSQL at {host}: {error}"),
    }
}
