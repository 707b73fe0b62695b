//! Session protection, freshness and how long sessions are remembered.

use std::time::Duration;

use portcullis::config::{SessionProtection, Switch};
use serde_json::json;

use crate::app::PASSWORD;
use crate::{Client, TestApp};

/// An app that believes the tests' own address, so that clients can come from anywhere.
async fn app(protection: SessionProtection) -> TestApp {
    TestApp::with(|config| {
        config.session_protection = protection;
        config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await
}

async fn login(app: &TestApp, user: &Client, remember: bool) -> String {
    let browser = app.anonymous().with("x-forwarded-for", "203.0.113.9").with("user-agent", "one");
    let login = json!({"identifier": user.username(), "password": PASSWORD, "remember": remember});
    browser.post("/login", login).await.status(200).cookie()
}

fn at(app: &TestApp, secret: &str, address: &str, agent: &str) -> Client {
    app.with_cookie(secret).with("x-forwarded-for", address).with("user-agent", agent)
}

async fn is_fresh(client: &Client) -> bool {
    let answer = client.post("/me/tokens", json!({"name": "t"})).await;
    match answer.code {
        201 => true,
        _ => {
            answer.problem(401, "reauthentication_required");
            false
        }
    }
}

#[tokio::test]
async fn basic_makes_a_session_from_elsewhere_not_fresh_for_good() {
    let app = app(SessionProtection::Basic).await;
    let user = app.user().await;
    for (address, agent) in
        [("198.51.100.1", "one"), ("203.0.113.9", "two"), ("203.0.112.9", "one")]
    {
        let secret = login(&app, &user, false).await;
        let home = at(&app, &secret, "203.0.113.9", "one");
        assert!(is_fresh(&home).await);
        // Another address of the same network is no alarm.
        assert!(is_fresh(&at(&app, &secret, "203.0.113.200", "one")).await);
        let elsewhere = at(&app, &secret, address, agent);
        assert!(!is_fresh(&elsewhere).await, "{address} {agent}");
        elsewhere.get("/me").await.ok();
        // Going back undoes nothing; the password does.
        assert!(!is_fresh(&home).await);
        let session = home.get("/session").await.ok()["session"].clone();
        let is_past = sqlx::query_scalar::<_, bool>("select $1::text::timestamptz <= now()");
        let is_past = is_past.bind(session["fresh_until"].as_str());
        assert!(is_past.fetch_one(&app.pool).await.unwrap(), "{session}");
        let answer =
            elsewhere.post("/me/reauthenticate", json!({"password": PASSWORD})).await.status(200);
        let secret = answer.cookie();
        assert!(is_fresh(&at(&app, &secret, address, agent)).await);
        assert!(!is_fresh(&at(&app, &secret, "192.0.2.1", agent)).await);
        assert_eq!(app.sql("delete from audit_events where kind = 'session_protected'").await, 2);
    }
}

#[tokio::test]
async fn strong_ends_a_session_from_elsewhere_but_not_a_remembered_one() {
    let app = app(SessionProtection::Strong).await;
    let replica = app.replica().await;
    let user = app.user().await;
    let secret = login(&app, &user, false).await;
    at(&app, &secret, "198.51.100.1", "one").get("/me").await.problem(401, "session_expired");
    at(&replica, &secret, "203.0.113.9", "one").get("/me").await.problem(401, "session_expired");
    let secret = login(&app, &user, true).await;
    let elsewhere = at(&app, &secret, "198.51.100.1", "one");
    elsewhere.get("/me").await.ok();
    assert!(!is_fresh(&elsewhere).await);
    assert!(!is_fresh(&at(&app, &secret, "203.0.113.9", "one")).await);
}

#[tokio::test]
async fn off_compares_nothing() {
    let app = app(SessionProtection::Off).await;
    let user = app.user().await;
    let secret = login(&app, &user, false).await;
    assert!(is_fresh(&at(&app, &secret, "198.51.100.1", "two")).await);
}

#[tokio::test]
async fn each_address_family_has_a_network_of_its_own() {
    let app = app(SessionProtection::Basic).await;
    let user = app.user().await;
    let secret = login(&app, &user, false).await;
    // The first IPv6 network is taken on trust, when the use is next written down.
    app.sql("update sessions set last_seen_at = now() - interval '2 minutes'").await;
    assert!(is_fresh(&at(&app, &secret, "2001:db8:1:2::1", "one")).await);
    assert!(is_fresh(&at(&app, &secret, "203.0.113.9", "one")).await);
    assert!(is_fresh(&at(&app, &secret, "2001:db8:1:33::1", "one")).await);
    assert!(is_fresh(&at(&app, &secret, "::ffff:203.0.113.77", "one")).await);
    assert!(!is_fresh(&at(&app, &secret, "2001:db8:2::1", "one")).await);
}

#[tokio::test]
async fn a_backend_that_hands_on_a_cookie_is_not_compared() {
    let app = app(SessionProtection::Strong).await;
    let user = app.user().await;
    let secret = login(&app, &user, false).await;
    app.with_cookie(&secret).with("user-agent", "python-requests").get("/session").await.ok();
    assert!(is_fresh(&at(&app, &secret, "203.0.113.9", "one")).await);
}

#[tokio::test]
async fn a_forged_address_changes_nothing_without_a_trusted_proxy() {
    let app = TestApp::with(|config| config.session_protection = SessionProtection::Strong).await;
    let user = app.user().await;
    for forged in ["198.51.100.1", "::1", "nonsense", ""] {
        let forger = user.with("x-forwarded-for", forged);
        assert_eq!(forger.login().await.ok()["session"]["ip"], "127.0.0.1");
    }
}

#[tokio::test]
async fn freshness_ends_by_itself() {
    let app = TestApp::start().await;
    let user = app.user().await;
    assert!(is_fresh(&user).await);
    app.sql("update sessions set authenticated_at = now() - interval '901 seconds'").await;
    assert!(!is_fresh(&user).await);
}

#[tokio::test]
async fn a_login_says_for_how_long_it_is_remembered_within_what_is_allowed() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let login = |more: serde_json::Value| {
        let mut body = json!({"identifier": user.username(), "password": PASSWORD});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    for (more, age) in [
        (json!({"remember_for": "7d"}), "Max-Age=604800"),
        (json!({"remember": true, "remember_for": "1h"}), "Max-Age=3600"),
        (json!({"remember_for": "90d"}), "Max-Age=2592000"),
    ] {
        let answer = user.post("/login", login(more.clone())).await.status(200);
        assert!(answer.header("set-cookie").unwrap().ends_with(age), "{more}");
        assert_eq!(answer.body["session"]["remember"], true);
    }
    for more in [
        json!({"remember_for": "soon"}),
        json!({"remember_for": "-1d"}),
        json!({"remember": false, "remember_for": "1d"}),
    ] {
        assert_eq!(user.post("/login", login(more)).await.faults()[0].0, "remember_for");
    }
    let token =
        user.post("/login", login(json!({"transport": "token", "remember_for": "1d"}))).await.ok();
    assert_eq!(token["session"]["remember"], true);
}

/// Waits until the record of the session lasts as long as the session and a day: it is extended after it.
async fn extended(app: &TestApp) {
    app.touched().await;
    let extended = "select exists (
        select from sessions s join session_records r on r.id = s.record_id
        where r.expiry_date >= s.ends_at + interval '1 day'
    )";
    let waits = async {
        while !sqlx::query_scalar::<_, bool>(extended).fetch_one(&app.pool).await.unwrap() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waits).await.unwrap();
}

#[tokio::test]
async fn use_extends_a_remembered_session_where_that_is_on() {
    let app = TestApp::with(|config| config.remember_refresh = Switch::On).await;
    let user = app.user().await;
    let login = json!({"identifier": user.username(), "password": PASSWORD, "remember_for": "10d"});
    let answer = user.post("/login", login).await.status(200);
    // The service decides when it ends. The cookie lasts until PORTCULLIS_REMEMBER_MAX.
    assert!(answer.header("set-cookie").unwrap().ends_with("Max-Age=31536000"));
    app.sql("update sessions set last_seen_at = now() - interval '9 days', ends_at = now() + interval '1 day', expires_at = now() + interval '1 day'").await;
    app.sql("update session_records set expiry_date = now() + interval '2 days'").await;
    user.get("/me").await.ok();
    extended(&app).await;
    let days: (f64, f64) = sqlx::query_as(
        "select extract(epoch from s.expires_at - now())::float8 / 86400, extract(epoch from r.expiry_date - now())::float8 / 86400
         from sessions s join session_records r on r.id = s.record_id",
    ).fetch_one(&app.pool).await.unwrap();
    assert!((days.0 - 10.0).abs() < 0.01 && (days.1 - 11.0).abs() < 0.01, "{days:?}");
    // What was extended by the very request that gives the password again stays so.
    app.sql("update sessions set last_seen_at = now() - interval '2 minutes', ends_at = now() + interval '1 day', expires_at = now() + interval '1 day'").await;
    user.post("/me/reauthenticate", json!({"password": PASSWORD})).await.ok();
    let days: f64 = sqlx::query_scalar(
        "select extract(epoch from min(expiry_date) - now())::float8 / 86400 from session_records
         where renewed_as is null",
    )
    .fetch_one(&app.pool)
    .await
    .unwrap();
    assert!((days - 11.0).abs() < 0.01, "{days}");
    // One that is not remembered keeps its end.
    user.login().await.status(200);
    app.sql("update sessions set last_seen_at = now() - interval '2 minutes', ends_at = now() + interval '1 hour', expires_at = now() + interval '1 minute'").await;
    user.get("/me").await.ok();
    app.touched().await;
    let hours: f64 = sqlx::query_scalar(
        "select extract(epoch from expires_at - now())::float8 / 3600 from sessions",
    )
    .fetch_one(&app.pool)
    .await
    .unwrap();
    assert!((hours - 1.0).abs() < 0.01, "{hours}");
}

/// A service that extends remembered sessions up to 20 days, and a user whose session began this long ago.
async fn remembered_since(days: f64) -> (TestApp, Client) {
    let app = TestApp::with(|config| {
        config.remember_refresh = Switch::On;
        config.remember_for = Duration::from_secs(10 * DAY);
        config.remember_max = Duration::from_secs(20 * DAY);
    })
    .await;
    let user = app.user().await;
    let login = json!({"identifier": user.username(), "password": PASSWORD, "remember": true});
    let answer = user.post("/login", login).await.status(200);
    assert!(answer.header("set-cookie").unwrap().ends_with("Max-Age=1728000"));
    // As the service left it that extended sessions without an end.
    let begun = format!(
        "update sessions set created_at = now() - {days} * interval '1 day', last_seen_at = now() - interval '1 hour',
             expires_at = now() + interval '9 days', ends_at = now() + interval '9 days'"
    );
    app.sql(&begun).await;
    app.sql("update session_records set expiry_date = now() + interval '2 days'").await;
    (app, user)
}

const DAY: u64 = 24 * 60 * 60;

#[tokio::test]
async fn activity_extends_a_remembered_session_up_to_its_absolute_end_only() {
    let (app, user) = remembered_since(15.0).await;
    user.get("/me").await.ok();
    extended(&app).await;
    let days = "select extract(epoch from expires_at - now())::float8 / 86400 from sessions
                union all select extract(epoch from ends_at - now())::float8 / 86400 from sessions
                union all select extract(epoch from max(expiry_date) - now())::float8 / 86400 - 1 from session_records";
    let days: Vec<f64> = sqlx::query_scalar(days).fetch_all(&app.pool).await.unwrap();
    assert!(days.iter().all(|days| (days - 5.0).abs() < 0.01), "{days:?}");
    // Re-authentication renews the secret of the same session. It does not move its end.
    let renewed = user.post("/me/reauthenticate", json!({"password": PASSWORD})).await;
    let renewed = renewed.status(200);
    let cookie = renewed.header("set-cookie").unwrap();
    let (_, seconds) = cookie.rsplit_once("Max-Age=").unwrap();
    let seconds: u64 = seconds.parse().unwrap();
    assert!((5 * DAY - 60..=5 * DAY).contains(&seconds), "{cookie}");
    let session = user.get("/session").await.ok()["session"].clone();
    let listed = user.get("/me/sessions").await.ok()["items"][0].clone();
    let end: String = sqlx::query_scalar(
        r#"select to_char((created_at + interval '20 days') at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') from sessions"#,
    )
    .fetch_one(&app.pool)
    .await
    .unwrap();
    for expires_at in [&renewed.body["session"], &session, &listed] {
        assert_eq!(expires_at["expires_at"], end, "{expires_at}");
    }
}

#[tokio::test]
async fn a_session_that_was_extended_past_the_absolute_end_before_an_upgrade_has_ended() {
    let (app, user) = remembered_since(20.1).await;
    user.get("/me").await.problem(401, "session_expired");
    let other = app.anonymous();
    let login = json!({"identifier": user.username(), "password": PASSWORD});
    other.post("/login", login).await.ok();
    assert_eq!(other.get("/me/sessions").await.ok()["items"].as_array().unwrap().len(), 1);
    // It ends even if it was used a moment ago, and before the end it says so.
    app.sql("update sessions set created_at = now() - interval '19.9 days', last_seen_at = now() where remember")
        .await;
    let session = user.get("/session").await.ok()["session"].clone();
    let left: f64 = sqlx::query_scalar(
        "select extract(epoch from $1::text::timestamptz - now())::float8 / 86400",
    )
    .bind(session["expires_at"].as_str().unwrap())
    .fetch_one(&app.pool)
    .await
    .unwrap();
    assert!((left - 0.1).abs() < 0.01, "{session}");
}

#[tokio::test]
async fn without_refresh_a_remembered_session_has_no_second_end() {
    let (app, user) = remembered_since(25.0).await;
    let mut config = app.config.clone();
    config.remember_refresh = Switch::Off;
    let replica = app.replica_with(config).await;
    user.to(&replica).get("/me").await.ok();
}
