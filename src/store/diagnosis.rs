//! What `portcullis doctor` asks a server about itself. Nothing is changed.

use sqlx::{Executor as _, PgConnection, PgExecutor, Row as _};
use time::OffsetDateTime;

/// What the service needs of a server.
#[derive(Debug)]
pub struct Server {
    /// As its makers write it, what packagers add aside.
    pub version: String,
    /// As a number: 170002 is 17.2.
    pub version_number: i32,
    /// Of the database.
    pub encoding: String,
    /// Whether it follows a primary.
    pub is_standby: bool,
    /// Whether transactions may only read.
    pub is_read_only: bool,
    /// Whether it has the collation of our searches.
    pub has_icu: bool,
    /// Which of the time-outs that the service asks for are not in force.
    pub unlimited: Vec<String>,
    /// The default isolation level of its transactions.
    pub isolation: String,
    /// The schema in which tables are created: the first of the search path that exists.
    pub schema: Option<String>,
    /// Whether we may make tables.
    pub may_create: bool,
    /// Whether our role is a superuser.
    pub is_superuser: bool,
    /// How many connections we may have, those of others aside.
    pub connections: i32,
    /// Its clock.
    pub now: OffsetDateTime,
}

/// Asks for all of it.
///
/// # Errors
/// When the database cannot be reached.
pub async fn server(db: impl PgExecutor<'_>) -> sqlx::Result<Server> {
    sqlx::query_as!(
        Server,
        r#"select
             split_part(current_setting('server_version'), ' ', 1) as "version!",
             current_setting('server_version_num')::int as "version_number!",
             current_setting('server_encoding') as "encoding!",
             pg_is_in_recovery() as "is_standby!",
             current_setting('default_transaction_read_only')::bool as "is_read_only!",
             exists (select from pg_collation where collname = 'und-x-icu') as "has_icu!",
             array(
                 select name from pg_settings
                 where setting = '0'
                     and name in ('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout')
                 order by name
             ) as "unlimited!",
             current_setting('default_transaction_isolation') as "isolation!",
             current_schema()::text as schema,
             coalesce(has_schema_privilege(current_schema(), 'create'), false) as "may_create!",
             current_setting('is_superuser')::bool as "is_superuser!",
             least(
                 current_setting('max_connections')::int
                     - current_setting('superuser_reserved_connections')::int
                     - coalesce(current_setting('reserved_connections', true)::int, 0),
                 (select nullif(rolconnlimit, -1) from pg_roles where rolname = current_user),
                 (select nullif(datconnlimit, -1) from pg_database where datname = current_database())
             ) as "connections!",
             clock_timestamp() as "now!""#
    )
    .fetch_one(db)
    .await
}

/// Which of the server's processes answers. Nothing is prepared for it, since a pooler may hand every
/// statement to another one.
///
/// # Errors
/// When the database cannot be reached.
pub async fn backend(connection: &mut PgConnection) -> sqlx::Result<i32> {
    connection.fetch_one("select pg_backend_pid()").await?.try_get(0)
}

/// A migration that was run.
#[derive(Debug, sqlx::FromRow)]
pub struct Applied {
    /// The number that its file's name begins with.
    pub version: i64,
    /// The rest of the name.
    pub description: String,
    /// Whether it came to its end.
    pub success: bool,
    /// Of its text.
    pub checksum: Vec<u8>,
}

/// The migrations that were run; none if sqlx has never been here. Its table is not in our migrations,
/// so the query is not checked when it is built.
///
/// # Errors
/// When the database cannot be reached, or does not let us read them.
pub async fn applied(connection: &mut PgConnection) -> sqlx::Result<Vec<Applied>> {
    let is_there = "select to_regclass('_sqlx_migrations') is not null";
    if !sqlx::query_scalar(is_there).fetch_one(&mut *connection).await? {
        return Ok(Vec::new());
    }
    sqlx::query_as(
        "select version, description, success, checksum from _sqlx_migrations order by version",
    )
    .fetch_all(connection)
    .await
}
