//! A database that takes what it is sent and says nothing.

use std::time::{Duration, Instant};

use portcullis::metrics::Metrics;
use portcullis::state::App;
use portcullis::store;
use serde_json::json;
use sqlx::ConnectOptions as _;
use tokio::task::JoinSet;

use crate::TestApp;
use crate::app::{PASSWORD, serve};
use crate::proxy::Proxy;

#[tokio::test]
async fn connections_that_hang_are_done_without_within_seconds() {
    let app = TestApp::with(|config| {
        config.database_connections = 4;
        config.database_statement_timeout = Duration::from_secs(1);
    });
    let app = app.await;
    let user = app.user().await;
    let proxy = Proxy::before(app.database_options()).await;
    let pool = store::pool(proxy.options.clone(), &app.config);
    let base = serve(App::new(app.config.clone(), pool.clone(), Metrics::default())).await;
    let user = user.at(&base);
    user.get("/me").await.ok();
    // As many as there may be, each with a statement under way.
    let mut under_way = JoinSet::new();
    for _ in 0..3 {
        let mut connection = pool.acquire().await.unwrap();
        under_way.spawn(async move {
            sqlx::query("select pg_sleep(60)").execute(&mut *connection).await
        });
    }
    proxy.hang();
    under_way.shutdown().await;
    let begun = Instant::now();
    user.get("/me").await.problem(503, "database_unavailable");
    loop {
        let answer = user.get("/me").await;
        if answer.code == 200 {
            break;
        }
        answer.problem(503, "database_unavailable");
        assert!(begun.elapsed() < Duration::from_secs(20), "it does not recover");
    }
    let login = json!({"identifier": user.username(), "password": PASSWORD});
    loop {
        let answer = app.anonymous().at(&base).post("/login", login.clone()).await;
        if answer.code == 200 {
            break;
        }
        answer.problem(503, "database_unavailable");
        assert!(begun.elapsed() < Duration::from_secs(20), "it does not recover");
    }
    println!("well after {:?}", begun.elapsed());
}

#[tokio::test]
async fn uses_that_cannot_be_written_down_hinder_nobody() {
    let app = TestApp::with(|config| config.database_connections = 3).await;
    let user = app.user().await;
    app.sql("create function hang() returns trigger language plpgsql as 'begin perform pg_sleep(60); return new; end'").await;
    app.sql("create trigger hang before update on sessions for each row execute function hang()")
        .await;
    // Only a superuser may pass the trigger.
    let mut setup = app.superuser_options().connect().await.unwrap();
    sqlx::query("set session_replication_role = replica").execute(&mut setup).await.unwrap();
    let due = "update sessions set last_seen_at = now() - interval '2 minutes'";
    sqlx::query(due).execute(&mut setup).await.unwrap();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(8) {
        let asked = Instant::now();
        user.get("/me").await.ok();
        assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
