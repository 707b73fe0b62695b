//! `PATCH` and `DELETE /users/{id}`.

use serde_json::{Value, json};

use crate::TestApp;
use crate::app::PASSWORD;

#[tokio::test]
async fn an_admin_changes_any_account() {
    let app = TestApp::start().await;
    let (user, admin) = (app.user().await, app.admin().await);
    let path = format!("/users/{}", user.id());
    let changed = admin
        .patch(&path, json!({"username": "bob", "email": "Bob@example.com", "name": "Bob"}))
        .await
        .ok();
    assert_eq!(
        (&changed["username"], &changed["email"]),
        (&json!("bob"), &json!("bob@example.com"))
    );
    let changed = admin.patch(&path, json!({"name": null})).await.ok();
    assert_eq!((&changed["name"], &changed["email"]), (&Value::Null, &json!("bob@example.com")));
    user.get("/me").await.ok();
    let promoted = admin.patch(&path, json!({"role": "admin"})).await.ok();
    assert_eq!(promoted["role"], "admin");
    user.get("/users").await.ok();
    admin.patch(&path, json!({"username": admin.username()})).await.problem(409, "username_taken");
    for (body, field) in [
        (json!({"role": null}), "role"),
        (json!({"is_active": null}), "is_active"),
        (json!({"password": "short"}), "password"),
        (json!({"id": 1}), "id"),
    ] {
        assert_eq!(admin.patch(&path, body).await.faults()[0].0, field);
    }
}

#[tokio::test]
async fn disabling_demoting_and_a_new_password_end_sessions_at_once_on_every_replica() {
    let app = TestApp::start().await;
    let replica = app.replica().await;
    let admin = app.admin().await;
    for change in [
        json!({"is_active": false}),
        json!({"role": "user"}),
        json!({"password": "another password"}),
    ] {
        let other = app.admin().await;
        other.to(&replica).get("/users").await.ok();
        admin.patch(&format!("/users/{}", other.id()), change.clone()).await.ok();
        other.to(&replica).get("/me").await.problem(401, "session_expired");
        other.get("/me").await.problem(401, "session_expired");
    }
    let other = app.user().await;
    let path = format!("/users/{}", other.id());
    admin.patch(&path, json!({"password": "another password"})).await.ok();
    other.login().await.problem(401, "invalid_credentials");
    admin.patch(&path, json!({"password": PASSWORD, "is_active": true, "role": "user"})).await.ok();
    other.login().await.ok();
}

#[tokio::test]
async fn a_deleted_account_is_gone_and_its_events_are_nobodys() {
    let app = TestApp::start().await;
    let replica = app.replica().await;
    let (user, admin) = (app.user().await, app.admin().await);
    let path = format!("/users/{}", user.id());
    admin.delete(&path).await.status(204);
    user.to(&replica).get("/me").await.problem(401, "session_expired");
    admin.get(&path).await.problem(404, "not_found");
    admin.delete(&path).await.problem(404, "not_found");
    admin.patch(&path, json!({})).await.problem(404, "not_found");
    let events = admin.get(&format!("/audit?user_id={}", user.id())).await.ok();
    let events = events["items"].as_array().unwrap();
    assert_eq!(events[0]["kind"], "user_deleted");
    assert_eq!(events[0]["actor_id"], admin.id());
    assert!(events.len() >= 3, "{events:?}");
    for event in &events[1..] {
        for personal in ["ip", "user_agent", "request_id"] {
            assert_eq!(event[personal], Value::Null, "{event}");
        }
    }
}

#[tokio::test]
async fn writing_needs_a_fresh_admin() {
    let app = TestApp::start().await;
    let (user, admin) = (app.user().await, app.admin().await);
    let path = format!("/users/{}", user.id());
    user.patch(&path, json!({"role": "admin"})).await.problem(403, "forbidden");
    user.delete(&path).await.problem(403, "forbidden");
    app.stale().await;
    admin.patch(&path, json!({"name": "B"})).await.problem(401, "reauthentication_required");
    admin.delete(&path).await.problem(401, "reauthentication_required");
    admin.get(&path).await.ok();
}

#[tokio::test]
async fn the_last_active_admin_stays() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let path = format!("/users/{}", admin.id());
    admin.patch(&path, json!({"role": "user"})).await.problem(409, "last_admin");
    admin.patch(&path, json!({"is_active": false})).await.problem(409, "last_admin");
    admin.delete(&path).await.problem(409, "last_admin");
    admin.delete("/me").await.problem(409, "last_admin");
    // One that is disabled does not count.
    let second = app.admin().await;
    admin.patch(&format!("/users/{}", second.id()), json!({"is_active": false})).await.ok();
    admin.delete("/me").await.problem(409, "last_admin");
    admin.patch(&format!("/users/{}", second.id()), json!({"is_active": true})).await.ok();
    admin.delete("/me").await.status(204);
}
