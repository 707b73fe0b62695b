//! `PATCH /me` and `DELETE /me`.

use serde_json::{Value, json};

use crate::TestApp;
use crate::app::PASSWORD;

#[tokio::test]
async fn a_user_changes_what_is_theirs_and_keeps_what_is_not_given() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let changed =
        user.patch("/me", json!({"name": " Alice ", "email": "Alice@Example.com"})).await.ok();
    assert_eq!(changed["name"], "Alice");
    assert_eq!(changed["pending_email"], "alice@example.com");
    assert_eq!(changed["username"], user.username());
    let changed = user.patch("/me", json!({"username": "Alice", "name": null})).await.ok();
    assert_eq!(changed["username"], "alice");
    assert_eq!(changed["name"], Value::Null);
    assert_eq!(changed["pending_email"], "alice@example.com");
    assert_eq!(user.get("/me").await.ok(), changed);
    assert_eq!(user.patch("/me", json!({})).await.ok()["username"], "alice");
}

#[tokio::test]
async fn a_user_keeps_a_name() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let faults = user.patch("/me", json!({"username": null})).await.faults();
    assert_eq!(faults, [("username".to_owned(), "required".to_owned())]);
    // One that is not verified yet is none.
    let another = json!({"username": null, "email": "a@example.com"});
    assert_eq!(user.patch("/me", another).await.faults()[0].1, "required");
    let user = app.user_at("b@example.com").await;
    assert_eq!(user.patch("/me", json!({"email": null})).await.faults()[0].1, "required");
    user.patch("/me", json!({"username": "bob", "email": null})).await.ok();
}

#[tokio::test]
async fn a_name_that_is_taken_stays_so_and_wrong_ones_are_named() {
    let app = TestApp::start().await;
    let (user, other) = (app.user().await, app.user().await);
    app.user_at("other@example.com").await;
    user.patch("/me", json!({"username": other.username()})).await.problem(409, "username_taken");
    user.patch("/me", json!({"email": "OTHER@example.com"})).await.problem(409, "email_taken");
    let faults =
        user.patch("/me", json!({"username": "x", "email": "y", "name": ""})).await.faults();
    assert_eq!(faults.len(), 3);
    for field in ["role", "is_active", "id", "email_verified", "password"] {
        assert_eq!(user.patch("/me", json!({field: "x"})).await.faults()[0].1, "unknown");
    }
}

#[tokio::test]
async fn another_email_address_needs_a_fresh_session_and_waits() {
    let app = TestApp::start().await;
    let user = app.verified_user_at("a@example.com").await;
    app.stale().await;
    let answer = user.patch("/me", json!({"email": "b@example.com"})).await;
    let answer = answer.problem(401, "reauthentication_required");
    let challenge =
        r#"Bearer realm="portcullis", error="insufficient_user_authentication", max_age=900"#;
    assert_eq!(answer.header("www-authenticate"), Some(challenge));
    let same = user.patch("/me", json!({"email": "A@example.com", "name": "A"})).await.ok();
    assert_eq!(same["email_verified"], true);
    user.post("/me/reauthenticate", json!({"password": PASSWORD})).await.ok();
    let changed = user.patch("/me", json!({"email": "b@example.com"})).await.ok();
    let fields = ["email", "email_verified", "pending_email"].map(|field| &changed[field]);
    assert_eq!(fields, [&json!("a@example.com"), &json!(true), &json!("b@example.com")]);
    assert_eq!(user.get("/me").await.ok(), changed);
    let again = user.patch("/me", json!({"email": "a@example.com"})).await.ok();
    assert_eq!(again["pending_email"], Value::Null);
}

#[tokio::test]
async fn who_deletes_their_account_is_gone_everywhere_and_the_cookie_too() {
    let app = TestApp::start().await;
    let replica = app.replica().await;
    let user = app.user().await;
    let secret = user.login().await.cookie();
    let token = user.token(json!({"name": "t"})).await;
    app.stale().await;
    user.delete("/me").await.problem(401, "reauthentication_required");
    let user_again = user.post("/me/reauthenticate", json!({"password": PASSWORD})).await.cookie();
    let answer = user.delete("/me").await.status(204);
    assert!(answer.header("set-cookie").unwrap().contains("Max-Age=0"));
    for secret in [&secret, &user_again] {
        replica.with_cookie(secret).get("/me").await.problem(401, "session_expired");
    }
    replica.with_token(&token).get("/me").await.problem(401, "invalid_token");
    user.login().await.problem(401, "invalid_credentials");
    for table in ["users", "sessions", "session_records", "api_tokens"] {
        assert_eq!(app.count(table).await, 0, "{table}");
    }
}
