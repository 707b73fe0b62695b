//! `/me/tokens`, and what API tokens may do.

use portcullis::config::{Config, Rate};
use reqwest::Method;
use std::time::Duration;

use serde_json::{Value, json};

use crate::{Answer, TestApp};

/// More changes than the default allows to one account.
fn many_writes(config: &mut Config) {
    config.throttle_writes = Rate::parse("1000/1m").unwrap();
}

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
    assert_eq!(token["last_used_at"], Value::Null);
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
    let app = TestApp::with(many_writes).await;
    let replica = app.replica().await;
    let user = app.user().await;
    let (mut made, mut refused) = (0, 0);
    for _ in 0..15 {
        let secret = user.login().await.status(200).cookie();
        let tries: Vec<_> = (0..6)
            .map(|i| {
                let client = if i % 2 == 0 { &app } else { &replica }.with_cookie(&secret);
                tokio::spawn(async move {
                    // One after another, so that some come too late however fast the machine is.
                    tokio::time::sleep(Duration::from_millis(i * 3)).await;
                    client.post("/me/tokens", json!({"name": "t"})).await
                })
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

#[tokio::test]
async fn a_token_expires_after_a_year_unless_the_request_says_otherwise() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let create = async |new: Value| {
        let answer = user.post("/me/tokens", new).await.status(201);
        answer.body["api_token"]["expires_at"].clone()
    };
    create(json!({"name": "a year"})).await;
    let in_a_year = "select from api_tokens
        where expires_at between now() + interval '364 days 23 hours' and now() + interval '365 days 1 minute'";
    assert_eq!(app.sql(in_a_year).await, 1);
    assert_eq!(create(json!({"name": "for ever", "expires_at": null})).await, Value::Null);
    let chosen = json!({"name": "chosen", "expires_at": "2999-01-01T00:00:00Z"});
    assert_eq!(create(chosen).await, "2999-01-01T00:00:00Z");
}

#[tokio::test]
async fn an_account_has_at_most_fifty_valid_tokens_however_many_requests_come_at_once() {
    let app = TestApp::with(many_writes).await;
    let replica = app.replica().await;
    let user = app.user().await;
    let requests: Vec<_> = (0..60)
        .map(|i| {
            let user = user.to(if i % 2 == 0 { &app } else { &replica });
            tokio::spawn(async move { user.post("/me/tokens", json!({"name": "t"})).await })
        })
        .collect();
    let mut created = 0;
    for request in requests {
        match request.await.unwrap() {
            answer if answer.code == 201 => created += 1,
            answer => drop(answer.problem(409, "too_many_tokens")),
        }
    }
    assert_eq!((created, app.count("api_tokens").await), (50, 50));
    // One that has expired does not count.
    app.sql(
        "update api_tokens set expires_at = now() where id = (select id from api_tokens limit 1)",
    )
    .await;
    user.post("/me/tokens", json!({"name": "t"})).await.status(201);
    user.post("/me/tokens", json!({"name": "t"})).await.problem(409, "too_many_tokens");
}

#[tokio::test]
async fn admins_see_and_revoke_the_tokens_of_an_account() {
    let app = TestApp::start().await;
    let (admin, user, other) = (app.admin().await, app.user().await, app.user().await);
    let path = format!("/users/{}/tokens", user.id());
    let [first, second] =
        [user.token(json!({"name": "a"})).await, user.token(json!({"name": "b"})).await];
    let theirs = other.token(json!({"name": "c"})).await;
    user.get(&path).await.problem(403, "forbidden");
    user.delete(&path).await.problem(403, "forbidden");
    let list = admin.get(&path).await.status(200);
    assert!(!list.text.contains("pct_"), "{}", list.text);
    assert_eq!(list.body["items"].as_array().unwrap().len(), 2);
    let id = list.body["items"][1]["id"].as_str().unwrap();
    let wrong = format!("/users/{}/tokens/{id}", other.id());
    admin.delete(&wrong).await.problem(404, "not_found");
    admin.delete(&format!("{path}/{id}")).await.status(204);
    app.with_token(&first).get("/me").await.problem(401, "invalid_token");
    app.with_token(&second).get("/me").await.ok();
    admin.delete(&path).await.status(204);
    app.with_token(&second).get("/me").await.problem(401, "invalid_token");
    app.with_token(&theirs).get("/me").await.ok();
    let gone = format!("/users/{}/tokens", "01a1fdbe-c128-7060-b598-5638a5c14638");
    admin.get(&gone).await.problem(404, "not_found");
    admin.delete(&gone).await.problem(404, "not_found");
}
