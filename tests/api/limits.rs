//! How much one account may have and change.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portcullis::config::{Config, Rate, Switch};
use portcullis::{openapi, sweep};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::app::PASSWORD;
use crate::{Answer, Client, TestApp};

/// Logs in by token, and returns the secret of the session.
async fn token_session(app: &TestApp, user: &Client) -> String {
    let login = json!({"identifier": user.username(), "password": PASSWORD, "transport": "token"});
    app.anonymous().post("/login", login).await.status(200).token()
}

fn few_sessions(config: &mut Config) {
    config.sessions_per_user = 5;
}

/// Makes the sessions of an account look unused, each for a minute less than the one before.
async fn age(app: &TestApp) {
    app.sql(
        "update sessions s set last_seen_at = now() - interval '1 day' + n * interval '1 minute'
         from (select id, row_number() over (order by id) as n from sessions) numbered
         where numbered.id = s.id",
    )
    .await;
}

#[tokio::test]
async fn a_login_beyond_the_limit_revokes_the_session_unused_longest() {
    let app = TestApp::with(few_sessions).await;
    let replica = app.replica().await;
    let (user, other) = (app.user().await, app.user().await);
    let mut sessions = vec![];
    for _ in 0..4 {
        sessions.push(token_session(&app, &user).await);
    }
    age(&app).await;
    // The first one is in use again, so the second one goes.
    app.sql("update sessions set last_seen_at = now() where id = (select id from sessions order by id limit 1)").await;
    sessions.push(token_session(&replica, &user).await);
    let codes = async |app: &TestApp| {
        let mut codes = vec![user.to(app).get("/me").await.code];
        for session in &sessions {
            codes.push(app.with_token(session).get("/me").await.code);
        }
        codes
    };
    let mine = "select from sessions s join users u on u.id = s.user_id where u.username = '";
    let mine = format!("{mine}{}'", user.username());
    assert_eq!(app.sql(&mine).await, 5);
    let codes = (codes(&app).await, codes(&replica).await);
    assert_eq!(codes.0, codes.1);
    assert_eq!(codes.0.iter().filter(|code| **code == 401).count(), 1, "{codes:?}");
    assert_eq!(*codes.0.last().unwrap(), 200);
    other.get("/me").await.ok();
    // Its record is gone, and its owner reads why.
    assert_eq!(app.count("session_records").await, app.count("sessions").await);
    let events = app.with_token(&sessions[4]).get("/me/activity").await.ok();
    let events = events["items"].as_array().unwrap();
    let revoked: Vec<_> = events.iter().filter(|e| e["kind"] == "session_revoked").collect();
    assert_eq!(revoked.len(), 1);
    assert_eq!(revoked[0]["details"], json!({"sessions": 1, "limit": 5}));
}

#[tokio::test]
async fn a_registration_and_a_login_that_replaces_a_session_revoke_no_other() {
    let app = TestApp::with(|config| config.sessions_per_user = 1).await;
    let user = app.user().await;
    user.get("/me").await.ok();
    user.login().await.status(200);
    user.get("/me").await.ok();
    assert_eq!((app.count("sessions").await, app.count("session_records").await), (1, 1));
    let revoked = "select from audit_events where kind = 'session_revoked'";
    assert_eq!(app.sql(revoked).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logins_at_the_same_moment_leave_no_more_sessions_than_the_limit() {
    let app = TestApp::with(|config| {
        few_sessions(config);
        config.throttle = Switch::Off;
    });
    let app = app.await;
    let replica = app.replica().await;
    let user = app.user().await;
    let mut logins = JoinSet::new();
    for i in 0..20 {
        let client = if i % 2 == 0 { &app } else { &replica }.anonymous();
        let login = json!({"identifier": user.username(), "password": PASSWORD});
        logins.spawn(async move { client.post("/login", login).await.code });
    }
    let codes = logins.join_all().await;
    assert_eq!(codes.iter().filter(|code| **code == 200).count(), 20, "{codes:?}");
    assert_eq!((app.count("sessions").await, app.count("session_records").await), (5, 5));
}

#[tokio::test]
async fn sessions_that_have_expired_do_not_count() {
    let app = TestApp::with(few_sessions).await;
    let user = app.user().await;
    for _ in 0..4 {
        token_session(&app, &user).await;
    }
    app.sql("update sessions set expires_at = now() where id <> (select id from sessions order by id limit 1)").await;
    for _ in 0..4 {
        token_session(&app, &user).await;
    }
    user.get("/me").await.ok();
    assert_eq!(app.count("sessions").await, 9);
}

#[tokio::test]
async fn accounts_over_a_limit_are_trimmed_to_what_was_used_last() {
    let app = TestApp::start().await;
    let replica = app.replica().await;
    let (user, other) = (app.user().await, app.user().await);
    let token = user.token(json!({"name": "used", "expires_at": null})).await;
    app.sql("update api_tokens set last_used_at = now()").await;
    let insert = format!(
        "with owner as (select '{}'::uuid as id), record as (
             insert into session_records (id, data, expiry_date)
             select 'record-' || n, '', now() + interval '2 days' from generate_series(1, 250) n
             returning id
         ), tokens as (
             insert into api_tokens (id, user_id, name, hash, scopes, created_at)
             select gen_random_uuid(), owner.id, 'old', decode(md5(n::text), 'hex'), '{{read}}', now() - interval '1 hour'
             from owner, generate_series(1, 120) n
         )
         insert into sessions (id, record_id, user_id, transport, remember, last_seen_at, expires_at, ends_at)
         select gen_random_uuid(), record.id, owner.id, 'cookie', false, now() - interval '1 hour',
             now() + interval '1 day', now() + interval '1 day'
         from owner, record",
        user.id()
    );
    app.sql(&insert).await;
    tokio::join!(sweep::trim(&app.state), sweep::trim(&replica.state));
    let of = |table: &str| format!("{table} where user_id = '{}'", user.id());
    assert_eq!((app.count(&of("sessions")).await, app.count(&of("api_tokens")).await), (100, 50));
    assert_eq!(app.count("session_records").await, app.count("sessions").await);
    user.get("/me").await.ok();
    app.with_token(&token).get("/me").await.ok();
    other.get("/me").await.ok();
    // A second time there is nothing to do.
    let events = app.count("audit_events").await;
    sweep::trim(&app.state).await;
    assert_eq!((app.count(&of("sessions")).await, app.count("audit_events").await), (100, events));
    for (kind, detail, rows) in
        [("session_revoked", "sessions", 151), ("token_revoked", "tokens", 71)]
    {
        let sum = format!(
            "select coalesce(sum((details->>'{detail}')::bigint), 0)::bigint from audit_events where kind = '{kind}'"
        );
        let sum: i64 = sqlx::query_scalar(&sum).fetch_one(&app.pool).await.unwrap();
        assert_eq!(sum, rows, "{kind}");
    }
}

#[tokio::test]
async fn expired_api_tokens_are_swept_after_90_days() {
    let app = TestApp::start().await;
    let user = app.user().await;
    for name in ["valid", "expired", "long expired"] {
        user.token(json!({"name": name})).await;
    }
    user.token(json!({"name": "forever", "expires_at": null})).await;
    app.sql("update api_tokens set expires_at = now() - interval '89 days' where name = 'expired'")
        .await;
    app.sql(
        "update api_tokens set expires_at = now() - interval '91 days' where name = 'long expired'",
    )
    .await;
    assert_eq!(app.sweep().await, 1);
    let left = user.get("/me/tokens").await.ok();
    let left: Vec<_> =
        left["items"].as_array().unwrap().iter().map(|t| t["name"].clone()).collect();
    assert_eq!(left, ["forever", "expired", "valid"]);
}

/// A service with five changes an hour for each account.
async fn few_writes() -> TestApp {
    TestApp::with(|config| {
        config.throttle_writes = Rate::parse("5/1h").unwrap();
        config.basic_auth = Switch::On;
    })
    .await
}

fn limited(answer: Answer) {
    let answer = answer.problem(429, "rate_limited");
    assert!(answer.header("ratelimit-policy").unwrap().starts_with(r#""writes";q=5;"#));
}

#[tokio::test]
async fn the_changes_of_one_account_are_limited_whatever_the_credential_and_the_instance() {
    let app = few_writes().await;
    let replica = app.replica().await;
    let (user, other) = (app.user().await, app.user().await);
    let bearer = app.with_token(&token_session(&app, &user).await);
    let program =
        app.with_token(&user.token(json!({"name": "t", "scopes": ["read", "write"]})).await);
    let pair = STANDARD.encode(format!("{}:{PASSWORD}", user.username()));
    let basic = app.anonymous().with("authorization", &format!("Basic {pair}"));
    let clients = [user.clone(), bearer, program, basic];
    for (n, client) in clients.iter().enumerate() {
        client.patch("/me", json!({"name": format!("{n}")})).await.ok();
    }
    for client in &clients {
        for app in [&app, &replica] {
            limited(client.to(app).patch("/me", json!({"name": "x"})).await);
        }
    }
    limited(user.post("/me/tokens", json!({"name": "t"})).await);
    limited(user.call("/me/email/verify").await);
    assert_eq!(user.get("/me").await.ok()["name"], "3");
    other.patch("/me", json!({"name": "Other"})).await.ok();
}

#[tokio::test]
async fn a_change_that_fails_or_changes_nothing_counts() {
    let app = few_writes().await;
    let (user, other) = (app.user().await, app.user().await);
    for _ in 0..2 {
        let taken = json!({"username": other.username()});
        user.patch("/me", taken).await.problem(409, "username_taken");
        user.patch("/me", json!({})).await.ok();
    }
    user.call("/me/email/verify").await.problem(409, "nothing_to_verify");
    limited(user.patch("/me", json!({"name": "A"})).await);
    // A request that is not valid changes nothing, and costs nothing.
    assert_eq!(other.patch("/me", json!({"name": 5})).await.code, 422);
    for _ in 0..5 {
        other.patch("/me", json!({})).await.ok();
    }
}

#[tokio::test]
async fn an_owner_whose_changes_are_exhausted_can_still_revoke_and_change_the_password() {
    let app = few_writes().await;
    let user = app.user().await;
    let (phone, tablet) = (token_session(&app, &user).await, token_session(&app, &user).await);
    let secret = user.token(json!({"name": "t", "scopes": ["read", "write"]})).await;
    let intruder = app.with_token(&secret);
    for _ in 0..4 {
        intruder.patch("/me", json!({})).await.ok();
    }
    limited(intruder.patch("/me", json!({})).await);
    let tokens = user.get("/me/tokens").await.ok();
    let id = tokens["items"][0]["id"].as_str().unwrap();
    user.delete(&format!("/me/tokens/{id}")).await.status(204);
    intruder.get("/me").await.problem(401, "invalid_token");
    let sessions = app.with_token(&phone).get("/session").await.ok();
    let id = sessions["session"]["id"].as_str().unwrap();
    user.delete(&format!("/me/sessions/{id}")).await.status(204);
    user.delete("/me/sessions").await.status(204);
    app.with_token(&tablet).get("/me").await.problem(401, "session_expired");
    user.post("/me/reauthenticate", json!({"password": PASSWORD})).await.ok();
    let change =
        json!({"current_password": PASSWORD, "new_password": "a quite different password"});
    user.put("/me/password", change).await.ok();
    let login = json!({"identifier": user.username(), "password": "a quite different password"});
    user.post("/login", login.clone()).await.ok();
    limited(user.patch("/me", json!({})).await);
    user.call("/logout").await.status(204);
    user.post("/login", login).await.ok();
    user.delete("/me").await.status(204);
}

#[tokio::test]
async fn admins_are_limited_in_their_own_account_and_not_in_others() {
    let app = few_writes().await;
    let (admin, user) = (app.admin().await, app.user().await);
    let token = admin.token(json!({"name": "t", "scopes": ["read", "write", "admin"]})).await;
    let path = format!("/users/{}", user.id());
    for n in 0..12 {
        let admin = if n % 2 == 0 { admin.clone() } else { app.with_token(&token) };
        admin.patch(&path, json!({"name": format!("{n}")})).await.ok();
    }
    for _ in 0..4 {
        admin.patch("/me", json!({})).await.ok();
    }
    limited(admin.patch("/me", json!({})).await);
    admin.patch(&path, json!({"name": "B"})).await.ok();
    // What admins do to an account is not its owner's.
    user.patch("/me", json!({"name": "C"})).await.ok();
}

#[tokio::test]
async fn without_throttling_changes_are_not_limited() {
    let app = TestApp::with(|config| {
        config.throttle = Switch::Off;
        config.throttle_writes = Rate::parse("1/1h").unwrap();
    });
    let app = app.await;
    let user = app.user().await;
    for _ in 0..5 {
        user.patch("/me", json!({})).await.ok();
    }
}

/// Calls of `/me` that are not limited: they revoke, delete, or check the password.
const UNLIMITED: [&str; 7] = [
    "delete /me",
    "delete /me/sessions",
    "delete /me/sessions/{id}",
    "delete /me/tokens/{id}",
    "post /me/reauthenticate",
    "put /me/password",
    // Not authenticated by the account that it changes.
    "post /email/verify",
];

/// By the OpenAPI document, so that a call that is added later is tried as well.
#[tokio::test]
async fn every_documented_change_of_the_own_account_is_limited_or_listed() {
    let app = few_writes().await;
    let document: Value = serde_json::from_str(&openapi::json().unwrap()).unwrap();
    let mut tried = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in ["post", "put", "patch", "delete"] {
            let operation = &item[method];
            let name = format!("{method} {path}");
            if operation.is_null() || !path.starts_with("/me") || UNLIMITED.contains(&&*name) {
                continue;
            }
            let user = app.user().await;
            for _ in 0..5 {
                user.patch("/me", json!({})).await.ok();
            }
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            let schema = match schema["$ref"].as_str() {
                Some(name) => document.pointer(name.trim_start_matches('#')).unwrap(),
                None => schema,
            };
            let request = user.request(method.to_uppercase().parse().unwrap(), path);
            let request = match &schema["example"] {
                Value::Null => request,
                example => request.json(example),
            };
            limited(Answer::to(request).await);
            assert!(operation["responses"]["429"].is_object(), "{name} documents no 429");
            tried += 1;
        }
    }
    assert!(tried >= 3, "{tried}");
}

/// Adds so many events of an account, and as many that it caused to another.
async fn add_events(app: &TestApp, user: &Client, other: Uuid, count: u32) {
    let insert = format!(
        "insert into audit_events (id, kind, outcome, user_id, actor_id, ip, user_agent, request_id)
         select gen_random_uuid(), 'user_updated', 'success',
             case when n % 2 = 0 then '{id}' else '{other}' end::uuid,
             case when n % 4 = 0 then null else '{id}' end::uuid,
             '203.0.113.9', 'browser', 'request'
         from generate_series(1, {count}) n",
        id = user.id(),
    );
    app.sql(&insert).await;
}

const PERSONAL: &str = "select from audit_events
    where (ip is not null or user_agent is not null or request_id is not null)";

#[tokio::test]
async fn an_account_with_very_many_events_is_deleted_at_once_and_the_sweep_anonymises_the_events() {
    const EVENTS: u32 = 20_000;
    let app = TestApp::start().await;
    let replica = app.replica().await;
    let (admin, user) = (app.admin().await, app.user().await);
    add_events(&app, &user, admin.id().parse().unwrap(), EVENTS).await;
    let before = app.sql(PERSONAL).await;
    let start = Instant::now();
    user.delete("/me").await.status(204);
    let took = start.elapsed();
    println!("an account with {EVENTS} events was deleted in {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    let left = app.sql(PERSONAL).await;
    assert!(left < before && left > u64::from(EVENTS / 2), "{left}");
    // Nobody reads what is still to be removed, neither by the account nor by those that it changed.
    for path in [format!("/audit?user_id={}", user.id()), "/audit?kind=user_updated".to_owned()] {
        for event in admin.get(&path).await.ok()["items"].as_array().unwrap() {
            for personal in ["ip", "user_agent", "request_id"] {
                assert_eq!(event[personal], Value::Null, "{event}");
            }
        }
    }
    // Of an account that is not deleted they are shown.
    let path = format!("/audit?user_id={}&kind=logged_in", admin.id());
    assert_eq!(admin.get(&path).await.ok()["items"][0]["ip"], "127.0.0.1");

    // A replica that stops in between loses nothing, and several share the work.
    let stopped = tokio::time::timeout(Duration::from_millis(50), sweep::once(&app.state)).await;
    assert!(stopped.is_err() && app.count("anonymizations").await == 1);
    let start = Instant::now();
    tokio::join!(sweep::once(&app.state), sweep::once(&replica.state));
    println!("the sweeps of two replicas took {:?}", start.elapsed());
    assert_eq!(app.count("anonymizations").await, 0);
    let of_user = format!("{PERSONAL} and coalesce(actor_id, user_id) = '{}'", user.id());
    assert_eq!(app.sql(&of_user).await, 0);
    assert!(app.count("audit_events").await > i64::from(EVENTS));
    // The address of the admin who did something to the account stays.
    assert!(app.sql(PERSONAL).await > 0);
}
