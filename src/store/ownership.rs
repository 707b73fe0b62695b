//! Gives the database to an ordinary role: for `portcullis migrate --own`, and for the embedded server.

use std::time::Duration;

use sqlx::{Connection as _, PgConnection};
use tokio::time::sleep;

/// The names that a bootstrap superuser gets, the first that is free.
pub const SUPERUSERS: [&str; 2] = ["postgres", "portcullis_superuser"];
/// The role that renames the bootstrap superuser; it exists within one transaction.
const RENAMER: &str = "portcullis_renamer";
/// How often locks are tried for, and the pause between: requests wait behind whoever waits for a lock.
const TRIES: u32 = 30;
const PAUSE: Duration = Duration::from_secs(1);

/// What a role may do.
#[derive(Debug, sqlx::FromRow)]
struct Rights {
    is_superuser: bool,
    /// The superuser that `initdb` made. PostgreSQL lets nobody demote it.
    is_bootstrap: bool,
}

/// Whether the role of a connection is a superuser.
pub async fn is_superuser(connection: &mut PgConnection) -> sqlx::Result<bool> {
    sqlx::query_scalar("select current_setting('is_superuser')::bool").fetch_one(connection).await
}

/// Whether the role of a connection owns its database.
pub async fn is_owner(connection: &mut PgConnection) -> sqlx::Result<bool> {
    let owner = "select pg_get_userbyid(datdba) = current_user from pg_database where datname = current_database()";
    sqlx::query_scalar(owner).fetch_one(connection).await
}

/// Makes sure that `role` exists and is no superuser. The connection is a superuser's, perhaps that of `role`
/// itself. Returns the new name of the bootstrap superuser if that was called `role`.
///
/// A new role gets the password. A bootstrap superuser cannot be demoted: it is renamed, and a new role gets
/// its old name. An ordinary role is left as it is.
pub async fn make_ordinary(
    connection: &mut PgConnection,
    role: &str,
    password: Option<&str>,
) -> sqlx::Result<Option<String>> {
    let mut transaction = connection.begin().await?;
    // The password is in a statement, which must not be in the server's log.
    let quiet = "set local log_statement = 'none'; set local log_min_duration_statement = -1;
                 set local log_min_duration_sample = -1; set local log_transaction_sample_rate = 0;
                 set local log_min_error_statement = 'panic'";
    sqlx::raw_sql(quiet).execute(&mut *transaction).await?;
    let rights = "select rolsuper as is_superuser, oid = 10 as is_bootstrap from pg_roles where rolname = $1";
    let rights: Option<Rights> =
        sqlx::query_as(rights).bind(role).fetch_optional(&mut *transaction).await?;
    let mut renamed = None;
    match rights {
        Some(Rights { is_bootstrap: true, .. }) => {
            renamed = Some(rename_bootstrap(&mut transaction, role).await?);
            create(&mut transaction, role, password).await?;
        }
        Some(Rights { is_superuser: true, .. }) => {
            let demote =
                "alter role %I nosuperuser nocreatedb nocreaterole noreplication nobypassrls";
            run(&mut transaction, demote, &[role]).await?;
        }
        Some(_) => {}
        None => create(&mut transaction, role, password).await?,
    }
    transaction.commit().await?;
    Ok(renamed)
}

/// Makes `role` the owner of the connection's database, and of everything in it that a superuser or the former
/// owner owns. What other roles own stays theirs, and so does what they were granted. The connection is a
/// superuser's. Returns how many objects changed hands.
pub async fn take_over(connection: &mut PgConnection, role: &str) -> sqlx::Result<usize> {
    let mut tries = 1;
    loop {
        match try_take_over(connection, role).await {
            // 55P03: a lock was not to be had in time.
            Err(sqlx::Error::Database(error))
                if error.code().as_deref() == Some("55P03") && tries < TRIES =>
            {
                tracing::warn!(%error, "waiting for a table that is in use");
                tries += 1;
                sleep(PAUSE).await;
            }
            taken => return taken,
        }
    }
}

async fn try_take_over(connection: &mut PgConnection, role: &str) -> sqlx::Result<usize> {
    let mut transaction = connection.begin().await?;
    // Without a search path every name has its schema.
    let settings = "set local lock_timeout = '2s'; set local search_path = ''";
    sqlx::raw_sql(settings).execute(&mut *transaction).await?;
    let statements: Vec<String> =
        sqlx::query_scalar(OF_OTHERS).bind(role).fetch_all(&mut *transaction).await?;
    for statement in &statements {
        sqlx::raw_sql(statement).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(statements.len())
}

/// The statements that give `$1` what is to be its own. Members of extensions stay with their extension, and
/// the sequences of columns follow their table.
const OF_OTHERS: &str = "
with new as (
    select oid, rolname as name from pg_roles where rolname = $1
), former as (
    select r.oid from pg_roles r, pg_database d, new
    where d.datname = current_database() and (r.rolsuper or r.oid = d.datdba) and r.oid <> new.oid
), own as (
    select oid from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema'
), fixed as (
    select classid, objid from pg_depend
    where deptype = 'e' or classid = 'pg_class'::regclass and deptype in ('a', 'i') and refobjsubid > 0
), objects as (
    select 1 as place, 'database' as kind, format('%I', datname) as name
    from pg_database where datname = current_database() and datdba in (select oid from former)
    union all
    select 2, 'schema', format('%I', nspname) from pg_namespace n
    where n.oid in (select oid from own) and nspowner in (select oid from former)
        and ('pg_namespace'::regclass, n.oid) not in (select classid, objid from fixed)
    union all
    select 3, 'table', c.oid::regclass::text from pg_class c
    where relnamespace in (select oid from own) and relowner in (select oid from former)
        and relkind in ('r', 'p', 'v', 'm', 'S', 'f')
        and ('pg_class'::regclass, c.oid) not in (select classid, objid from fixed)
    union all
    select 4, 'routine', p.oid::regprocedure::text from pg_proc p
    where pronamespace in (select oid from own) and proowner in (select oid from former)
        and ('pg_proc'::regclass, p.oid) not in (select classid, objid from fixed)
    union all
    select 5, 'type', t.oid::regtype::text from pg_type t left join pg_class c on c.oid = t.typrelid
    where typnamespace in (select oid from own) and typowner in (select oid from former)
        and (typtype in ('e', 'd', 'r') or c.relkind = 'c')
        and ('pg_type'::regclass, t.oid) not in (select classid, objid from fixed)
)
select format('alter %s %s owner to %I', kind, objects.name, new.name) from objects, new order by place";

/// Renames the bootstrap superuser, even if it is the connection's own role. Returns the new name.
async fn rename_bootstrap(connection: &mut PgConnection, role: &str) -> sqlx::Result<String> {
    let free = "select name from unnest($1::text[]) with ordinality as names (name, place)
                where not exists (select from pg_roles where rolname = name) order by place limit 1";
    let name: Option<String> =
        sqlx::query_scalar(free).bind(SUPERUSERS).fetch_optional(&mut *connection).await?;
    let name = name.ok_or_else(|| {
        sqlx::Error::Configuration("there is no free name for the superuser: rename a role".into())
    })?;
    // A session cannot rename its own role, but it may act as another one.
    run(connection, "create role %I superuser", &[RENAMER]).await?;
    run(connection, "set local session authorization %I", &[RENAMER]).await?;
    run(connection, "alter role %I rename to %I", &[role, &name]).await?;
    run(connection, "reset session authorization", &[]).await?;
    run(connection, "drop role %I", &[RENAMER]).await?;
    Ok(name)
}

async fn create(
    connection: &mut PgConnection,
    role: &str,
    password: Option<&str>,
) -> sqlx::Result<()> {
    match password {
        Some(password) => {
            run(connection, "create role %I login password %L", &[role, password]).await
        }
        None => run(connection, "create role %I login", &[role]).await,
    }
}

/// Runs a statement whose names PostgreSQL quotes.
async fn run(connection: &mut PgConnection, format: &str, names: &[&str]) -> sqlx::Result<()> {
    let quote = "select format($1, variadic $2::text[])";
    let statement: String =
        sqlx::query_scalar(quote).bind(format).bind(names).fetch_one(&mut *connection).await?;
    sqlx::raw_sql(&statement).execute(connection).await.map(drop)
}
