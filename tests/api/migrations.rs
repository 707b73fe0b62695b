//! How the schema is brought up to date.

use std::time::{Duration, Instant};

use portcullis::store;
use tokio::time::{sleep, timeout};

use crate::TestApp;

/// Tables of the service.
const TABLES: &str =
    "select from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace";

async fn emptied() -> TestApp {
    let app = TestApp::start().await;
    app.sql("drop schema public cascade").await;
    app.sql("create schema public").await;
    app
}

#[tokio::test]
async fn a_schema_that_is_up_to_date_is_only_read() {
    let app = TestApp::start().await;
    let mut lock = store::begin(&app.pool).await.unwrap();
    let reads_pass = "lock table _sqlx_migrations in exclusive mode";
    sqlx::query(reads_pass).execute(&mut *lock).await.unwrap();
    let options = app.database_options();
    timeout(Duration::from_secs(10), store::migrate(&options)).await.unwrap().unwrap();
}

#[tokio::test]
async fn replicas_that_start_at_once_take_turns() {
    let app = emptied().await;
    let options = app.database_options();
    let replica = || async { store::migrate(&options).await.unwrap() };
    tokio::join!(replica(), replica(), replica(), replica());
    let applied = app.sql("select from _sqlx_migrations where success").await;
    assert_eq!(applied, store::migrator().iter().count() as u64);
    let locks = "select from pg_locks join pg_database on database = pg_database.oid
                 where locktype = 'advisory' and datname = current_database()";
    assert_eq!(app.sql(locks).await, 0);
}

#[tokio::test]
async fn migrations_are_applied_all_or_not_at_all() {
    let app = emptied().await;
    app.sql("create table throttles (in_the_way int)").await;
    store::migrate(&app.database_options()).await.unwrap_err();
    assert_eq!(app.sql(TABLES).await, 1);
    app.sql("drop table throttles").await;
    store::migrate(&app.database_options()).await.unwrap();
    assert!(app.sql(TABLES).await > 5);
}

#[tokio::test]
async fn a_migration_that_waits_for_a_table_lets_others_pass() {
    let app = TestApp::start().await;
    app.sql("delete from _sqlx_migrations where version = 10").await;
    app.sql("alter table outbox drop column traceparent").await;
    let mut reader = store::begin(&app.pool).await.unwrap();
    sqlx::query("select from outbox").execute(&mut *reader).await.unwrap();
    let options = app.database_options();
    let others = async {
        for _ in 0..50 {
            let asked = Instant::now();
            app.sql("select from outbox").await;
            assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
            sleep(Duration::from_millis(100)).await;
        }
        reader.rollback().await.unwrap();
        Instant::now()
    };
    let migration = async {
        store::migrate(&options).await.unwrap();
        Instant::now()
    };
    let both = async { tokio::join!(migration, others) };
    let (migrated, released) = timeout(Duration::from_secs(60), both).await.unwrap();
    assert!(migrated > released);
    app.sql("select traceparent from outbox").await;
}

#[tokio::test]
async fn existing_accounts_count_as_proven_and_a_shared_device_secret_stays_with_its_first_account()
{
    let app = TestApp::start().await;
    app.sql("delete from _sqlx_migrations where version = 12").await;
    app.sql("alter table users drop column password_proven").await;
    app.sql("alter table registrations drop column device_hash").await;
    app.sql("alter table outbox drop column request_hash").await;
    app.sql("alter table one_time_tokens drop column request_hash").await;
    app.sql(
        "insert into users (id, username, password_hash)
         select gen_random_uuid(), 'user-' || n, '' from generate_series(1, 3) n",
    )
    .await;
    app.sql(
        "insert into known_devices (hash, user_id, created_at)
         select 'shared', id, now() - right(username, 1)::int * interval '1 day' from users",
    )
    .await;
    app.sql(
        "insert into known_devices (hash, user_id) select sha256(id::text::bytea), id from users",
    )
    .await;
    store::migrate(&app.database_options()).await.unwrap();
    assert_eq!(app.count("users where password_proven").await, 3);
    let first = "known_devices d join users u on u.id = user_id where hash = 'shared'";
    assert_eq!(app.count(first).await, 1);
    assert_eq!(app.count(&format!("{first} and username = 'user-3'")).await, 1);
    assert_eq!(app.count("known_devices").await, 4);
    app.sql(
        "insert into users (id, username, password_hash) values (gen_random_uuid(), 'new', '')",
    )
    .await;
    assert_eq!(app.count("users where not password_proven").await, 1);
}
