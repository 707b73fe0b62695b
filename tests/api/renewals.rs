//! A session that gets a new secret while other tabs of the browser still send the old one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use portcullis::config::{SessionProtection, Switch};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::app::{Answer, PASSWORD};
use crate::{Client, TestApp};

async fn renew(client: &Client) -> Answer {
    client.post("/me/reauthenticate", json!({"password": PASSWORD})).await
}

/// Renewals of the session in the test of tabs.
const RENEWALS: usize = 1000;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn renewals_in_two_tabs_log_out_none_of_six() {
    let app = TestApp::with(|config| config.throttle = Switch::Off).await;
    let replica = app.replica().await;
    // The tabs share the browser's cookies.
    let browser = app.user().await;
    let (renewed, calls) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (start, mut tabs) = (Instant::now(), JoinSet::new());
    for tab in 0..6 {
        let (renewed, calls) = (Arc::clone(&renewed), Arc::clone(&calls));
        let instances = [browser.clone(), browser.to(&replica)];
        tabs.spawn(async move {
            let mut collisions = 0;
            for round in tab.. {
                if renewed.load(Ordering::Relaxed) >= RENEWALS {
                    break;
                }
                let instance = &instances[round % 2];
                let call = async { drop(instance.get("/me").await.ok()) };
                if tab < 2 {
                    let (answer, ()) = tokio::join!(renew(instance), call);
                    match answer.code {
                        200 => drop(renewed.fetch_add(1, Ordering::Relaxed)),
                        _ => {
                            answer.problem(409, "session_renewed");
                            collisions += 1;
                        }
                    }
                } else {
                    call.await;
                }
                calls.fetch_add(1, Ordering::Relaxed);
            }
            collisions
        });
    }
    let collisions: usize = tabs.join_all().await.into_iter().sum();
    let (renewed, calls, took) =
        (renewed.load(Ordering::Relaxed), calls.load(Ordering::Relaxed), start.elapsed());
    println!("{renewed} renewals, {collisions} collisions and {calls} GET /me in {took:?}, no 401");
    assert!(renewed >= RENEWALS);
    browser.get("/me").await.ok();
    assert_eq!(app.count("sessions").await, 1);
}

#[tokio::test]
async fn the_old_secret_finds_the_session_but_never_as_recently_authenticated() {
    let app = TestApp::start().await;
    let replica = app.replica().await;
    let user = app.user().await;
    let old = user.login().await.status(200).cookie();
    let new = renew(&user).await.status(200).cookie();
    for app in [&app, &replica] {
        let tab = app.with_cookie(&old);
        let session = tab.get("/session").await.ok()["session"].clone();
        assert_eq!(session["current"], true);
        let is_past = sqlx::query_scalar::<_, bool>("select $1::text::timestamptz <= now()");
        let is_past = is_past.bind(session["fresh_until"].as_str());
        assert!(is_past.fetch_one(&app.pool).await.unwrap(), "{session}");
        tab.patch("/me", json!({"name": "Alice"})).await.ok();
        for sensitive in [
            tab.post("/me/tokens", json!({"name": "t"})).await,
            tab.delete("/me/sessions").await,
            tab.delete("/me").await,
            tab.patch("/me", json!({"username": "another"})).await,
        ] {
            sensitive.problem(401, "reauthentication_required");
        }
    }
    user.post("/me/tokens", json!({"name": "t"})).await.status(201);
    app.end_grace().await;
    for app in [&app, &replica] {
        app.with_cookie(&old).get("/me").await.problem(401, "session_expired");
        app.with_cookie(&new).get("/me").await.ok();
    }
}

#[tokio::test]
async fn a_second_renewal_with_the_old_secret_is_a_conflict_and_keeps_the_session() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let old = user.login().await.status(200).cookie();
    let new = renew(&user).await.status(200).cookie();
    let tab = app.with_cookie(&old);
    let answer = renew(&tab).await.problem(409, "session_renewed");
    assert_eq!(answer.header("set-cookie"), None);
    tab.post("/me/reauthenticate", json!({"password": "wrong"}))
        .await
        .problem(409, "session_renewed");
    let change =
        json!({"current_password": PASSWORD, "new_password": "a quite different password"});
    tab.put("/me/password", change).await.problem(409, "session_renewed");
    app.with_cookie(&new).get("/me").await.ok();
    let newest = renew(&app.with_cookie(&new)).await.status(200).cookie();
    // Every secret of the last seconds still finds the session.
    for secret in [&old, &new, &newest] {
        app.with_cookie(secret).get("/me").await.ok();
    }
    app.end_grace().await;
    renew(&tab).await.problem(401, "session_expired");
    app.with_cookie(&newest).get("/me").await.ok();
}

#[tokio::test]
async fn revoking_all_other_sessions_ends_the_old_secrets_of_this_one_too() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let old = user.login().await.status(200).cookie();
    let new = renew(&user).await.status(200).cookie();
    app.with_cookie(&old).get("/me").await.ok();
    user.delete("/me/sessions").await.status(204);
    app.with_cookie(&old).get("/me").await.problem(401, "session_expired");
    app.with_cookie(&new).get("/me").await.ok();
}

#[tokio::test]
async fn whatever_ends_the_session_ends_its_old_secrets_at_once() {
    let app = TestApp::start().await;
    let replica = app.replica().await;
    let admin = app.admin().await;
    for event in [
        "password",
        "logout",
        "logout by the old secret",
        "revoke",
        "revoke all",
        "disable",
        "login",
        "earlier release",
    ] {
        let user = app.user().await;
        let mut secrets = vec![user.login().await.status(200).cookie()];
        for _ in 0..2 {
            secrets.push(renew(&user).await.status(200).cookie());
        }
        for secret in &secrets {
            replica.with_cookie(secret).get("/me").await.ok();
        }
        let id = user.get("/session").await.ok()["session"]["id"].clone();
        match event {
            "password" => {
                let change = json!({"current_password": PASSWORD, "new_password": "a quite different password"});
                let changed = user.put("/me/password", change).await.status(200).cookie();
                replica.with_cookie(&changed).get("/me").await.ok();
            }
            "logout" => drop(user.call("/logout").await.status(204)),
            "logout by the old secret" => {
                app.with_cookie(&secrets[0]).call("/logout").await.status(204);
            }
            "revoke" => {
                let path = format!("/me/sessions/{}", id.as_str().unwrap());
                app.with_cookie(&secrets[0]).delete(&path).await.status(204);
            }
            "revoke all" => drop(user.delete("/me/sessions?include=current").await.status(204)),
            "disable" => {
                let disabled = json!({"is_active": false});
                admin.patch(&format!("/users/{}", user.id()), disabled).await.ok();
            }
            "login" => {
                let login = json!({"username": user.username(), "password": PASSWORD});
                app.with_cookie(&secrets[1]).post("/login", login).await.status(200);
            }
            // It knows only the newest secret, and deletes its record when it renews or revokes the session.
            _ => {
                let delete = "delete from session_records r using sessions s where s.record_id = r.id and s.id::text = $1";
                sqlx::query(delete).bind(id.as_str()).execute(&app.pool).await.unwrap();
            }
        }
        for secret in &secrets {
            for app in [&app, &replica] {
                app.with_cookie(secret).get("/me").await.problem(401, "session_expired");
            }
        }
        if event != "earlier release" {
            let left = "select from session_records where renewed_as is not null";
            assert_eq!(app.sql(left).await, 0, "{event}");
        }
    }
}

#[tokio::test]
async fn an_old_secret_from_elsewhere_revokes_nothing() {
    for (protection, status) in [(SessionProtection::Basic, 200), (SessionProtection::Strong, 401)]
    {
        let app = TestApp::with(|config| config.session_protection = protection).await;
        let user = app.user().await.with("user-agent", "Firefox");
        let old = user.login().await.status(200).cookie();
        renew(&user).await.status(200);
        let elsewhere = app.with_cookie(&old).with("user-agent", "curl");
        elsewhere.get("/me").await.status(status);
        elsewhere.post("/me/tokens", json!({"name": "t"})).await.status(401);
        user.post("/me/tokens", json!({"name": "t"})).await.status(201);
        let events: Value = user.get("/me/activity").await.ok();
        assert!(!events.to_string().contains("session_protected"), "{events}");
    }
}
