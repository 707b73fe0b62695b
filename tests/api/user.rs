//! `PATCH` and `DELETE /users/{id}`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portcullis::config::Switch;
use serde_json::{Value, json};

use crate::app::PASSWORD;
use crate::{Answer, TestApp};

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
    let login = json!({"username": "bob", "password": PASSWORD});
    user.post("/login", login).await.ok();
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
    admin.delete("/me").await.problem(409, "last_admin");
    // One that is disabled does not count.
    let second = app.admin().await;
    admin.patch(&format!("/users/{}", second.id()), json!({"is_active": false})).await.ok();
    admin.delete("/me").await.problem(409, "last_admin");
    admin.patch(&format!("/users/{}", second.id()), json!({"is_active": true})).await.ok();
    admin.delete("/me").await.status(204);
}

#[tokio::test]
async fn admins_change_and_delete_their_own_account_only_as_anybody_does() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let token = admin.token(json!({"name": "t", "scopes": ["read", "write", "admin"]})).await;
    let path = format!("/users/{}", admin.id());
    for client in [admin.clone(), app.with_token(&token)] {
        for change in [
            json!({"password": "the intruder's password"}),
            json!({"username": "mallory"}),
            json!({"email": "mallory@example.com"}),
            json!({"email": null, "name": "Admin"}),
        ] {
            client.patch(&path, change).await.problem(403, "own_account");
        }
        client.delete(&path).await.problem(403, "own_account");
    }
    admin.get("/me").await.ok();
    app.with_token(&token).patch(&path, json!({"name": "Admin"})).await.ok();
    app.admin().await;
    app.with_token(&token).patch(&path, json!({"role": "user"})).await.ok();
    app.with_token(&token).get("/me").await.problem(401, "invalid_token");
}

#[tokio::test]
async fn an_account_that_must_change_its_password_may_do_nothing_else() {
    let app = TestApp::with(|config| config.basic_auth = Switch::On).await;
    let (admin, user) = (app.admin().await, app.user().await);
    let token =
        app.with_token(&user.token(json!({"name": "t", "scopes": ["read", "write"]})).await);
    let pair = STANDARD.encode(format!("{}:{PASSWORD}", user.username()));
    let basic = app.anonymous().with("authorization", &format!("Basic {pair}"));
    let path = format!("/users/{}", user.id());
    let must = admin.patch(&path, json!({"must_change_password": true})).await.ok();
    assert_eq!(must["must_change_password"], true);
    for client in [&user, &token, &basic] {
        assert_eq!(client.get("/me").await.ok()["must_change_password"], true);
        client.get("/session").await.ok();
        client.patch("/me", json!({"name": "A"})).await.problem(403, "password_change_required");
        client.get("/me/activity").await.problem(403, "password_change_required");
        client.get("/forward-auth").await.problem(403, "password_change_required");
        client.call("/me/email/verify").await.problem(403, "password_change_required");
    }
    for (method, path) in [
        ("GET", "/me/sessions"),
        ("DELETE", "/me/sessions"),
        ("GET", "/me/tokens"),
        ("DELETE", "/me"),
        ("GET", "/users"),
        ("GET", "/audit"),
    ] {
        let request = user.request(method.parse().unwrap(), path);
        Answer::to(request).await.problem(403, "password_change_required");
    }
    let confirm = json!({"password": PASSWORD});
    user.post("/me/reauthenticate", confirm).await.problem(403, "password_change_required");
    let same = json!({"current_password": PASSWORD, "new_password": PASSWORD});
    let faults = user.put("/me/password", same).await.faults();
    assert_eq!(faults, [("new_password".to_owned(), "unchanged".to_owned())]);
    user.login().await.ok();
    let change =
        json!({"current_password": PASSWORD, "new_password": "a quite different password"});
    let changed = user.put("/me/password", change).await.ok();
    assert_eq!(changed["user"]["must_change_password"], false);
    user.patch("/me", json!({"name": "A"})).await.ok();

    // Admins are limited, too, and may create accounts that are.
    let new = json!({"username": "carol", "password": PASSWORD, "must_change_password": true});
    app.anonymous().post("/users", new.clone()).await.problem(403, "forbidden");
    let carol = admin.post("/users", new).await.status(201);
    assert_eq!(carol.body["user"]["must_change_password"], true);
    app.sql("update users set must_change_password = true where role = 'admin'").await;
    admin.get("/users").await.problem(403, "password_change_required");
    let new = json!({"username": "dave", "password": PASSWORD});
    admin.post("/users", new).await.problem(403, "password_change_required");
    admin.patch(&path, json!({"name": "B"})).await.problem(403, "password_change_required");
    admin.call("/logout").await.status(204);
}

#[tokio::test]
async fn a_change_that_changes_nothing_leaves_no_event() {
    let app = TestApp::start().await;
    let (admin, user) = (app.admin().await, app.user().await);
    let path = format!("/users/{}", user.id());
    user.patch("/me", json!({"name": "A"})).await.ok();
    let before = app.count("audit_events").await;
    for _ in 0..20 {
        user.patch("/me", json!({"name": "A", "username": user.username()})).await.ok();
        user.patch("/me", json!({})).await.ok();
        let same =
            json!({"name": "A", "role": "user", "is_active": true, "must_change_password": false});
        admin.patch(&path, same).await.ok();
    }
    assert_eq!(app.count("audit_events").await, before);
    user.get("/me").await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_that_waits_while_an_admin_demands_a_new_password_does_not_keep_the_old_one() {
    let mailbox = crate::smtp::Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |_| {}).await;
    let user = app.verified_user_at("alice@example.com").await;
    user.post("/password/forgot", json!({"email": "alice@example.com"})).await.status(202);
    app.deliver().await;
    let token = mailbox.next_to("alice@example.com", 1).await.token();
    let mut demand = portcullis::store::begin(&app.pool).await.unwrap();
    let lock = "select from users for no key update";
    sqlx::query(lock).fetch_all(&mut *demand).await.unwrap();
    let waiting = tokio::spawn({
        let (client, same) = (app.anonymous(), json!({"token": token, "password": PASSWORD}));
        async move { client.post("/password/reset", same).await }
    });
    let waits = "select exists (select from pg_stat_activity
                 where datname = current_database() and wait_event_type = 'Lock')";
    while !sqlx::query_scalar::<_, bool>(waits).fetch_one(&app.pool).await.unwrap() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let must = "update users set must_change_password = true";
    sqlx::query(must).execute(&mut *demand).await.unwrap();
    demand.commit().await.unwrap();
    let faults = waiting.await.unwrap().faults();
    assert_eq!(faults, [("password".to_owned(), "unchanged".to_owned())]);
    assert_eq!(app.count("users where must_change_password").await, 1);
}

#[tokio::test]
async fn a_password_that_must_change_cannot_come_back_in_another_spelling_or_by_a_reset() {
    let mailbox = crate::smtp::Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |_| {}).await;
    let user = app.verified_user_at("alice@example.com").await;
    app.sql("update users set must_change_password = true").await;
    let wide: String = PASSWORD.chars().map(|c| if c == 'a' { '\u{ff41}' } else { c }).collect();
    for same in [PASSWORD, &wide] {
        let change = json!({"current_password": PASSWORD, "new_password": same});
        let faults = user.put("/me/password", change).await.faults();
        assert_eq!(faults, [("new_password".to_owned(), "unchanged".to_owned())]);
    }
    user.post("/password/forgot", json!({"email": "alice@example.com"})).await.status(202);
    app.deliver().await;
    let token = mailbox.next_to("alice@example.com", 1).await.token();
    let same = json!({"token": token, "password": wide});
    let faults = user.post("/password/reset", same).await.faults();
    assert_eq!(faults, [("password".to_owned(), "unchanged".to_owned())]);
    assert_eq!(user.get("/me").await.ok()["must_change_password"], true);
    let reset = json!({"token": token, "password": "a quite different password"});
    user.post("/password/reset", reset).await.status(204);
    let login = json!({"email": "alice@example.com", "password": "a quite different password"});
    assert_eq!(user.post("/login", login).await.ok()["user"]["must_change_password"], false);
}
