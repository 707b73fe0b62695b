//! `/me/tokens`, and what API tokens may do.

use reqwest::Method;
use std::time::Duration;

use serde_json::{Value, json};

use crate::{Answer, TestApp};

#[tokio::test]
async fn a_token_is_shown_once_and_works_until_it_is_ended() {
    let app = TestApp::start().await;
    let replica = app.replica().await;
    let user = app.user().await;
    let answer = user.post("/me/tokens", json!({"name": " backup "})).await.status(201);
    let secret = answer.token();
    let token = answer.body["api_token"].clone();
    assert!(secret.starts_with("pct_") && secret.len() == 36, "{secret}");
    assert_eq!((&token["name"], &token["scopes"]), (&json!("backup"), &json!(["read"])));
    assert_eq!((&token["expires_at"], &token["last_used_at"]), (&Value::Null, &Value::Null));
    assert_eq!(
        answer.header("location"),
        Some(&*format!("/me/tokens/{}", token["id"].as_str().unwrap()))
    );
    let with_key = app.anonymous().with("x-api-key", &secret);
    for client in [app.with_token(&secret), replica.with_token(&secret), with_key] {
        assert_eq!(client.get("/me").await.ok()["id"], user.id());
        let session = client.get("/session").await.ok();
        assert!(session.get("session").is_none(), "{session}");
        assert_eq!(client.get("/me").await.header("set-cookie"), None);
    }
    let list = user.get("/me/tokens").await.status(200);
    assert!(!list.text.contains(&secret[4..]));
    assert!(list.body["items"][0]["last_used_at"].is_string());
    let (stranger, path) =
        (app.user().await, format!("/me/tokens/{}", token["id"].as_str().unwrap()));
    stranger.delete(&path).await.problem(404, "not_found");
    user.delete(&path).await.status(204);
    replica.with_token(&secret).get("/me").await.problem(401, "invalid_token");
    user.delete(&path).await.problem(404, "not_found");
}

#[tokio::test]
async fn the_database_never_holds_the_secret_of_a_token() {
    let app = TestApp::start().await;
    let secret = app.user().await.token(json!({"name": "t"})).await;
    let row: String = sqlx::query_scalar("select row(t)::text from api_tokens t")
        .fetch_one(&app.pool)
        .await
        .unwrap();
    assert!(!row.contains(&secret) && !row.contains(&secret[4..]), "{row}");
}

#[tokio::test]
async fn a_token_may_do_what_its_scopes_say() {
    let app = TestApp::start().await;
    let (user, admin) = (app.user().await, app.admin().await);
    let token = async |client: &crate::Client, scopes: &[&str]| {
        app.with_token(&client.token(json!({"name": "t", "scopes": scopes})).await)
    };
    let (read, write) = (token(&user, &["read"]).await, token(&user, &["write"]).await);
    read.get("/me").await.ok();
    let answer = read.patch("/me", json!({"name": "A"})).await.problem(403, "insufficient_scope");
    let challenge = r#"Bearer realm="portcullis", error="insufficient_scope", scope="write""#;
    assert_eq!(answer.header("www-authenticate"), Some(challenge));
    write.patch("/me", json!({"name": "A"})).await.ok();
    write.get("/me").await.problem(403, "insufficient_scope");
    // Another email address is for a fresh session, and a token is none.
    write.patch("/me", json!({"email": "a@example.com"})).await.problem(403, "session_required");

    let id = user.id();
    let plain = token(&admin, &["read", "write"]).await;
    plain.get("/users").await.problem(403, "insufficient_scope");
    let by_admin = token(&admin, &["admin"]).await;
    by_admin.get("/users").await.ok();
    by_admin.get(&format!("/users/{id}/sessions")).await.ok();
    by_admin.patch(&format!("/users/{id}"), json!({"name": "B"})).await.ok();
    by_admin
        .post("/users", json!({"username": "carol", "password": "long enough", "role": "admin"}))
        .await
        .status(201);
    by_admin.delete(&format!("/users/{id}")).await.status(204);
    app.sql("update users set role = 'user'").await;
    by_admin.get("/users").await.problem(403, "forbidden");
}

#[tokio::test]
async fn only_an_admin_makes_a_token_for_admins() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let request = json!({"name": "t", "scopes": ["admin"]});
    user.post("/me/tokens", request).await.problem(403, "forbidden");
}

#[tokio::test]
async fn making_a_token_needs_a_fresh_session_and_a_token_is_none() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let token = user.token(json!({"name": "t", "scopes": ["read", "write"]})).await;
    app.stale().await;
    user.post("/me/tokens", json!({"name": "t"})).await.problem(401, "reauthentication_required");
    user.get("/me/tokens").await.ok();
    let by_token = app.with_token(&token);
    for (method, path) in [
        (Method::POST, "/me/tokens"),
        (Method::GET, "/me/tokens"),
        (Method::GET, "/me/sessions"),
        (Method::DELETE, "/me/sessions"),
        (Method::DELETE, "/me"),
        (Method::POST, "/me/reauthenticate"),
    ] {
        let answer =
            Answer::to(by_token.request(method.clone(), path).json(&json!({"name": "t"}))).await;
        answer.problem(403, "session_required");
    }
}

#[tokio::test]
async fn a_token_ends_when_it_said_and_with_its_account() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let secret = user.token(json!({"name": "t", "expires_at": "2999-01-01T00:00:00Z"})).await;
    app.with_token(&secret).get("/me").await.ok();
    app.sql("update users set is_active = false").await;
    app.with_token(&secret).get("/me").await.problem(401, "invalid_token");
    app.sql("update users set is_active = true").await;
    app.sql("update api_tokens set expires_at = now() - interval '1 second'").await;
    app.with_token(&secret).get("/me").await.problem(401, "invalid_token");
}

#[tokio::test]
async fn wrong_wishes_are_named() {
    let app = TestApp::start().await;
    let user = app.user().await;
    for (body, field) in [
        (json!({}), "name"),
        (json!({"name": " "}), "name"),
        (json!({"name": "t", "scopes": []}), "scopes"),
        (json!({"name": "t", "scopes": ["all"]}), "scopes"),
        (json!({"name": "t", "scopes": [{"read": null}]}), "scopes[0]"),
        (json!({"name": "t", "scopes": null}), "scopes"),
        (json!({"name": "t", "expires_at": "tomorrow"}), "expires_at"),
        (json!({"name": "t", "expires_at": "9999-12-31T23:59:59-23:59"}), "expires_at"),
        (json!({"name": "t", "expires_at": "2020-01-01T00:00:00Z"}), "expires_at"),
    ] {
        assert_eq!(user.post("/me/tokens", body.clone()).await.faults()[0].0, field, "{body}");
    }
}

#[tokio::test]
async fn its_use_is_written_down_once_a_minute() {
    let app = TestApp::start().await;
    let secret = app.user().await.token(json!({"name": "t"})).await;
    let token = app.with_token(&secret);
    token.get("/me").await.ok();
    app.used("api_tokens", "last_used_at").await;
    let used_ago = async |ago: &str| {
        app.sql(&format!("update api_tokens set last_used_at = now() - interval '{ago}'")).await;
    };
    used_ago("70 seconds").await;
    token.get("/me").await.ok();
    app.used("api_tokens", "last_used_at").await;
    used_ago("50 seconds").await;
    token.get("/me").await.ok();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let query = "select last_used_at < now() - interval '40 seconds' from api_tokens";
    assert!(sqlx::query_scalar::<_, bool>(query).fetch_one(&app.pool).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_token_comes_of_a_session_that_was_just_ended() {
    let app = TestApp::start().await;
    let replica = app.replica().await;
    let user = app.user().await;
    let (mut made, mut refused) = (0, 0);
    for _ in 0..15 {
        let secret = user.login().await.status(200).cookie();
        let tries: Vec<_> = (0..6)
            .map(|i| {
                let client = if i % 2 == 0 { &app } else { &replica }.with_cookie(&secret);
                tokio::spawn(async move { client.post("/me/tokens", json!({"name": "t"})).await })
            })
            .collect();
        user.delete("/me/sessions?include=current").await.status(204);
        let before = app.count("api_tokens").await;
        for attempt in tries {
            match attempt.await.unwrap() {
                answer if answer.code == 201 => made += 1,
                answer => {
                    answer.problem(401, "session_expired");
                    refused += 1;
                }
            }
        }
        // Whoever was answered after the end made none after the end.
        assert_eq!(app.count("api_tokens").await, before);
    }
    println!("{made} tokens made before the end of their session, {refused} refused");
    assert!(refused > 0);
}
