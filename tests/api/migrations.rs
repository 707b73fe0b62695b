//! How the schema is brought up to date.

use std::time::Duration;

use portcullis::store;
use tokio::time::timeout;

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
    assert_eq!(app.sql("select from pg_locks where locktype = 'advisory'").await, 0);
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
