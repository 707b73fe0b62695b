//! What Prometheus reads.

mod process;

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Request, header};
use portcullis::config::Switch;
use portcullis::exposition;
use portcullis::store::sessions;
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tower::ServiceExt as _;

use crate::TestApp;
use crate::app::{Answer, PASSWORD};
use crate::smtp::{Failure, Mailbox};
use crate::throttle::{basic, right, use_up, wrong};

/// How long the service may take to tell what is going on.
const PATIENCE: Duration = Duration::from_secs(30);

/// Every series by its name and labels, and what it says.
#[derive(Debug)]
pub struct Series(BTreeMap<String, f64>);

impl Series {
    fn read(text: &str) -> Self {
        assert!(text.ends_with("# EOF\n"), "{text}");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self(
            lines
                .map(|line| {
                    let (series, value) = line.rsplit_once(' ').unwrap();
                    (series.to_owned(), value.parse().unwrap())
                })
                .collect(),
        )
    }

    #[track_caller]
    pub fn of(&self, series: &str) -> f64 {
        *self.0.get(series).unwrap_or_else(|| panic!("no {series} in {:#?}", self.0.keys()))
    }

    /// How many requests were answered so.
    #[track_caller]
    fn answered(&self, method: &str, route: &str, status: u16) -> f64 {
        self.of(&format!(
            r#"http_server_request_duration_seconds_count{{http_request_method="{method}",http_route="{route}",http_response_status_code="{status}"}}"#
        ))
    }
}

/// What a service tells that listens with metrics.
async fn series(app: &TestApp) -> Series {
    let request = Request::get("/metrics").body(Body::empty()).unwrap();
    let response = exposition::router(&app.state).oneshot(request).await.unwrap();
    assert_eq!(
        response.headers()[header::CONTENT_TYPE],
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    let text = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    Series::read(std::str::from_utf8(&text).unwrap())
}

/// Waits until the service tells something.
async fn until(app: &TestApp, holds: impl Fn(&Series) -> bool) {
    let told = async {
        while !holds(&series(app).await) {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, told).await.unwrap();
}

async fn watched() -> TestApp {
    TestApp::with(|config| config.metrics_listen = Some(([127, 0, 0, 1], 0).into())).await
}

#[tokio::test]
async fn requests_are_counted_by_what_a_client_cannot_choose() {
    let app = watched().await;
    let user = app.user().await;
    for _ in 0..3 {
        user.get("/me").await.ok();
    }
    user.get(&format!("/users/{}", user.id())).await.status(403);
    let before = series(&app).await;
    assert_eq!(before.answered("POST", "/users", 201), 1.0);
    assert_eq!(before.answered("GET", "/me", 200), 3.0);
    assert_eq!(before.answered("GET", "/users/{id}", 403), 1.0);
    // Whatever a stranger makes up is one series, or two.
    for n in 0..50 {
        app.anonymous().get(&format!("/made-up-{n}")).await.status(404);
        let method = Method::from_bytes(format!("MADEUP{n}").as_bytes()).unwrap();
        Answer::to(app.anonymous().request(method, "/me")).await.status(405);
        app.anonymous().get(&format!("/users/made-up-{n}")).await.status(401);
    }
    let after = series(&app).await;
    assert_eq!(after.answered("GET", "_OTHER", 404), 50.0);
    assert_eq!(after.answered("_OTHER", "/me", 405), 50.0);
    assert_eq!(after.of(r#"http_server_active_requests{http_request_method="GET"}"#), 0.0);
    let grown = after.0.len() - before.0.len();
    // Three histograms of 14 bounds, +Inf, a sum and a count, and a gauge for the method.
    assert_eq!(grown, 3 * 17 + 1, "{after:#?}");
    assert!(!after.0.keys().any(|series| series.contains("made-up") || series.contains("MADEUP")));
}

#[tokio::test]
async fn a_request_that_its_client_gave_up_is_not_under_way_for_ever() {
    let app = watched().await;
    let user = app.user().await;
    let mut lock = portcullis::store::begin(&app.pool).await.unwrap();
    sqlx::query("lock table users in access exclusive mode").execute(&mut *lock).await.unwrap();
    let asked = tokio::spawn(async move { user.get("/me").await });
    let under_way = r#"http_server_active_requests{http_request_method="GET"}"#;
    until(&app, |series| series.0.get(under_way) == Some(&1.0)).await;
    asked.abort();
    until(&app, |series| series.of(under_way) == 0.0).await;
    lock.rollback().await.unwrap();
}

#[tokio::test]
async fn logins_are_counted_by_their_outcome_and_refusals_by_the_limit() {
    let app = watched().await;
    let (user, other) = (app.user().await, app.user().await);
    let outcomes = async || {
        let series = series(&app).await;
        let of = |outcome| series.of(&format!(r#"portcullis_logins_total{{outcome="{outcome}"}}"#));
        (of("success"), of("invalid_credentials"))
    };
    assert_eq!(outcomes().await, (0.0, 0.0));
    app.anonymous().post("/login", right(user.username())).await.ok();
    app.anonymous().post("/login", wrong(user.username())).await.status(401);
    app.anonymous().post("/login", wrong("nobody")).await.status(401);
    assert_eq!(outcomes().await, (1.0, 2.0));
    use_up(&app.anonymous(), other.username()).await;
    app.sql("update users set is_active = false").await;
    app.anonymous().post("/login", right(user.username())).await.status(403);
    let series = series(&app).await;
    assert_eq!(series.of(r#"portcullis_logins_total{outcome="rate_limited"}"#), 1.0);
    assert_eq!(series.of(r#"portcullis_logins_total{outcome="account_disabled"}"#), 1.0);
    assert_eq!(series.of(r#"portcullis_throttled_total{limit="account"}"#), 1.0);
}

#[tokio::test]
async fn logins_by_a_code_are_logins() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |config| config.login_code = Switch::On).await;
    app.verified_user_at("alice@example.com").await;
    let ask = json!({"email": "alice@example.com"});
    let client = app.anonymous();
    client.post("/login/code", ask).await.status(202);
    app.deliver().await;
    let code = mailbox.next_to("alice@example.com", 1).await.code();
    for (code, status) in [("AAAA-AAAA", 401), (&*code, 200)] {
        let given = json!({"email": "alice@example.com", "code": code});
        client.post("/login/code/verify", given).await.status(status);
    }
    let series = series(&app).await;
    assert_eq!(series.of(r#"portcullis_logins_total{outcome="success"}"#), 1.0);
    assert_eq!(series.of(r#"portcullis_logins_total{outcome="invalid_credentials"}"#), 1.0);
}

#[tokio::test]
async fn wrong_passwords_given_by_basic_are_counted_as_failed_logins() {
    let app = TestApp::with(|config| {
        config.metrics_listen = Some(([127, 0, 0, 1], 0).into());
        config.basic_auth = Switch::On;
    });
    let app = app.await;
    let user = app.user().await;
    basic(&app, user.username(), PASSWORD).get("/me").await.ok();
    for _ in 0..3 {
        basic(&app, user.username(), "a wrong one").get("/me").await.status(401);
    }
    let series = series(&app).await;
    assert_eq!(series.of(r#"portcullis_logins_total{outcome="invalid_credentials"}"#), 3.0);
    assert_eq!(series.of(r#"portcullis_logins_total{outcome="success"}"#), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_hashing_is_told_with_those_whom_it_refused() {
    let cheap = watched().await;
    let user = cheap.user().await;
    let mut config = cheap.config.clone();
    config.bcrypt_cost = 10;
    config.throttle = Switch::Off;
    config.password_queue_wait = Duration::from_secs(2);
    let app = cheap.replica_with(config).await;
    // Its hash is of the cost that is made now, from here on.
    app.anonymous().post("/login", right(user.username())).await.ok();
    let mut logins = JoinSet::new();
    for _ in 0..90 {
        let client = app.anonymous();
        let login = right(user.username());
        logins.spawn(async move { client.post("/login", login).await.code });
    }
    until(&app, |series| series.of("portcullis_password_hash_queue_length") > 0.0).await;
    let answers = logins.join_all().await;
    let busy = answers.iter().filter(|code| **code == 503).count();
    let looked_at = 1 + answers.iter().filter(|code| **code == 200).count();
    let series = series(&app).await;
    println!("{busy} shed, {looked_at} logged in");
    assert!(busy > 0 && looked_at > 1, "{answers:?}");
    assert_eq!(series.of("portcullis_shed_total"), busy as f64);
    assert_eq!(series.of(r#"portcullis_logins_total{outcome="busy"}"#), busy as f64);
    assert_eq!(series.of("portcullis_password_hash_queue_length"), 0.0);
    assert_eq!(series.of("portcullis_password_hash_run_seconds_count"), looked_at as f64);
    assert_eq!(series.of("portcullis_password_hash_wait_seconds_count"), looked_at as f64);
    let (run, wait) = (
        series.of("portcullis_password_hash_run_seconds_sum") / looked_at as f64,
        series.of("portcullis_password_hash_wait_seconds_sum"),
    );
    assert!(run > 0.02 && wait > run, "{run} {wait}");
}

#[tokio::test]
async fn mails_are_counted_by_their_outcome() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |_| {}).await;
    for failure in [Failure::TemporaryAfterData, Failure::UnknownRecipient] {
        mailbox.fail(failure, 1);
        app.user_at(&format!("user-{}@example.com", rand::random::<u32>())).await;
        app.deliver().await;
    }
    app.sql("update outbox set due_at = now()").await;
    app.deliver().await;
    let series = series(&app).await;
    for outcome in ["sent", "put_off", "failed"] {
        let name = format!(r#"portcullis_mails_total{{outcome="{outcome}"}}"#);
        assert_eq!(series.of(&name), 1.0, "{outcome}");
    }
}

#[tokio::test]
async fn what_was_swept_is_counted_by_its_table() {
    let app = watched().await;
    app.user().await;
    app.sql("update sessions set expires_at = now() - interval '1 second'").await;
    app.sql("insert into session_records values ('a', '', now() - interval '1 second'), ('b', '', now() - interval '1 second')").await;
    app.sweep().await;
    let series = series(&app).await;
    for (table, rows) in [
        ("sessions", 1.0),
        ("session_records", 2.0),
        ("audit_events", 0.0),
        ("api_tokens", 0.0),
        ("former_usernames", 0.0),
    ] {
        let name = format!(r#"portcullis_swept_rows_total{{table="{table}"}}"#);
        assert_eq!(series.of(&name), rows, "{table}");
    }
}

#[tokio::test]
async fn few_sessions_are_counted_and_many_are_estimated() {
    let app = TestApp::start().await;
    app.user().await;
    app.user().await;
    let expire = "update sessions set expires_at = now() - interval '1 second' where id = (select id from sessions limit 1)";
    app.sql(expire).await;
    assert_eq!(sessions::count(&app.pool).await.unwrap(), 1);
    app.sql("insert into session_records select 'r' || n, '', now() + interval '1 day' from generate_series(1, 20000) n").await;
    app.sql("insert into sessions (id, record_id, user_id, transport, remember, expires_at, ends_at)
             select gen_random_uuid(), 'r' || n, (select id from users limit 1), 'cookie', true, now() + interval '1 day', now() + interval '1 day'
             from generate_series(1, 20000) n").await;
    // Nobody has looked at the table yet.
    let unknown = sessions::count(&app.pool).await.unwrap();
    app.sql("analyze sessions").await;
    let known = sessions::count(&app.pool).await.unwrap();
    assert!(unknown > 10_000 && known == 20_002, "{unknown} {known}");
}

#[tokio::test]
async fn the_reserved_connections_and_the_waits_that_got_none_are_counted() {
    let app =
        TestApp::with(|config| config.database_acquire_timeout = Duration::from_secs(1)).await;
    let user = app.user().await;
    user.get("/me").await.ok();
    let reserved = async || {
        let series = series(&app).await;
        let count = |state: &str| {
            let name = format!(r#"db_client_connection_count{{pool="reserved",state="{state}"}}"#);
            series.of(&name)
        };
        let timeouts = series.of(r#"db_client_connection_timeouts_total{pool="reserved"}"#);
        (count("used"), count("idle"), timeouts)
    };
    until(&app, |series| {
        series.of(r#"db_client_connection_count{pool="reserved",state="used"}"#) == 0.0
    })
    .await;
    assert_eq!(reserved().await, (0.0, 1.0, 0.0));
    // All four are taken, and the next lookup waits in vain.
    let mut taken = Vec::new();
    for _ in 0..4 {
        taken.push(app.state.reserve.take().await.unwrap());
    }
    assert_eq!(reserved().await, (4.0, 0.0, 0.0));
    user.get("/me").await.problem(503, "database_unavailable");
    assert_eq!(reserved().await, (4.0, 0.0, 1.0));
    taken.into_iter().for_each(portcullis::store::reserve::Reserved::give_back);
    user.get("/me").await.ok();
    until(&app, |series| {
        series.of(r#"db_client_connection_count{pool="reserved",state="idle"}"#) == 4.0
    })
    .await;
}
