use serde_json::json;

use crate::TestApp;
use crate::app::PASSWORD;

#[tokio::test]
async fn me_is_the_current_user_and_never_a_hash() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let answer = user.get("/me").await.status(200);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("set-cookie"), None);
    assert!(!answer.text.contains("hash") && !answer.text.contains("bcrypt"), "{}", answer.text);
    let mut fields: Vec<_> = answer.body.as_object().unwrap().keys().map(String::as_str).collect();
    fields.sort_unstable();
    assert_eq!(
        fields,
        [
            "created_at",
            "email",
            "email_verified",
            "id",
            "is_active",
            "last_login_at",
            "must_change_password",
            "name",
            "pending_email",
            "role",
            "updated_at",
            "username",
        ]
    );
}

#[tokio::test]
async fn nobody_has_no_me() {
    let app = TestApp::start().await;
    app.anonymous().get("/me").await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn giving_the_password_again_makes_the_session_fresh_under_a_new_secret() {
    let app = TestApp::start().await;
    let replica = app.replica().await;
    let user = app.user().await;
    let old = user.login().await.cookie();
    app.sql("update sessions set authenticated_at = now() - interval '1 day'").await;
    let stale = user.get("/session").await.ok()["session"].clone();
    let answer = user.post("/me/reauthenticate", json!({"password": PASSWORD})).await.status(200);
    let (new, session) = (answer.cookie(), &answer.body["session"]);
    assert_ne!(old, new);
    assert_eq!(session["id"], stale["id"]);
    assert!(session["fresh_until"].as_str() > stale["fresh_until"].as_str());
    for app in [&app, &replica] {
        app.with_cookie(&old).get("/me").await.ok();
        app.with_cookie(&new).get("/me").await.ok();
    }
    app.end_grace().await;
    for app in [&app, &replica] {
        app.with_cookie(&old).get("/me").await.problem(401, "session_expired");
        app.with_cookie(&new).get("/me").await.ok();
    }
    app.sweep().await;
    assert_eq!((app.count("sessions").await, app.count("session_records").await), (1, 1));
}

#[tokio::test]
async fn a_token_is_renewed_as_a_token() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let login = json!({"identifier": user.username(), "password": PASSWORD, "transport": "token"});
    let old = app.anonymous().post("/login", login).await.token();
    let answer =
        app.with_token(&old).post("/me/reauthenticate", json!({"password": PASSWORD})).await;
    let answer = answer.status(200);
    assert_eq!(answer.header("set-cookie"), None);
    app.with_token(&answer.token()).get("/me").await.ok();
    app.with_token(&old).get("/me").await.ok();
    app.end_grace().await;
    app.with_token(&old).get("/me").await.problem(401, "session_expired");
}

#[tokio::test]
async fn a_remembered_cookie_is_renewed_for_what_is_left_of_it() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let login = json!({"identifier": user.username(), "password": PASSWORD, "remember": true});
    user.post("/login", login).await.status(200);
    app.sql("update sessions set ends_at = now() + interval '10 days', expires_at = now() + interval '10 days'").await;
    let answer = user.post("/me/reauthenticate", json!({"password": PASSWORD})).await.status(200);
    let set = answer.header("set-cookie").unwrap();
    let (_, age) = set.split_once("Max-Age=").unwrap();
    assert!((863_900..=864_000).contains(&age.parse::<u32>().unwrap()), "{set}");
}

#[tokio::test]
async fn a_wrong_password_changes_nothing() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let answer = user.post("/me/reauthenticate", json!({"password": "wrong password"})).await;
    let answer = answer.problem(403, "wrong_password");
    assert_eq!(answer.header("set-cookie"), None);
    user.get("/me").await.ok();
    assert_eq!(app.count("session_records").await, 1);
}

#[tokio::test]
async fn of_many_renewals_at_once_one_wins_and_its_secret_works() {
    let app = TestApp::start().await;
    let replica = app.replica().await;
    let user = app.user().await;
    for _ in 0..10 {
        let secret = user.login().await.cookie();
        let renewals = (0..8).map(|i| {
            let client = if i % 2 == 0 { &app } else { &replica }.with_cookie(&secret);
            tokio::spawn(async move {
                client.post("/me/reauthenticate", json!({"password": PASSWORD})).await
            })
        });
        let mut secrets = Vec::new();
        for renewal in renewals.collect::<Vec<_>>() {
            let answer = renewal.await.unwrap();
            match answer.code {
                200 => secrets.push(answer.cookie()),
                _ => drop(answer.problem(409, "session_renewed")),
            }
        }
        assert_eq!(secrets.len(), 1);
        app.with_cookie(&secrets[0]).get("/me").await.ok();
        app.with_cookie(&secrets[0]).call("/logout").await.status(204);
        app.with_cookie(&secret).get("/me").await.problem(401, "session_expired");
        assert_eq!(app.count("session_records").await, app.count("sessions").await);
    }
}
