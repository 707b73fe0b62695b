//! How many statements a call sends to PostgreSQL.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tracing_subscriber::layer::{Context, SubscriberExt as _};

use crate::TestApp;
use crate::app::PASSWORD;

/// Counts what sqlx logs of its statements.
#[derive(Clone, Default)]
struct Counter(Arc<AtomicUsize>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Counter {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "sqlx::query" {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Counter {
    fn take(&self) -> usize {
        self.0.swap(0, Ordering::Relaxed)
    }
}

// On one thread, so that the counter sees what the service does and nothing of other tests.
#[tokio::test(flavor = "current_thread")]
async fn who_is_calling_is_one_statement() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let token = app.with_token(&user.token(json!({"name": "t"})).await);
    token.get("/me").await.ok();
    let counter = Counter::default();
    let subscriber = tracing_subscriber::registry().with(counter.clone());
    let _guard = tracing::subscriber::set_default(subscriber);
    for (call, expected) in [("/me", 1), ("/session", 1)] {
        user.get(call).await.ok();
        assert_eq!(counter.take(), expected, "{call}");
        token.get(call).await.ok();
        assert_eq!(counter.take(), expected, "{call} by token");
    }
    app.anonymous().get("/me").await.problem(401, "unauthenticated");
    app.with_cookie("nonsense").get("/me").await.problem(401, "session_expired");
    app.with_token("pct_nonsense").get("/me").await.problem(401, "invalid_token");
    assert_eq!(counter.take(), 0, "what was never ours");
    let login = json!({"identifier": user.username(), "password": PASSWORD});
    let browser = app.anonymous();
    browser.post("/login", login).await.status(200);
    let login = counter.take();
    browser.post("/me/reauthenticate", json!({"password": PASSWORD})).await.ok();
    let reauthenticate = counter.take();
    browser.call("/logout").await.status(204);
    let logout = counter.take();
    println!("statements: login {login}, reauthenticate {reauthenticate}, logout {logout}");
    assert!(login <= 10 && reauthenticate <= 10 && logout <= 6, "login {login}, logout {logout}");
}
