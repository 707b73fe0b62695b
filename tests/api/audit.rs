//! `GET /audit` and `GET /me/activity`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portcullis::config::Switch;
use serde_json::{Value, json};

use crate::TestApp;
use crate::app::PASSWORD;

fn kinds(page: &Value) -> Vec<&str> {
    page["items"].as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn what_happens_to_an_account_can_be_read_by_its_owner() {
    let app = TestApp::start().await;
    let user = app.user().await.with("user-agent", "browser").with("x-request-id", "my-request");
    let wrong = json!({"identifier": user.username(), "password": "wrong password"});
    app.anonymous().post("/login", wrong).await.problem(401, "invalid_credentials");
    user.login().await.status(200);
    user.post("/me/reauthenticate", json!({"password": "wrong password"}))
        .await
        .problem(403, "wrong_password");
    user.post("/me/reauthenticate", json!({"password": PASSWORD})).await.ok();
    let token = user.post("/me/tokens", json!({"name": "t"})).await.status(201).body;
    user.delete(&format!("/me/tokens/{}", token["api_token"]["id"].as_str().unwrap()))
        .await
        .status(204);
    user.patch("/me", json!({"name": "Alice"})).await.ok();
    user.put(
        "/me/password",
        json!({"current_password": PASSWORD, "new_password": "another password"}),
    )
    .await
    .ok();
    user.call("/logout").await.status(204);
    let login = json!({"identifier": user.username(), "password": "another password"});
    let last = user.post("/login", login).await.status(200);
    let page = user.get("/me/activity").await.ok();
    assert_eq!(
        kinds(&page),
        [
            "logged_in",
            "logged_out",
            "login_confirmed",
            "password_changed",
            "user_updated",
            "token_revoked",
            "token_created",
            "login_confirmed",
            "login_failed",
            "logged_in",
            "logged_out",
            "login_failed",
            "logged_in",
            "user_created",
        ]
    );
    let events = page["items"].as_array().unwrap();
    for event in events {
        assert_eq!(event["user_id"], user.id());
        assert_eq!(event["ip"], "127.0.0.1");
        let failed = event["kind"] == "login_failed";
        assert_eq!(event["outcome"], if failed { "failure" } else { "success" });
    }
    assert_eq!(
        (&events[0]["user_agent"], &events[0]["request_id"]),
        (&json!("browser"), &json!(last.header("x-request-id")))
    );
    assert!(!page.to_string().contains("my-request"), "a stranger names no request");
    assert_eq!(events[4]["details"], json!({"fields": ["name"]}));
    assert_eq!(events[11]["actor_id"], Value::Null);
    let all = page.to_string();
    for secret in
        [PASSWORD, "another password", "wrong password", token["token"].as_str().unwrap(), "bcrypt"]
    {
        assert!(!all.contains(secret), "{secret}");
    }
    let first = user.get("/me/activity?limit=5").await.ok();
    assert_eq!(kinds(&first), kinds(&page)[..5]);
    let next = user
        .get(&format!("/me/activity?limit=5&cursor={}", first["next_cursor"].as_str().unwrap()))
        .await
        .ok();
    assert_eq!(kinds(&next), kinds(&page)[5..10]);
}

#[tokio::test]
async fn an_admin_reads_what_happened_to_everybody() {
    let app = TestApp::start().await;
    let (user, admin) = (app.user().await, app.admin().await);
    user.get("/audit").await.problem(403, "forbidden");
    app.anonymous().get("/audit").await.problem(401, "unauthenticated");
    app.anonymous()
        .post("/login", json!({"identifier": "nobody", "password": "x"}))
        .await
        .problem(401, "invalid_credentials");
    admin.patch(&format!("/users/{}", user.id()), json!({"is_active": false})).await.ok();
    let all = admin.get("/audit").await.ok();
    assert_eq!(
        kinds(&all),
        ["user_updated", "login_failed", "logged_in", "user_created", "logged_in", "user_created"]
    );
    let disabled = &all["items"][0];
    assert_eq!(disabled["details"], json!({"fields": ["is_active"], "is_active": false}));
    assert_eq!(disabled["ip"], "127.0.0.1");
    assert_eq!(
        (&disabled["user_id"], &disabled["actor_id"]),
        (&json!(user.id()), &json!(admin.id()))
    );
    assert_eq!(all["items"][1]["user_id"], Value::Null);
    let path = format!("/audit?user_id={}&kind=logged_in", user.id());
    assert_eq!(kinds(&admin.get(&path).await.ok()), ["logged_in"]);
    assert!(kinds(&admin.get("/audit?since=2999-01-01T00:00:00Z").await.ok()).is_empty());
    assert_eq!(kinds(&admin.get("/audit?since=2020-01-01T00:00:00Z").await.ok()).len(), 6);
    for (query, field) in [
        ("user_id=x", "user_id"),
        ("since=yesterday", "since"),
        ("kind=%00", "kind"),
        ("limit=0", "limit"),
        ("who=x", "who"),
    ] {
        assert_eq!(admin.get(&format!("/audit?{query}")).await.faults()[0].0, field);
    }
}

#[tokio::test]
async fn where_an_admin_works_is_not_for_users_to_know() {
    let app = TestApp::start().await;
    let (user, admin) = (app.user().await, app.admin().await);
    admin.patch(&format!("/users/{}", user.id()), json!({"name": "B"})).await.ok();
    let page = user.get("/me/activity").await.ok();
    let (by_admin, own) = (&page["items"][0], &page["items"][1]);
    assert_eq!(
        (&by_admin["kind"], &by_admin["actor_id"]),
        (&json!("user_updated"), &json!(admin.id()))
    );
    for field in ["ip", "user_agent", "request_id", "session_id"] {
        assert_eq!(by_admin[field], Value::Null, "{by_admin}");
    }
    assert_eq!(own["ip"], "127.0.0.1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn failures_in_flight_leave_nothing_personal_of_a_deleted_account() {
    let app = TestApp::start().await;
    let replica = app.replica().await;
    for _ in 0..10 {
        let user = app.user().await;
        let wrong = json!({"identifier": user.username(), "password": "wrong password"});
        let tries: Vec<_> = (0..6)
            .map(|i| {
                let client = if i % 2 == 0 { &app } else { &replica }.anonymous();
                let wrong = wrong.clone();
                tokio::spawn(async move { client.post("/login", wrong).await })
            })
            .collect();
        user.delete("/me").await.status(204);
        for attempt in tries {
            attempt.await.unwrap().problem(401, "invalid_credentials");
        }
    }
    let query = "select count(*) from audit_events where user_id is not null and ip is not null";
    let personal: i64 = sqlx::query_scalar(query).fetch_one(&app.pool).await.unwrap();
    assert_eq!(personal, 0);
}

#[tokio::test]
async fn an_event_is_written_in_the_transaction_of_what_it_tells() {
    let app = TestApp::start().await;
    let (user, other) = (app.user().await, app.user().await);
    user.patch("/me", json!({"username": other.username()})).await.problem(409, "username_taken");
    let again = json!({"username": other.username(), "password": PASSWORD});
    app.anonymous().post("/users", again).await.problem(409, "username_taken");
    assert_eq!(app.count("audit_events").await, 4);
    app.sql("alter table audit_events rename to elsewhere").await;
    user.patch("/me", json!({"name": "A"})).await.problem(500, "internal");
    app.sql("alter table elsewhere rename to audit_events").await;
    assert_eq!(user.get("/me").await.ok()["name"], Value::Null);
}

#[tokio::test]
async fn old_events_are_swept() {
    let app = TestApp::start().await;
    let user = app.user().await;
    app.sql("update audit_events set at = now() - interval '366 days' where kind = 'user_created'")
        .await;
    assert_eq!(app.sweep().await, 1);
    assert_eq!(kinds(&user.get("/me/activity").await.ok()), ["logged_in"]);
}

#[tokio::test]
async fn an_event_names_the_api_token_or_the_kind_of_credential_that_caused_it() {
    let app = TestApp::with(|config| config.basic_auth = Switch::On).await;
    let (admin, user) = (app.admin().await, app.user().await);
    let new = json!({"name": "t", "scopes": ["read", "write", "admin"]});
    let token = admin.post("/me/tokens", new).await.status(201);
    let id = token.body["api_token"]["id"].clone();
    let by_token = app.with_token(&token.token());
    by_token.patch("/me", json!({"name": "A"})).await.ok();
    by_token.patch(&format!("/users/{}", user.id()), json!({"name": "B"})).await.ok();
    let pair = STANDARD.encode(format!("{}:{PASSWORD}", user.username()));
    let basic = app.anonymous().with("authorization", &format!("Basic {pair}"));
    basic.patch("/me", json!({"name": "C"})).await.ok();
    user.patch("/me", json!({"name": "D"})).await.ok();
    let events = admin.get("/audit?kind=user_updated").await.ok();
    let details: Vec<_> = (0..4).map(|i| &events["items"][i]["details"]).collect();
    let fields = json!(["name"]);
    assert_eq!(*details[0], json!({"fields": fields}));
    assert_eq!(*details[1], json!({"fields": fields, "by": "basic"}));
    for details in &details[2..] {
        assert_eq!(**details, json!({"fields": fields, "by": "api_token", "api_token_id": id}));
    }
}
