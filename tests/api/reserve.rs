//! The connections that are kept for who is calling.

use std::time::{Duration, Instant};

use portcullis::metrics::Metrics;
use portcullis::state::App;
use portcullis::store;
use serde_json::json;
use tokio::time::sleep;

use crate::TestApp;
use crate::app::serve;
use crate::proxy::Proxy;

/// Longer than the pool takes a connection for alive.
const A_WHILE: Duration = Duration::from_millis(1300);

#[tokio::test]
async fn who_is_calling_is_one_round_trip_however_seldom_somebody_calls() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let token = app.with_token(&user.token(json!({"name": "t", "scopes": ["read"]})).await);
    let proxy = Proxy::before(app.database_options()).await;
    let pool = store::pool(proxy.options.clone(), &app.config);
    let base = serve(App::new(app.config.clone(), pool, Metrics::default())).await;
    let callers = [user.at(&base), token.at(&base)];
    for caller in &callers {
        caller.get("/me").await.ok();
    }
    for _ in 0..3 {
        sleep(A_WHILE).await;
        proxy.round_trips();
        for caller in &callers {
            caller.get("/me").await.ok();
            assert_eq!(proxy.round_trips(), 1);
        }
    }
}

#[tokio::test]
async fn connections_that_were_cut_cost_nobody_an_answer() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let token = app.with_token(&user.token(json!({"name": "t", "scopes": ["read"]})).await);
    let cut = "select pg_terminate_backend(pid) from pg_stat_activity
               where datname = current_database() and pid <> pg_backend_pid()";
    for caller in [&user, &token, &user, &token] {
        caller.get("/me").await.ok();
        sleep(A_WHILE).await;
        app.sql(cut).await;
        caller.get("/me").await.ok();
    }
}

#[tokio::test]
async fn who_waits_for_a_row_keeps_nobody_else_out() {
    let app = TestApp::with(|config| config.database_connections = 8).await;
    let (writer, reader) = (app.user().await, app.user().await);
    reader.get("/me").await.ok();
    let mut held = store::begin(&app.pool).await.unwrap();
    let lock = "select from users where id = $1::text::uuid for update";
    sqlx::query(lock).bind(writer.id()).execute(&mut *held).await.unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let writer = writer.clone();
        writers.spawn(async move { writer.patch("/me", json!({"name": "n"})).await });
    }
    sleep(Duration::from_millis(300)).await;
    let pool = &app.state.pool;
    assert_eq!((pool.size(), pool.num_idle()), (8, 0), "there are others for the reader");
    for _ in 0..20 {
        let begun = Instant::now();
        reader.get("/me").await.ok();
        assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    }
    held.rollback().await.unwrap();
    for answer in writers.join_all().await {
        answer.ok();
    }
}
