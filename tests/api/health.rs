use std::time::{Duration, Instant};

use portcullis::config::Config;
use portcullis::metrics::Metrics;
use portcullis::state::App;
use portcullis::store;
use sqlx::postgres::PgConnectOptions;

use crate::TestApp;
use crate::app::serve;

#[tokio::test]
async fn a_service_that_is_well_says_so() {
    let app = TestApp::start().await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(app.anonymous().get(path).await.ok()["status"], "ok");
    }
}

#[tokio::test]
async fn without_its_database_the_service_lives_and_is_not_ready() {
    let app = TestApp::start().await;
    let secret = app.user().await.login().await.cookie();
    let nowhere = PgConnectOptions::new_without_pgpass().socket("/nonexistent").database("none");
    let state = App::new(
        Config::defaults().unwrap(),
        store::pool(nowhere, &Config::defaults().unwrap()),
        Metrics::default(),
    );
    let mut orphan = app;
    orphan.base = serve(state).await;
    let start = Instant::now();
    orphan.anonymous().get("/healthz").await.ok();
    orphan.anonymous().get("/readyz").await.problem(503, "database_unavailable");
    // Never a false 401.
    let client = orphan.with_cookie(&secret);
    client.get("/me").await.problem(503, "database_unavailable");
    client.call("/logout").await.problem(503, "database_unavailable");
    let login = serde_json::json!({"identifier": "alice", "password": "x"});
    client.post("/login", login).await.problem(503, "database_unavailable");
    let new = serde_json::json!({"username": "alice", "password": "long enough"});
    client.post("/users", new).await.problem(503, "database_unavailable");
    assert!(start.elapsed() < Duration::from_secs(25), "{:?}", start.elapsed());
}
