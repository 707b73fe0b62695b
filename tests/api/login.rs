use std::time::{Duration, Instant};

use portcullis::config::Config;
use portcullis::config::{PublicUrl, SameSite};
use portcullis::password::{Hasher, NewPassword, Verdict};
use portcullis::store;
use serde_json::{Value, json};

use crate::app::PASSWORD;
use crate::throttle::many_logins;
use crate::{Answer, TestApp};

#[tokio::test]
async fn a_user_logs_in_by_username_or_email_in_any_case() {
    let app = TestApp::start().await;
    let alice = json!({"username": "alice", "email": "alice@example.com", "password": PASSWORD});
    app.anonymous().post("/users", alice).await.status(201);
    for (field, value) in [
        ("identifier", "alice"),
        ("identifier", " ALICE "),
        ("identifier", "Alice@Example.com"),
        ("username", "Alice"),
        ("email", " alice@EXAMPLE.com"),
    ] {
        let browser = app.anonymous();
        let answer = browser.post("/login", json!({field: value, "password": PASSWORD})).await;
        let body = answer.ok();
        assert_eq!(body["user"]["username"], "alice", "{field}={value}");
        assert!(body["user"]["last_login_at"].is_string());
        assert_eq!(body["token"], Value::Null);
        assert_eq!(browser.get("/me").await.ok(), body["user"]);
    }
}

#[tokio::test]
async fn an_email_address_is_no_username_and_the_other_way_round() {
    let app = TestApp::start().await;
    let alice = json!({"username": "alice", "email": "alice@example.com", "password": PASSWORD});
    app.anonymous().post("/users", alice).await.status(201);
    for body in [
        json!({"username": "alice@example.com", "password": PASSWORD}),
        json!({"email": "alice", "password": PASSWORD}),
    ] {
        app.anonymous().post("/login", body).await.problem(401, "invalid_credentials");
    }
}

#[tokio::test]
async fn the_cookie_lasts_as_long_as_the_browser_session_unless_remembered() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let answer = user.login().await.status(200);
    let set = answer.header("set-cookie").unwrap();
    let secret = answer.cookie();
    assert_eq!(set, format!("portcullis={secret}; HttpOnly; SameSite=Lax; Path=/"));
    assert_eq!(answer.body["session"]["remember"], false);

    let login = json!({"identifier": user.username(), "password": PASSWORD, "remember": true});
    let answer = user.post("/login", login).await.status(200);
    let set = answer.header("set-cookie").unwrap();
    assert!(set.ends_with("; HttpOnly; SameSite=Lax; Path=/; Max-Age=2592000"), "{set}");
    assert_eq!(answer.body["session"]["remember"], true);
    assert_eq!(answer.body["session"]["transport"], "cookie");
}

#[tokio::test]
async fn behind_https_the_cookie_is_secure_and_bound_to_the_host_or_domain() {
    let https = |url: &str| PublicUrl::parse(url).unwrap();
    let app = TestApp::with(|config| config.public_url = https("https://auth.example.com")).await;
    let set = app.user().await.login().await.header("set-cookie").unwrap().to_owned();
    assert!(set.starts_with("__Host-portcullis="), "{set}");
    assert!(set.ends_with("; HttpOnly; SameSite=Lax; Secure; Path=/"), "{set}");

    let app = TestApp::with(|config| {
        config.public_url = https("https://auth.example.com");
        config.cookie_domain = Some("example.com".to_owned());
        config.cookie_samesite = SameSite::None;
    });
    let login = app.await.user().await.login().await;
    let set: Vec<_> = login.headers.get_all("set-cookie").iter().collect();
    let set = set[1].to_str().unwrap();
    assert!(set.starts_with("__Secure-portcullis="), "{set}");
    assert!(set.contains("; SameSite=None; Secure; Path=/; Domain=example.com"), "{set}");
}

#[tokio::test]
async fn an_app_gets_a_token_and_no_cookie() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let login = json!({"identifier": user.username(), "password": PASSWORD, "transport": "token"});
    let answer = app.anonymous().post("/login", login).await.status(200);
    assert_eq!(answer.header("set-cookie"), None);
    assert_eq!(answer.body["session"]["transport"], "token");
    assert_eq!(answer.body["session"]["remember"], true);
    let token = answer.token();
    assert!(token.starts_with("pcs_") && token.len() == 26, "{token}");
    assert_eq!(app.with_token(&token).get("/me").await.ok()["id"], user.id());
}

#[tokio::test]
async fn a_token_need_not_be_remembered() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let login = json!({"identifier": user.username(), "password": PASSWORD, "transport": "token", "remember": false});
    let answer = app.anonymous().post("/login", login).await.ok();
    assert_eq!(answer["session"]["remember"], false);
}

#[tokio::test]
async fn an_unknown_user_is_answered_like_a_wrong_password() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let long = "x".repeat(1025);
    let mut bodies = Vec::new();
    for (identifier, password) in [
        (user.username(), "wrong"),
        (user.username(), ""),
        (user.username(), "correct horse battery staple "),
        (user.username(), long.as_str()),
        (user.username(), "nul\0byte"),
        ("nobody", PASSWORD),
        ("nobody@example.com", PASSWORD),
        ("", PASSWORD),
        ("nul\0byte", PASSWORD),
        (&"a".repeat(10_000), PASSWORD),
        ("' or 1=1 --", PASSWORD),
    ] {
        let login = json!({"identifier": identifier, "password": password});
        let answer =
            app.anonymous().post("/login", login).await.problem(401, "invalid_credentials");
        assert_eq!(answer.header("set-cookie"), None);
        assert_eq!(answer.header("www-authenticate"), Some(r#"Bearer realm="portcullis""#));
        let mut body = answer.body;
        body["request_id"] = Value::Null;
        bodies.push(body);
    }
    assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]), "{bodies:?}");
    assert_eq!(app.count("session_records").await, 1);
}

#[tokio::test]
async fn an_unknown_user_costs_what_a_wrong_password_costs_whatever_the_hash() {
    let hasher = hasher(9);
    let password = "wrong password".to_owned().into();
    let new = hash(&hasher, "the right one").await;
    let cheap = hash(&self::hasher(5), "the right one").await;
    let plain = bcrypt::hash("the right one", 9).unwrap();
    // The quickest of many tries is the one that nothing else slowed down.
    let quickest = async |stored: Option<&str>| {
        let mut quickest = Duration::MAX;
        for _ in 0..25 {
            let start = Instant::now();
            let place = hasher.admit().await.unwrap();
            let verdict = hasher.verify(place, &password, stored).await.unwrap();
            assert!(matches!(verdict, Verdict::Wrong));
            quickest = quickest.min(start.elapsed());
        }
        quickest.as_secs_f64()
    };
    let unknown = quickest(None).await;
    for stored in [&new, &cheap, &plain] {
        let ratio = quickest(Some(stored)).await / unknown;
        assert!((0.6..1.6).contains(&ratio), "{stored} took {ratio} of an unknown account's time");
    }
}

#[tokio::test]
async fn a_disabled_user_is_told_so_only_after_the_right_password() {
    let app = TestApp::start().await;
    let user = app.user().await;
    app.sql("update users set is_active = false").await;
    user.login().await.problem(403, "account_disabled");
    let wrong = json!({"identifier": user.username(), "password": "wrong password"});
    user.post("/login", wrong).await.problem(401, "invalid_credentials");
    user.get("/me").await.problem(401, "session_expired");
}

#[tokio::test]
async fn exactly_one_name_is_given() {
    let app = TestApp::start().await;
    for body in [
        json!({"password": PASSWORD}),
        json!({"username": null, "password": PASSWORD}),
        json!({"identifier": "alice", "username": "alice", "password": PASSWORD}),
        json!({"username": "alice", "email": "alice@example.com", "password": PASSWORD}),
    ] {
        let faults = app.anonymous().post("/login", body).await.faults();
        assert_eq!(faults[0].0, "identifier");
    }
}

#[tokio::test]
async fn what_is_wrong_in_the_body_is_named() {
    let app = TestApp::start().await;
    let client = app.anonymous();
    for (body, field, code) in [
        (json!({"identifier": "alice"}), "password", "required"),
        (json!({"identifier": "alice", "password": 1}), "password", "wrong_type"),
        (json!({"identifier": ["alice"], "password": "x"}), "identifier", "wrong_type"),
        (json!({"identifier": "alice", "password": "x", "admin": true}), "admin", "unknown"),
        (
            json!({"identifier": "alice", "password": "x", "remember": "yes"}),
            "remember",
            "wrong_type",
        ),
        (
            json!({"identifier": "alice", "password": "x", "transport": "smoke"}),
            "transport",
            "invalid",
        ),
        (
            json!({"identifier": "alice", "password": "x", "transport": null}),
            "transport",
            "wrong_type",
        ),
        (
            json!({"identifier": "alice", "password": "x", "transport": 1}),
            "transport",
            "wrong_type",
        ),
        (json!(["alice", null, null, PASSWORD]), "body", "wrong_type"),
        (json!("alice"), "body", "wrong_type"),
        (json!(null), "body", "wrong_type"),
    ] {
        let faults = client.post("/login", body.clone()).await.faults();
        assert_eq!(faults, [(field.to_owned(), code.to_owned())], "{body}");
    }
    let twice = r#"{"identifier": "alice", "password": "a", "password": "b"}"#;
    let request = client.request(reqwest::Method::POST, "/login");
    let request = request.header("content-type", "application/json").body(twice);
    let faults = Answer::to(request).await.faults();
    assert_eq!(faults, [("password".to_owned(), "invalid".to_owned())]);
}

#[tokio::test]
async fn every_login_makes_a_new_secret_and_ends_the_session_that_the_cookie_named() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let first = user.login().await.status(200).cookie();
    let second = user.login().await.status(200).cookie();
    assert_ne!(first, second);
    app.with_cookie(&first).get("/me").await.problem(401, "session_expired");
    app.with_cookie(&second).get("/me").await.ok();
    assert_eq!((app.count("sessions").await, app.count("session_records").await), (1, 1));
}

#[tokio::test]
async fn a_login_as_somebody_else_ends_the_session_of_the_one_before() {
    let app = TestApp::start().await;
    let (alice, bob) = (app.user().await, app.user().await);
    let before = alice.login().await.cookie();
    let login = json!({"identifier": bob.username(), "password": PASSWORD});
    let after = alice.post("/login", login).await.status(200).cookie();
    app.with_cookie(&before).get("/me").await.problem(401, "session_expired");
    assert_eq!(app.with_cookie(&after).get("/me").await.ok()["id"], bob.id());
    bob.get("/me").await.ok();
}

#[tokio::test]
async fn two_who_change_places_do_not_lock_each_other_out() {
    let app = TestApp::with(many_logins).await;
    let (alice, bob) = (app.user().await, app.user().await);
    for _ in 0..20 {
        let login = |name: &str| json!({"identifier": name, "password": PASSWORD});
        let (a, b) = tokio::join!(
            alice.post("/login", login(bob.username())),
            bob.post("/login", login(alice.username())),
        );
        assert_eq!((a.code, b.code), (200, 200), "{} {}", a.text, b.text);
        let (a, b) = tokio::join!(alice.login(), bob.login());
        assert_eq!((a.code, b.code), (200, 200), "{} {}", a.text, b.text);
    }
    assert_eq!(app.count("sessions").await, 2);
}

#[tokio::test]
async fn a_failed_login_ends_nothing() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let wrong = json!({"identifier": user.username(), "password": "wrong password"});
    user.post("/login", wrong).await.problem(401, "invalid_credentials");
    user.get("/me").await.ok();
}

#[tokio::test]
async fn a_credential_that_comes_along_never_hinders_a_login() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let login = json!({"identifier": user.username(), "password": PASSWORD});
    for (name, value) in [
        ("authorization", "Bearer pcs_nonsense"),
        ("authorization", "Bearer pct_nonsense"),
        ("authorization", "Basic nonsense"),
        ("x-api-key", "nonsense"),
        ("cookie", "portcullis=nonsense"),
        ("cookie", "portcullis=a; portcullis=b"),
        ("cookie", ";;=;"),
    ] {
        let Ok(value) = reqwest::header::HeaderValue::from_bytes(value.as_bytes()) else {
            continue;
        };
        let request = app.anonymous().request(reqwest::Method::POST, "/login").header(name, value);
        Answer::to(request.json(&login)).await.status(200);
    }
}

#[tokio::test]
async fn a_hash_of_another_kind_or_cost_is_replaced_at_login() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let flask = bcrypt::hash(PASSWORD, 4).unwrap();
    let costly = hash(&hasher(5), PASSWORD).await;
    for old in [flask.replacen("$2b$", "$2a$", 1), flask.replacen("$2b$", "$2y$", 1), flask, costly]
    {
        sqlx::query("update users set password_hash = $1")
            .bind(&old)
            .execute(&app.pool)
            .await
            .unwrap();
        user.login().await.status(200);
        let new: String = sqlx::query_scalar("select password_hash from users")
            .fetch_one(&app.pool)
            .await
            .unwrap();
        assert!(new.starts_with("$bcrypt-sha256$v=2,t=2b,r=4$"), "{old} became {new}");
        user.login().await.status(200);
        let same: String = sqlx::query_scalar("select password_hash from users")
            .fetch_one(&app.pool)
            .await
            .unwrap();
        assert_eq!(new, same);
    }
}

#[tokio::test]
async fn a_hash_that_nobody_knows_lets_nobody_in() {
    let app = TestApp::start().await;
    let user = app.user().await;
    for hash in ["", "!", PASSWORD, "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA"] {
        sqlx::query("update users set password_hash = $1")
            .bind(hash)
            .execute(&app.pool)
            .await
            .unwrap();
        user.login().await.problem(401, "invalid_credentials");
    }
}

#[tokio::test]
async fn a_password_that_changes_during_the_login_makes_no_session() {
    let app = TestApp::start().await;
    let user = app.user().await;
    // The login checks the old hash, and then waits for the row that the change has locked.
    let mut change = store::begin(&app.pool).await.unwrap();
    sqlx::query("update users set password_hash = 'new'").execute(&mut *change).await.unwrap();
    let login = tokio::spawn({
        let user = user.clone();
        async move { user.login().await }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    sqlx::query("delete from sessions").execute(&mut *change).await.unwrap();
    change.commit().await.unwrap();
    login.await.unwrap().problem(401, "invalid_credentials");
    assert_eq!(app.count("sessions").await, 0);
}

#[tokio::test]
async fn the_last_login_is_that_of_the_login_and_of_no_failed_one() {
    let app = TestApp::start().await;
    let user = app.user().await;
    app.sql("update users set last_login_at = '2020-01-01'").await;
    let wrong = json!({"identifier": user.username(), "password": "wrong password"});
    user.post("/login", wrong).await.problem(401, "invalid_credentials");
    assert_eq!(user.get("/me").await.ok()["last_login_at"], "2020-01-01T00:00:00Z");
    let login = user.login().await.ok();
    assert_eq!(login["user"]["last_login_at"], login["session"]["created_at"]);
}

fn hasher(bcrypt_cost: u32) -> Hasher {
    Hasher::new(&Config { bcrypt_cost, ..Config::defaults().unwrap() })
}

async fn hash(hasher: &Hasher, password: &str) -> String {
    let password = &password.to_owned().into();
    hasher.hash_new(NewPassword { field: "password", password, names: vec![] }).await.unwrap()
}

#[tokio::test]
async fn a_login_with_a_bearer_token_revokes_the_session_of_that_token() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let login = json!({"identifier": user.username(), "password": PASSWORD, "transport": "token"});
    let old = app.anonymous().post("/login", login.clone()).await.status(200).token();
    let new = app.with_token(&old).post("/login", login).await.status(200).token();
    app.with_token(&old).get("/me").await.problem(401, "session_expired");
    app.with_token(&new).get("/me").await.ok();
    user.get("/me").await.ok();
}
