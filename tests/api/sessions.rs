//! `/me/sessions` and `/users/{id}/sessions`.

use serde_json::{Value, json};

use crate::app::PASSWORD;
use crate::{Client, TestApp};

/// Logs the same account in again elsewhere.
async fn elsewhere(app: &TestApp, user: &Client, agent: &str) -> Client {
    let client = app.anonymous().with("user-agent", agent);
    let login = json!({"identifier": user.username(), "password": PASSWORD});
    client.post("/login", login).await.status(200);
    client
}

fn ids(page: &Value) -> Vec<&str> {
    page["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|session| session["id"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn people_see_where_they_are_logged_in() {
    let app = TestApp::start().await;
    let (user, stranger) = (app.user().await, app.user().await);
    let safari = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1";
    let phone = elsewhere(&app, &user, safari).await;
    let page = user.get("/me/sessions").await.ok();
    assert_eq!((ids(&page).len(), &page["next_cursor"]), (2, &Value::Null));
    assert_eq!(page["items"][0]["device"], "Safari on iPhone");
    assert_eq!(
        (&page["items"][0]["current"], &page["items"][1]["current"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(phone.get("/me/sessions").await.ok()["items"][0]["current"], true);
    assert_eq!(ids(&stranger.get("/me/sessions").await.ok()).len(), 1);
    let first = user.get("/me/sessions?limit=1").await.ok();
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = user.get(&format!("/me/sessions?limit=1&cursor={cursor}")).await.ok();
    assert_eq!([ids(&first), ids(&second)].concat(), ids(&page));
    app.sql(
        "update sessions set expires_at = now() - interval '1 second' where device is not null",
    )
    .await;
    assert_eq!(ids(&user.get("/me/sessions").await.ok()).len(), 1);
}

#[tokio::test]
async fn one_session_is_ended_and_it_must_be_ones_own() {
    let app = TestApp::start().await;
    let replica = app.replica().await;
    let (user, stranger) = (app.user().await, app.user().await);
    let phone = elsewhere(&app, &user, "phone").await;
    let id = user.get("/me/sessions").await.ok()["items"][0]["id"].as_str().unwrap().to_owned();
    stranger.delete(&format!("/me/sessions/{id}")).await.problem(404, "not_found");
    phone.to(&replica).get("/me").await.ok();
    let answer = user.delete(&format!("/me/sessions/{id}")).await.status(204);
    assert_eq!(answer.header("set-cookie"), None);
    phone.to(&replica).get("/me").await.problem(401, "session_expired");
    user.delete(&format!("/me/sessions/{id}")).await.problem(404, "not_found");
    user.delete("/me/sessions/nonsense").await.problem(404, "not_found");
}

#[tokio::test]
async fn ending_the_current_session_takes_its_cookie() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let id = user.get("/session").await.ok()["session"]["id"].as_str().unwrap().to_owned();
    let answer = user.delete(&format!("/me/sessions/{id}")).await.status(204);
    assert!(answer.header("set-cookie").unwrap().contains("Max-Age=0"));
    user.get("/me").await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn all_others_are_ended_or_all() {
    let app = TestApp::start().await;
    let (user, stranger) = (app.user().await, app.user().await);
    let phone = elsewhere(&app, &user, "phone").await;
    let answer = user.delete("/me/sessions").await.status(204);
    assert_eq!(answer.header("set-cookie"), None);
    phone.get("/me").await.problem(401, "session_expired");
    user.get("/me").await.ok();
    let tablet = elsewhere(&app, &user, "tablet").await;
    assert_eq!(user.delete("/me/sessions?include=everything").await.faults()[0].0, "include");
    let answer = user.delete("/me/sessions?include=current").await.status(204);
    assert!(answer.header("set-cookie").unwrap().contains("Max-Age=0"));
    tablet.get("/me").await.problem(401, "session_expired");
    stranger.get("/me").await.ok();
}

#[tokio::test]
async fn an_admin_sees_and_ends_the_sessions_of_others() {
    let app = TestApp::start().await;
    let (user, admin) = (app.user().await, app.admin().await);
    let path = format!("/users/{}/sessions", user.id());
    user.get(&path).await.problem(403, "forbidden");
    user.delete(&path).await.problem(403, "forbidden");
    let page = admin.get(&path).await.ok();
    assert_eq!((ids(&page).len(), &page["items"][0]["current"]), (1, &json!(false)));
    admin.delete(&path).await.status(204);
    user.get("/me").await.problem(401, "session_expired");
    admin.get("/me").await.ok();
    let nobody = "/users/01a1fdbe-c128-7060-b598-5638a5c14638/sessions";
    admin.get(nobody).await.problem(404, "not_found");
    admin.delete(nobody).await.problem(404, "not_found");
    app.stale().await;
    admin.delete(&path).await.problem(401, "reauthentication_required");
}

#[tokio::test]
async fn a_stale_session_or_token_changes_no_name_and_revokes_no_other_session() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let token =
        app.with_token(&user.token(json!({"name": "t", "scopes": ["read", "write"]})).await);
    let other = user.login().await.status(200).body["session"]["id"].clone();
    let login = json!({"identifier": user.username(), "password": crate::app::PASSWORD});
    let browser = app.anonymous();
    browser.post("/login", login).await.status(200);
    app.stale().await;
    let other = format!("/me/sessions/{}", other.as_str().unwrap());
    for path in [other.as_str(), "/me/sessions", "/me/sessions?include=current"] {
        browser.delete(path).await.problem(401, "reauthentication_required");
        token.delete(path).await.problem(403, "session_required");
    }
    for change in [
        json!({"username": "mallory"}),
        json!({"username": null, "email": "mallory@example.com"}),
        json!({"email": "mallory@example.com"}),
    ] {
        browser.patch("/me", change.clone()).await.problem(401, "reauthentication_required");
        token.patch("/me", change).await.problem(403, "session_required");
    }
    // What is no way into the account needs no password: another display name, and one's own end.
    browser.patch("/me", json!({"name": "A", "username": user.username()})).await.ok();
    token.patch("/me", json!({"name": "B"})).await.ok();
    let own = browser.get("/session").await.ok()["session"]["id"].clone();
    browser.delete(&format!("/me/sessions/{}", own.as_str().unwrap())).await.status(204);
}

#[tokio::test]
async fn revoking_all_others_drops_the_address_that_a_session_asked_for_before_it_logged_out() {
    let mailbox = crate::smtp::Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |_| {}).await;
    let owner = app.verified_user_at("alice@example.com").await;
    let login = json!({"email": "alice@example.com", "password": PASSWORD});
    for _ in 0..2 {
        let intruder = app.anonymous();
        intruder.post("/login", login.clone()).await.status(200);
        intruder.patch("/me", json!({"email": "mallory@example.com"})).await.ok();
        intruder.call("/logout").await.status(204);
        owner.delete("/me/sessions").await.status(204);
        assert_eq!(owner.get("/me").await.ok()["pending_email"], Value::Null);
    }
    app.deliver().await;
    for mail in mailbox.to("mallory@example.com") {
        let link = json!({"token": mail.token()});
        app.anonymous().post("/email/verify", link).await.faults();
    }
    assert_eq!(owner.get("/me").await.ok()["email"], "alice@example.com");
}
