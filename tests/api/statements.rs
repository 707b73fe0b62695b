//! How many statements a call sends to PostgreSQL.

use std::sync::{Arc, Mutex};

use serde_json::json;
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, SubscriberExt as _};

use crate::TestApp;
use crate::app::PASSWORD;
use crate::lookups::all_at_once;

/// Collects what sqlx logs of its statements.
#[derive(Clone, Default)]
struct Statements(Arc<Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Statements {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "sqlx::query" {
            event.record(&mut Summary(&mut self.0.lock().unwrap()));
        }
    }
}

/// Takes the statement out of an event.
struct Summary<'a>(&'a mut Vec<String>);

impl Visit for Summary<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        // Not what a new connection begins with: one is made when no other has come back yet.
        if field.name() == "summary" && !value.starts_with("SELECT $1::regtype::oid") {
            self.0.push(value.to_owned());
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

impl Statements {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

// On one thread, so that the counter sees what the service does and nothing of other tests.
#[tokio::test(flavor = "current_thread")]
async fn who_is_calling_is_one_statement() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let token =
        app.with_token(&user.token(json!({"name": "t", "scopes": ["read", "write"]})).await);
    token.get("/me").await.ok();
    app.used("api_tokens", "last_used_at").await;
    // It is logged a moment after it can be seen.
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let statements = Statements::default();
    let subscriber = tracing_subscriber::registry().with(statements.clone());
    let _guard = tracing::subscriber::set_default(subscriber);
    for (call, expected) in [("/me", 1), ("/session", 1), ("/forward-auth", 1)] {
        for client in [&user, &token] {
            client.get(call).await.ok();
            let sent = statements.take();
            assert_eq!(sent.len(), expected, "{call}: {sent:?}");
        }
    }
    app.anonymous().get("/readyz").await.ok();
    assert_eq!(statements.take().len(), 1, "readiness is one read");
    app.anonymous().get("/me").await.problem(401, "unauthenticated");
    app.with_cookie("nonsense").get("/me").await.problem(401, "session_expired");
    app.with_token("pct_nonsense").get("/me").await.problem(401, "invalid_token");
    assert!(statements.take().is_empty(), "what was never ours");
    let mut users = vec![];
    for _ in 0..30 {
        users.push(app.user().await);
    }
    app.sql("update sessions set last_seen_at = now() - interval '2 minutes'").await;
    statements.take();
    all_at_once(&users).await.into_iter().for_each(|answer| drop(answer.ok()));
    app.touched().await;
    let sent = statements.take();
    for statement in ["select w.at", "update sessions s"] {
        let sent = sent.iter().filter(|sent| sent.starts_with(statement)).count();
        println!("30 requests at once: {sent} x {statement}");
        assert!((1..=10).contains(&sent), "{statement}");
    }
    let login = json!({"identifier": user.username(), "password": PASSWORD});
    let browser = app.anonymous();
    browser.post("/login", login).await.status(200);
    let login = statements.take();
    browser.post("/me/reauthenticate", json!({"password": PASSWORD})).await.ok();
    let reauthenticate = statements.take();
    browser.call("/logout").await.status(204);
    let logout = statements.take();
    for (call, sent, most) in
        [("login", login, 15), ("reauthenticate", reauthenticate, 14), ("logout", logout, 7)]
    {
        println!("{call}: {} statements", sent.len());
        assert!((1..=most).contains(&sent.len()), "{call}: {sent:#?}");
    }
}
