//! How the schema is brought up to date.

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};

use super::diagnosis;

/// Brings the schema up to date, if it is not: then nothing is locked and nothing written. Any number
/// of replicas may do so at once, since they take turns.
///
/// All migrations are one transaction, which holds the lock: one that belonged to the connection,
/// as sqlx's own does, would stay behind where a pooler hands connections on between transactions.
/// So no migration may be one that PostgreSQL runs in no transaction (`-- no-transaction`).
///
/// # Errors
/// When the database cannot be reached or a migration fails.
pub async fn migrate(options: &PgConnectOptions) -> Result<(), MigrateError> {
    let mut migrator = migrator();
    let mut connection = options.connect().await?;
    if !is_up_to_date(&migrator, &mut connection).await? {
        let mut transaction = connection.begin().await?;
        let turn = "set local client_min_messages = warning; set local statement_timeout = 0;
                    set local lock_timeout = 0;
                    select pg_advisory_xact_lock(hashtext('portcullis migrations'))";
        sqlx::raw_sql(turn).execute(&mut *transaction).await?;
        migrator.set_locking(false).run_direct(&mut *transaction).await?;
        transaction.commit().await?;
    }
    Ok(connection.close().await?)
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
