//! The log lines that other programs listen to, as they did to Flask-Login's signals.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use serde_json::json;
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, SubscriberExt as _};

use crate::TestApp;
use crate::app::PASSWORD;

/// Keeps the field `event` of every line that has one.
#[derive(Clone, Default)]
struct Signals(Arc<Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Signals {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        event.record(&mut self.clone());
    }
}

impl Visit for Signals {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "event" {
            self.0.lock().unwrap().push(value.to_owned());
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}

impl Signals {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

// On one thread, so that the layer sees what the service does and nothing of other tests.
#[tokio::test(flavor = "current_thread")]
async fn every_signal_of_flask_login_has_its_line() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let token = app.with_token(&user.token(json!({"name": "t"})).await);
    let signals = Signals::default();
    let subscriber = tracing_subscriber::registry().with(signals.clone());
    let _guard = tracing::subscriber::set_default(subscriber);
    user.get("/me").await.ok();
    assert_eq!(signals.take(), ["loaded_from_cookie"]);
    token.get("/me").await.ok();
    assert_eq!(signals.take(), ["loaded_from_request"]);
    app.anonymous().get("/me").await.problem(401, "unauthenticated");
    app.with_cookie("nonsense").get("/me").await.problem(401, "session_expired");
    assert_eq!(signals.take(), ["unauthorized", "unauthorized"]);
    app.stale().await;
    user.delete("/me").await.problem(401, "reauthentication_required");
    assert_eq!(signals.take(), ["loaded_from_cookie", "needs_refresh"]);
    user.post("/me/reauthenticate", json!({"password": PASSWORD})).await.ok();
    assert_eq!(signals.take(), ["loaded_from_cookie", "login_confirmed"]);
    user.with("user-agent", "another").get("/me").await.ok();
    assert_eq!(signals.take(), ["session_protected", "loaded_from_cookie"]);
    user.call("/logout").await.status(204);
    assert_eq!(signals.take(), ["logged_out"]);
    user.login().await.status(200);
    assert_eq!(signals.take(), ["logged_in"]);
    let wrong = json!({"identifier": user.username(), "password": "wrong password"});
    user.post("/login", wrong).await.problem(401, "invalid_credentials");
    assert_eq!(signals.take(), ["login_failed"]);
}
