//! `PUT /me/password`.

use std::time::Duration;

use portcullis::config::Switch;
use portcullis::store;
use serde_json::json;

use crate::TestApp;
use crate::app::PASSWORD;

const NEW: &str = "a quite different password";

#[tokio::test]
async fn a_new_password_ends_every_other_session_and_renews_this_one() {
    let app = TestApp::start().await;
    let replica = app.replica().await;
    let user = app.user().await;
    let old = user.login().await.cookie();
    let login = json!({"identifier": user.username(), "password": PASSWORD, "transport": "token"});
    let phone = app.anonymous().post("/login", login.clone()).await.token();
    let api_token = user.token(json!({"name": "t"})).await;
    app.stale().await;
    let change = json!({"current_password": PASSWORD, "new_password": NEW});
    let answer = user.put("/me/password", change).await.status(200);
    let new = answer.cookie();
    assert_eq!(answer.body["user"]["id"], user.id());
    for app in [&app, &replica] {
        app.with_cookie(&old).get("/me").await.problem(401, "session_expired");
        app.with_token(&phone).get("/me").await.problem(401, "session_expired");
        app.with_cookie(&new).get("/me").await.ok();
        app.with_token(&api_token).get("/me").await.problem(401, "invalid_token");
    }
    app.anonymous().post("/login", login).await.problem(401, "invalid_credentials");
    let login = json!({"identifier": user.username(), "password": NEW});
    app.anonymous().post("/login", login).await.ok();
    user.delete(&format!("/me/tokens/{}", "01a1fdbe-c128-7060-b598-5638a5c14638"))
        .await
        .problem(404, "not_found");
}

#[tokio::test]
async fn a_change_that_meets_a_hash_that_was_just_replaced_succeeds() {
    let app = TestApp::start().await;
    let user = app.user().await;
    // The change verifies the one hash, waits for the row, and finds another of the same password.
    let mut login = store::begin(&app.pool).await.unwrap();
    sqlx::query("select from users for no key update").fetch_all(&mut *login).await.unwrap();
    let change = tokio::spawn({
        let user = user.clone();
        let change = json!({"current_password": PASSWORD, "new_password": NEW});
        async move { user.put("/me/password", change).await }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let replaced = bcrypt::hash(PASSWORD, 4).unwrap();
    sqlx::query("select set_config('portcullis.rehash', 'on', true)")
        .execute(&mut *login)
        .await
        .unwrap();
    sqlx::query("update users set password_hash = $1")
        .bind(replaced)
        .execute(&mut *login)
        .await
        .unwrap();
    login.commit().await.unwrap();
    change.await.unwrap().status(200);
    let login = json!({"identifier": user.username(), "password": NEW});
    user.post("/login", login).await.ok();
}

#[tokio::test]
async fn a_wrong_current_password_changes_nothing() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let change = json!({"current_password": "wrong password", "new_password": NEW});
    user.put("/me/password", change).await.problem(403, "wrong_password");
    user.get("/me").await.ok();
    user.login().await.ok();
    assert_eq!(app.count("session_records").await, 1);
}

#[tokio::test]
async fn a_weak_password_is_refused_before_the_current_one_is_looked_at() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let change = json!({"current_password": "wrong password", "new_password": "short"});
    let faults = user.put("/me/password", change).await.faults();
    assert_eq!(faults, [("new_password".to_owned(), "too_short".to_owned())]);
}

#[tokio::test]
async fn a_token_is_no_session_to_change_a_password_with() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let token = user.token(json!({"name": "t", "scopes": ["read", "write"]})).await;
    let change = json!({"current_password": PASSWORD, "new_password": NEW});
    app.with_token(&token).put("/me/password", change).await.problem(403, "session_required");
}

#[tokio::test]
async fn api_tokens_stay_valid_only_when_the_request_keeps_them() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let api_token = user.token(json!({"name": "t"})).await;
    let keep = json!({"current_password": PASSWORD, "new_password": NEW, "keep_api_tokens": true});
    user.put("/me/password", keep).await.ok();
    app.with_token(&api_token).get("/me").await.ok();
    let change = json!({"current_password": NEW, "new_password": PASSWORD});
    user.put("/me/password", change).await.ok();
    app.with_token(&api_token).get("/me").await.problem(401, "invalid_token");
}

#[tokio::test]
async fn the_version_of_a_credential_moves_with_a_new_password_and_not_with_a_rehash() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let version = async || {
        let version = "select credential_version from users";
        sqlx::query_scalar::<_, i64>(version).fetch_one(&app.pool).await.unwrap()
    };
    // An imported hash: as if it had always been there.
    let mut import = store::begin(&app.pool).await.unwrap();
    sqlx::query("select set_config('portcullis.rehash', 'on', true)")
        .execute(&mut *import)
        .await
        .unwrap();
    sqlx::query("update users set password_hash = $1")
        .bind(bcrypt::hash(PASSWORD, 4).unwrap())
        .execute(&mut *import)
        .await
        .unwrap();
    import.commit().await.unwrap();
    assert_eq!(version().await, 1);
    user.login().await.ok();
    let rehashed = app.sql("select from users where password_hash like '$bcrypt-sha256$%'").await;
    assert_eq!((rehashed, version().await), (1, 1));
    let change = json!({"current_password": PASSWORD, "new_password": NEW});
    user.put("/me/password", change).await.ok();
    assert_eq!(version().await, 2);
    // Whoever sets it.
    app.sql("update users set password_hash = '!'").await;
    assert_eq!(version().await, 3);
}

#[tokio::test]
async fn many_logins_at_once_that_replace_an_old_hash_all_succeed() {
    let app = TestApp::with(|config| config.throttle = Switch::Off).await;
    let replica = app.replica().await;
    let user = app.user().await;
    let plain = bcrypt::hash(PASSWORD, 4).unwrap();
    sqlx::query("update users set password_hash = $1")
        .bind(plain)
        .execute(&app.pool)
        .await
        .unwrap();
    let login = json!({"identifier": user.username(), "password": PASSWORD});
    let logins: Vec<_> = (0..12)
        .map(|i| {
            let client = if i % 2 == 0 { &app } else { &replica }.anonymous();
            let login = login.clone();
            tokio::spawn(async move { client.post("/login", login).await })
        })
        .collect();
    for login in logins {
        login.await.unwrap().ok();
    }
}
