//! The connections that are kept for who is calling.

use std::time::{Duration, Instant};

use portcullis::metrics::Metrics;
use portcullis::state::App;
use portcullis::store;
use reqwest::Method;
use serde_json::json;
use tokio::time::sleep;

use crate::TestApp;
use crate::app::serve;
use crate::lookups::all_at_once;
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
    let callers = [vec![user.clone(); 8], vec![token; 8]].concat();
    for pause in [Duration::ZERO, A_WHILE] {
        for callers in [&callers[..1], &callers[8..9], &callers[..8]] {
            all_at_once(callers).await.into_iter().for_each(|answer| drop(answer.ok()));
            sleep(pause).await;
            app.sql(cut).await;
            all_at_once(callers).await.into_iter().for_each(|answer| drop(answer.ok()));
        }
    }
}

#[tokio::test]
async fn who_waits_for_a_row_keeps_nobody_else_out() {
    let app = TestApp::with(|config| config.database_connections = 8).await;
    let (writer, reader) = (app.user().await, app.user().await);
    let token = app.with_token(&reader.token(json!({"name": "t", "scopes": ["read"]})).await);
    let readers = [vec![reader; 4], vec![token; 4]].concat();
    app.sql("update sessions set last_seen_at = now() - interval '2 minutes'").await;
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
    assert_eq!((pool.size(), pool.num_idle()), (6, 0), "there are others for the reader");
    for _ in 0..20 {
        let begun = Instant::now();
        all_at_once(&readers).await.into_iter().for_each(|answer| drop(answer.ok()));
        app.anonymous().get("/readyz").await.ok();
        assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    }
    held.rollback().await.unwrap();
    for answer in writers.join_all().await {
        answer.ok();
    }
}

#[tokio::test]
async fn who_does_not_wait_for_an_answer_costs_no_connection() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let token = app.with_token(&user.token(json!({"name": "t", "scopes": ["read"]})).await);
    let connections = async || -> Vec<i32> {
        let pids = "select pid from pg_stat_activity
                    where datname = current_database() and application_name = 'portcullis'";
        sqlx::query_scalar(pids).fetch_all(&app.pool).await.unwrap()
    };
    all_at_once(&[vec![user.clone(); 8], vec![token.clone(); 8]].concat()).await;
    sleep(Duration::from_millis(300)).await;
    let before = connections().await;
    let mut given_up = 0;
    for turn in 0..200 {
        let caller = if turn % 2 == 0 { &user } else { &token };
        let request = caller.request(Method::GET, "/me");
        let answer = request.timeout(Duration::from_micros(turn * 20)).send().await;
        given_up += usize::from(answer.is_err());
    }
    assert!(given_up > 10, "{given_up}");
    user.get("/me").await.ok();
    let after = connections().await;
    assert!(before.iter().all(|pid| after.contains(pid)), "{before:?} {after:?}");
}
