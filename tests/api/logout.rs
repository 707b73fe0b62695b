use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use portcullis::store;
use serde_json::json;

use crate::TestApp;
use crate::app::PASSWORD;
use crate::throttle::many_logins;

#[tokio::test]
async fn a_logout_ends_the_session_and_removes_the_cookie() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let secret = user.login().await.cookie();
    let answer = user.call("/logout").await.status(204);
    let removal = answer.header("set-cookie").unwrap();
    assert_eq!(removal, "portcullis=; HttpOnly; SameSite=Lax; Path=/; Max-Age=0");
    assert!(answer.text.is_empty());
    user.get("/me").await.problem(401, "unauthenticated");
    app.with_cookie(&secret).get("/me").await.problem(401, "session_expired");
    assert_eq!((app.count("sessions").await, app.count("session_records").await), (0, 0));
}

#[tokio::test]
async fn a_logout_is_never_an_error() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let secret = user.login().await.cookie();
    for _ in 0..2 {
        let answer = app.with_cookie(&secret).call("/logout").await.status(204);
        assert!(answer.header("set-cookie").is_some());
    }
    let answer = app.anonymous().call("/logout").await.status(204);
    assert_eq!(answer.header("set-cookie"), None);
    for cookie in ["nonsense", "", "%00", "AAAAAAAAAAAAAAAAAAAAAA"] {
        let answer = app.with_cookie(cookie).call("/logout").await.status(204);
        assert!(answer.header("set-cookie").unwrap().contains("Max-Age=0"));
    }
    for token in ["pcs_nonsense", "pct_nonsense", ""] {
        let answer = app.with_token(token).call("/logout").await.status(204);
        assert_eq!(answer.header("set-cookie"), None);
    }
}

#[tokio::test]
async fn a_logout_by_token_leaves_the_cookie_alone() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let login = json!({"identifier": user.username(), "password": PASSWORD, "transport": "token"});
    let token = app.anonymous().post("/login", login).await.token();
    let answer =
        user.with("authorization", &format!("Bearer {token}")).call("/logout").await.status(204);
    assert_eq!(answer.header("set-cookie"), None);
    app.with_token(&token).get("/me").await.problem(401, "session_expired");
    user.get("/me").await.ok();
    let answer =
        user.with("authorization", "Bearer pcs_nonsense").call("/logout").await.status(204);
    assert_eq!(answer.header("set-cookie"), None);
    user.get("/me").await.ok();
}

#[tokio::test]
async fn a_logout_with_two_cookies_ends_both_sessions() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let login = json!({"identifier": user.username(), "password": PASSWORD});
    let one = app.anonymous().post("/login", login.clone()).await.cookie();
    let two = app.anonymous().post("/login", login).await.cookie();
    let both = app.with_cookie(&format!("{one}; portcullis={two}"));
    both.get("/me").await.problem(401, "session_expired");
    both.call("/logout").await.status(204);
    for secret in [one, two] {
        app.with_cookie(&secret).get("/me").await.problem(401, "session_expired");
    }
}

#[tokio::test]
async fn a_logout_ends_one_session_and_no_other() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let login = json!({"identifier": user.username(), "password": PASSWORD});
    let phone = app.anonymous();
    phone.post("/login", login).await.status(200);
    user.call("/logout").await.status(204);
    phone.get("/me").await.ok();
}

#[tokio::test]
async fn a_logout_that_waited_for_a_renewal_ends_the_renewed_session() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let secret = user.login().await.cookie();
    // The logout finds its session, and waits for the row of the account, as it does for a renewal.
    let mut renewal = store::begin(&app.pool).await.unwrap();
    sqlx::query("select from users for no key update").fetch_all(&mut *renewal).await.unwrap();
    let logout = tokio::spawn({
        let client = app.with_cookie(&secret);
        async move { client.call("/logout").await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let insert = "insert into session_records values ('new', '', now() + interval '1 day')";
    sqlx::query(insert).execute(&mut *renewal).await.unwrap();
    sqlx::query("update sessions set record_id = 'new'").execute(&mut *renewal).await.unwrap();
    renewal.commit().await.unwrap();
    logout.await.unwrap().status(204);
    assert_eq!(app.count("sessions").await, 0);
}

#[tokio::test]
async fn a_logout_happens_though_its_page_is_gone() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let secret = user.login().await.cookie();
    let mut lock = store::begin(&app.pool).await.unwrap();
    sqlx::query("select from users for no key update").fetch_all(&mut *lock).await.unwrap();
    let request = app.with_cookie(&secret).request(reqwest::Method::POST, "/logout");
    request.timeout(Duration::from_millis(300)).send().await.unwrap_err();
    lock.rollback().await.unwrap();
    for _ in 0..50 {
        if app.count("sessions").await == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the session stands");
}

/// Rounds of one logout against 8 clients that use the session all the while, on two instances;
/// `RESURRECTION_ROUNDS` asks for more.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_logout_holds_against_requests_in_flight_on_every_replica() {
    let rounds = std::env::var("RESURRECTION_ROUNDS").map_or(60, |rounds| rounds.parse().unwrap());
    let app = TestApp::with(many_logins).await;
    let replica = app.replica().await;
    let user = app.user().await;
    let (mut resurrected, mut in_flight) = (0, 0);
    for _ in 0..rounds {
        let secret = user.login().await.status(200).cookie();
        // Due for a touch, so that requests in flight write to the session too.
        app.sql("update sessions set last_seen_at = now() - interval '2 minutes'").await;
        let done = Arc::new(AtomicBool::new(false));
        let users = (0..8).map(|i| {
            let client =
                if i % 2 == 0 { app.with_cookie(&secret) } else { replica.with_cookie(&secret) };
            let done = Arc::clone(&done);
            tokio::spawn(async move {
                let mut answered = 0;
                while !done.load(Ordering::Relaxed) {
                    let answer = client.get("/session").await;
                    assert!(matches!(answer.code, 200 | 401), "{}", answer.text);
                    answered += usize::from(answer.code == 200);
                }
                answered
            })
        });
        let users: Vec<_> = users.collect();
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        replica.with_cookie(&secret).call("/logout").await.status(204);
        for app in [&app, &replica] {
            resurrected += usize::from(app.with_cookie(&secret).get("/me").await.code == 200);
        }
        done.store(true, Ordering::Relaxed);
        for user in users {
            in_flight += user.await.unwrap();
        }
        for app in [&app, &replica] {
            resurrected += usize::from(app.with_cookie(&secret).get("/me").await.code == 200);
        }
    }
    println!(
        "{resurrected} resurrected sessions in {rounds} logouts; {in_flight} requests in flight"
    );
    assert_eq!(resurrected, 0);
    assert!(in_flight > rounds, "{in_flight} requests were in flight");
    assert_eq!((app.count("sessions").await, app.count("session_records").await), (0, 0));
}
