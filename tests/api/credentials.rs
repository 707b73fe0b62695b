//! Credentials that are switched off unless they are asked for: Basic, and `?api_key=`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portcullis::config::Switch;
use serde_json::json;

use crate::app::PASSWORD;
use crate::{Client, TestApp};

fn basic(client: &Client, name: &str, password: &str) -> Client {
    client
        .with("authorization", &format!("Basic {}", STANDARD.encode(format!("{name}:{password}"))))
}

#[tokio::test]
async fn basic_is_ignored_unless_it_is_on() {
    let app = TestApp::start().await;
    let user = app.user().await;
    basic(&app.anonymous(), user.username(), PASSWORD)
        .get("/me")
        .await
        .problem(401, "unauthenticated");
    basic(&user, user.username(), "wrong").get("/me").await.ok();
}

#[tokio::test]
async fn a_name_and_a_password_may_come_with_the_request() {
    let app = TestApp::with(|config| config.basic_auth = Switch::On).await;
    let (user, admin) = (app.user().await, app.admin().await);
    let client = basic(&app.anonymous(), user.username(), PASSWORD);
    let answer = client.get("/me").await.status(200);
    assert_eq!(answer.body["id"], user.id());
    assert_eq!(answer.header("set-cookie"), None);
    client.patch("/me", json!({"name": "A"})).await.ok();
    client.get("/me/sessions").await.problem(403, "session_required");
    client.patch("/me", json!({"email": "a@example.com"})).await.problem(403, "session_required");
    let by_admin = basic(&app.anonymous(), admin.username(), PASSWORD);
    by_admin.get("/users").await.ok();
    by_admin.delete(&format!("/users/{}", user.id())).await.problem(403, "session_required");
    // What is given and wrong is a 401, and the cookie behind it is not tried.
    for wrong in [
        basic(&user, user.username(), "wrong password"),
        basic(&user, "nobody", PASSWORD),
        user.with("authorization", "Basic nonsense"),
        user.with("authorization", "Basic"),
    ] {
        let answer = wrong.get("/me").await.problem(401, "invalid_credentials");
        assert_eq!(answer.header("www-authenticate"), Some(r#"Bearer realm="portcullis""#));
    }
    assert_eq!(app.count("sessions").await, 2);
    app.sql("update users set is_active = false").await;
    client.get("/me").await.problem(403, "account_disabled");
}

#[tokio::test]
async fn a_password_with_the_request_replaces_an_old_hash_once() {
    let app = TestApp::with(|config| config.basic_auth = Switch::On).await;
    let user = app.user().await;
    let plain = bcrypt::hash(PASSWORD, 4).unwrap();
    sqlx::query("update users set password_hash = $1")
        .bind(plain)
        .execute(&app.pool)
        .await
        .unwrap();
    let client = basic(&app.anonymous(), user.username(), PASSWORD);
    let mut hashes = Vec::new();
    for _ in 0..2 {
        client.get("/me").await.ok();
        let hash: String = sqlx::query_scalar("select password_hash from users")
            .fetch_one(&app.pool)
            .await
            .unwrap();
        hashes.push(hash);
    }
    assert!(hashes[0].starts_with("$bcrypt-sha256$v=2") && hashes[0] == hashes[1], "{hashes:?}");
}

#[tokio::test]
async fn a_request_that_brings_a_header_leaves_the_cookies_session_alone() {
    let app = TestApp::with(|config| config.basic_auth = Switch::On).await;
    let user = app.user().await;
    let token = user.token(json!({"name": "t"})).await;
    app.sql("update sessions set last_seen_at = now() - interval '1 hour'").await;
    for client in [
        user.with("authorization", &format!("Bearer {token}")),
        user.with("x-api-key", &token),
        basic(&user, user.username(), PASSWORD),
    ] {
        let answer = client.with("user-agent", "another").get("/me").await.status(200);
        assert_eq!(answer.header("set-cookie"), None);
    }
    let query = "select last_seen_at < now() - interval '59 minutes' and protected_at is null from sessions";
    let untouched: bool = sqlx::query_scalar(query).fetch_one(&app.pool).await.unwrap();
    assert!(untouched);
}

#[tokio::test]
async fn a_token_in_the_query_counts_only_where_that_is_on() {
    let off = TestApp::start().await;
    let user = off.user().await;
    let token = user.token(json!({"name": "t"})).await;
    let path = format!("/me?api_key={token}");
    off.anonymous().get(&path).await.problem(401, "unauthenticated");
    let list = off.anonymous().get(&format!("/me/sessions?api_key={token}")).await;
    assert_eq!(list.faults()[0].0, "api_key");
    let mut config = off.config.clone();
    config.api_key_query = Switch::On;
    let on = off.replica_with(config).await;
    assert_eq!(on.anonymous().get(&path).await.ok()["id"], user.id());
    let admin = off.admin().await.token(json!({"name": "t", "scopes": ["admin"]})).await;
    let faults = on.anonymous().get(&format!("/users?api_key={admin}&rol=admin")).await.faults();
    assert_eq!(faults[0].0, "rol");
    on.anonymous().get(&format!("/users?api_key={admin}&role=admin")).await.ok();
    on.anonymous().get("/me?api_key=nonsense").await.problem(401, "invalid_token");
    on.anonymous().get(&format!("{path}&api_key={token}")).await.problem(401, "invalid_token");
    user.to(&on).get("/me?api_key=nonsense").await.problem(401, "invalid_token");
    on.anonymous().with("x-api-key", "pct_nonsense").get(&path).await.problem(401, "invalid_token");
    // Of another service: not ours.
    on.anonymous().with("x-api-key", "AIzaNonsense").get(&path).await.ok();
}
