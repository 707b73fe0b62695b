//! How the schema is brought up to date.

use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};
use tokio::time::sleep;

use super::diagnosis;

/// How long a migration lets those pass that waited behind it for a lock.
const PAUSE: Duration = Duration::from_secs(1);

/// Brings the schema up to date, if it is not: then nothing is locked and nothing written. Any number
/// of replicas may do so at once, since they take turns.
///
/// All migrations are one transaction, which holds the lock: one that belonged to the connection,
/// as sqlx's own does, would stay behind where a pooler hands connections on between transactions.
/// So no migration may be one that PostgreSQL runs in no transaction (`-- no-transaction`). One that does
/// not get a lock soon gives up all that it holds and tries again, since requests wait behind it.
///
/// # Errors
/// When the database cannot be reached or is not UTF-8, or a migration fails.
pub async fn migrate(options: &PgConnectOptions) -> Result<(), MigrateError> {
    let mut migrator = migrator();
    let mut connection = options.connect().await?;
    // What cannot be said in its encoding would fail a statement, and with it those who share that.
    if diagnosis::server(&mut connection).await?.encoding != "UTF8" {
        return Err(MigrateError::Source("the database must have the encoding UTF8".into()));
    }
    migrator.set_locking(false);
    while !is_up_to_date(&migrator, &mut connection).await? {
        match apply(&migrator, &mut connection).await {
            Err(MigrateError::ExecuteMigration(error, version)) if is_kept_waiting(&error) => {
                tracing::warn!(version, %error, "a migration waits for a table that is in use");
                sleep(PAUSE).await;
            }
            Err(MigrateError::ExecuteMigration(error, _)) if is_occupied(&error) => {
                let schema = diagnosis::server(&mut connection).await?.schema.unwrap_or_default();
                return Err(MigrateError::Source(occupied(&schema, &error).into()));
            }
            applied => applied?,
        }
    }
    Ok(connection.close().await?)
}

async fn apply(migrator: &Migrator, connection: &mut PgConnection) -> Result<(), MigrateError> {
    let mut transaction = connection.begin().await?;
    // Whoever has waited for the lock must see what was applied meanwhile. An existing installation stays in its
    // schema, also if the search path has another one before it by now: sqlx would create its table there, and the
    // migrations would install the service a second time.
    let turn = "set transaction isolation level read committed;
                set local client_min_messages = warning; set local statement_timeout = 0;
                set local lock_timeout = 0;
                select pg_advisory_xact_lock(hashtext('portcullis migrations'));
                set local lock_timeout = '2s';
                select set_config('search_path', quote_ident(nspname) || ', ' || current_setting('search_path'), true)
                from pg_class c join pg_namespace n on n.oid = relnamespace
                where c.oid = to_regclass('_sqlx_migrations')";
    sqlx::raw_sql(turn).execute(&mut *transaction).await?;
    migrator.run_direct(&mut *transaction).await?;
    Ok(transaction.commit().await?)
}

/// 55P03: a lock was not to be had in time.
fn is_kept_waiting(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.code().as_deref() == Some("55P03"))
}

/// 42P07 duplicate table, 42723 duplicate function: another application is here.
fn is_occupied(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some("42P07" | "42723"))
}

fn occupied(schema: &str, error: &sqlx::Error) -> String {
    let message =
        error.as_database_error().map_or_else(String::new, |error| error.message().to_owned());
    format!(
        "{message} in the schema {schema}, which another application uses. Portcullis needs a database, or at least a \
         schema, of its own: create one for its role with `create schema authorization …`, or change the database in \
         DATABASE_URL"
    )
}

/// The migrations that this binary has.
#[must_use]
pub fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!();
    // An older replica may restart beside a newer schema: within a release they only add.
    migrator.set_ignore_missing(true);
    migrator
}

/// Whether there is nothing to run, and nothing that the migrator would refuse to start on.
async fn is_up_to_date(migrator: &Migrator, connection: &mut PgConnection) -> sqlx::Result<bool> {
    let applied = diagnosis::applied(connection).await?;
    let has = |version, checksum: &[u8]| {
        applied.iter().any(|applied| applied.version == version && applied.checksum == checksum)
    };
    Ok(applied.iter().all(|applied| applied.success)
        && migrator.iter().all(|migration| has(migration.version, &migration.checksum)))
}
