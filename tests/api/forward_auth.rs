//! What reverse proxies ask of every request that they let through.

mod proxies;
mod raw;
mod way_back;

use std::time::Duration;

use portcullis::config::{Config, Origin, PublicUrl, Switch};
use portcullis::store;
use reqwest::Method;
use serde_json::json;

use crate::app::PASSWORD;
use crate::{Answer, Client, TestApp};

const TOLD: [&str; 8] = [
    "x-auth-user-id",
    "x-auth-username",
    "x-auth-email",
    "x-auth-email-verified",
    "x-auth-role",
    "x-auth-session-id",
    "x-auth-scopes",
    "x-auth-fresh-until",
];

/// The tests' own address is a proxy's.
fn behind_a_proxy(config: &mut Config) {
    config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
}

/// Behind a proxy, with a login page, for https and the hosts below example.com.
fn production(config: &mut Config) {
    behind_a_proxy(config);
    config.public_url = PublicUrl::parse("https://auth.example.com").unwrap();
    config.cookie_domain = Some("example.com".to_owned());
    config.allowed_origins = vec![Origin::parse("http://shop.example:8443").unwrap()];
    config.login_url = Some("https://auth.example.com/login?theme=dark".parse().unwrap());
}

/// What a proxy is told, in the order of `TOLD`.
#[track_caller]
fn told(answer: &Answer) -> [&str; 8] {
    assert_eq!((answer.code, answer.text.as_str()), (200, ""));
    TOLD.map(|name| answer.header(name).unwrap())
}

#[track_caller]
fn nothing_told(answer: &Answer) {
    assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("x-auth-")));
}

#[tokio::test]
async fn who_is_logged_in_passes_and_the_proxy_is_told_who_that_is() {
    let app = TestApp::start().await;
    let user = app.verified_user_at("alice@example.com").await;
    user.patch("/me", json!({"username": "alice", "name": "Alice\u{e9}"})).await.ok();
    let current = user.get("/session").await.ok();
    let answer = user.get("/forward-auth").await;
    let session = &current["session"];
    assert_eq!(
        told(&answer),
        [
            user.id(),
            "alice",
            "alice@example.com",
            "true",
            "user",
            session["id"].as_str().unwrap(),
            "",
            session["fresh_until"].as_str().unwrap(),
        ]
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("set-cookie"), None);
    assert_eq!(told(&app.admin().await.get("/forward-auth").await)[4], "admin");
}

#[tokio::test]
async fn what_there_is_nothing_to_tell_of_is_empty_and_not_left_out() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let [id, username, email, verified, role, _, scopes, _] =
        told(&user.get("/forward-auth").await).map(str::to_owned);
    assert_eq!(
        [&*id, &*username, &*email, &*verified, &*role, &*scopes],
        [user.id(), user.username(), "", "false", "user", ""]
    );
    let secret = user.token(json!({"name": "t", "scopes": ["write", "read"]})).await;
    let answer = app.with_token(&secret).get("/forward-auth").await;
    assert_eq!(told(&answer)[5..], ["", "read write", ""]);
    let nameless = app.user_at("bob@example.com").await.get("/forward-auth").await;
    assert_eq!(told(&nameless)[1..4], ["", "bob@example.com", "false"]);
}

#[tokio::test]
async fn an_address_with_letters_of_all_kinds_is_told_in_utf8() {
    let app = TestApp::start().await;
    for email in ["jürgen@example.com", "用户@bücher.example"] {
        let user = app.user_at(email).await;
        let answer = user.get("/forward-auth").await.status(200);
        let told = answer.headers["x-auth-email"].as_bytes();
        assert_eq!(str::from_utf8(told).unwrap(), user.user["email"]);
    }
}

#[tokio::test]
async fn whose_login_does_not_stand_does_not_pass_and_nothing_is_told() {
    let app = TestApp::start().await;
    let replica = app.replica().await;
    let nobody = app.anonymous().get("/forward-auth").await.problem(401, "unauthenticated");
    assert_eq!((nobody.header("set-cookie"), nobody.header("location")), (None, None));
    nothing_told(&nobody);
    let user = app.user().await;
    let secret = user.login().await.cookie();
    let token = user.token(json!({"name": "t", "scopes": ["read", "write"]})).await;
    let (browser, program) = (app.with_cookie(&secret), app.with_token(&token));
    told(&browser.to(&replica).get("/forward-auth").await);
    browser.call("/logout").await.status(204);
    let answer = browser.to(&replica).get("/forward-auth").await.problem(401, "session_expired");
    nothing_told(&answer);
    assert_eq!(answer.header("set-cookie"), None);
    user.login().await.status(200);
    told(&user.get("/forward-auth").await);
    told(&program.get("/forward-auth").await);
    app.sql("update users set is_active = false").await;
    user.get("/forward-auth").await.problem(401, "session_expired");
    program.get("/forward-auth").await.problem(401, "invalid_token");
    app.with_cookie(&format!("{secret}; portcullis=x"))
        .get("/forward-auth")
        .await
        .problem(401, "session_expired");
}

#[tokio::test]
async fn every_method_and_every_path_below_is_answered_from_any_origin() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let foreign = |client: &Client| {
        client.with("origin", "https://evil.example").with("sec-fetch-site", "cross-site")
    };
    let methods = "GET HEAD POST PUT PATCH DELETE OPTIONS TRACE PROPFIND QUERY get";
    let paths = ["", "/", "//", "/a", "/a/b%2Fc//..;", "/%ff%00", "/forward-auth"];
    for method in methods.split(' ') {
        for path in paths {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            // With what a browser asks before it calls another origin.
            let ask = async |client: Client| {
                let client = foreign(&client).with("access-control-request-method", "POST");
                let path = format!("/forward-auth{path}");
                Answer::to(client.request(method.clone(), &path)).await
            };
            assert_eq!(told(&ask(user.clone()).await)[0], user.id(), "{method} {path}");
            let nobody = ask(app.anonymous()).await.status(401);
            nothing_told(&nobody);
            assert!(method == Method::HEAD || nobody.body["code"] == "unauthenticated");
            assert_eq!(nobody.header("access-control-allow-origin"), None);
        }
    }
    app.anonymous().get("/forward-authority").await.problem(404, "not_found");
}

#[tokio::test]
async fn what_is_required_may_come_in_the_query_or_in_a_header() {
    let app = TestApp::start().await;
    let (user, admin) = (app.user().await, app.admin().await);
    for (required, of_user, of_admin) in [
        ("", 200, 200),
        ("role=user", 200, 200),
        ("role=admin", 403, 200),
        ("fresh=1", 200, 200),
        ("role=admin&fresh=1&redirect=1", 403, 200),
        ("fresh=0&redirect=0", 200, 200),
    ] {
        let path = format!("/forward-auth?{required}");
        for (client, status) in [(&user, of_user), (&admin, of_admin)] {
            let answer = client.get(&path).await.status(status);
            assert!(status == 200 || answer.body["code"] == "forbidden");
            let by_header = client.with("x-auth-require", required);
            for path in ["/forward-auth", "/forward-auth/a?role=user&fresh=0"] {
                by_header.get(path).await.status(status);
            }
        }
    }
    // Both count, so whoever adds one can only shut himself out.
    let both = user.with("x-auth-require", "role=user&fresh=0");
    both.get("/forward-auth?role=admin").await.problem(403, "forbidden");
    let two = user.with("x-auth-require", "role=admin").with("x-auth-require", "role=user");
    two.get("/forward-auth/").await.problem(403, "forbidden");
    app.stale().await;
    user.get("/forward-auth?fresh=1").await.problem(401, "reauthentication_required");
    user.post("/me/reauthenticate", json!({"password": PASSWORD})).await.ok();
    told(&user.get("/forward-auth?fresh=1").await);
}

#[tokio::test]
async fn what_is_required_and_not_known_lets_nobody_pass() {
    let app = TestApp::with(|config| config.api_key_query = Switch::On).await;
    let user = app.user().await;
    let token = user.token(json!({"name": "t", "scopes": ["read", "write"]})).await;
    for (required, field) in [
        ("rol=admin", "rol"),
        ("role=root", "role"),
        ("role=", "role"),
        ("fresh=yes", "fresh"),
        ("fresh=1&fresh=0", "fresh"),
        ("redirect=true", "redirect"),
        ("return_to=https://evil.example", "return_to"),
        // It would be everybody's.
        (&format!("api_key={token}"), "api_key"),
    ] {
        for client in [&user, &app.anonymous()] {
            for method in [Method::GET, Method::POST] {
                let query = client.request(method.clone(), &format!("/forward-auth?{required}"));
                assert_eq!(Answer::to(query).await.faults()[0].0, field, "{required}");
                let by_header = client.with("x-auth-require", required);
                let header = by_header.request(method, "/forward-auth/a");
                assert_eq!(Answer::to(header).await.faults()[0].0, field, "{required}");
            }
        }
    }
    user.with("x-auth-require", "\u{fc}=1").get("/forward-auth").await.faults();
}

#[tokio::test]
async fn the_query_of_the_original_request_neither_weakens_nor_breaks_the_check() {
    let app = TestApp::with(|config| config.api_key_query = Switch::On).await;
    let user = app.user().await;
    let scopes = json!({"name": "t", "scopes": ["read", "write", "admin"]});
    let admins = app.admin().await.token(scopes).await;
    for query in ["role=user", "role=admin", "fresh=x", "redirect=1", "x", "api_key=nonsense", "%"]
    {
        for path in ["", "a", "role=admin", "a/forward-auth"] {
            let path = format!("/forward-auth/{path}?{query}");
            assert_eq!(told(&user.get(&path).await)[0], user.id(), "{path}");
            app.anonymous().get(&path).await.problem(401, "unauthenticated");
            let required = user.with("x-auth-require", "role=admin");
            required.get(&path).await.problem(403, "forbidden");
        }
    }
    let link = format!("/forward-auth/a?api_key={admins}");
    assert_eq!(told(&user.get(&link).await)[0], user.id());
    app.anonymous().get(&link).await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn what_only_admins_may_do_needs_a_token_that_may_and_no_other_is_called_an_admins() {
    let app = TestApp::start().await;
    let (user, admin) = (app.user().await, app.admin().await);
    let lesser = admin.token(json!({"name": "t", "scopes": ["read", "write"]})).await;
    let scopes = json!(["read", "write", "admin"]);
    let full = admin.token(json!({"name": "t", "scopes": scopes})).await;
    let (lesser, full) = (app.with_token(&lesser), app.with_token(&full));
    assert_eq!(told(&lesser.get("/forward-auth").await)[4], "user");
    assert_eq!(told(&full.get("/forward-auth?role=admin").await)[4], "admin");
    lesser.get("/forward-auth?role=admin").await.problem(403, "insufficient_scope");
    // A token is never fresh.
    full.get("/forward-auth?fresh=1").await.problem(403, "session_required");
    app.sql("update users set role = 'user'").await;
    full.get("/forward-auth?role=admin").await.problem(403, "forbidden");
    admin.get("/forward-auth?role=admin").await.problem(403, "forbidden");
    told(&user.get("/forward-auth").await);
}

#[tokio::test]
async fn without_the_database_nobody_passes() {
    let app = TestApp::with(|config| {
        production(config);
        config.request_timeout = Duration::from_secs(1);
    });
    let app = app.await;
    let user = app.user_over_http().await;
    let mut lock = store::begin(&app.pool).await.unwrap();
    sqlx::query("lock table users in access exclusive mode").execute(&mut *lock).await.unwrap();
    let answer = user.get("/forward-auth?redirect=1").await.problem(503, "timeout");
    nothing_told(&answer);
    assert_eq!(answer.header("location"), None);
    lock.rollback().await.unwrap();
    told(&user.get("/forward-auth").await);
}

#[tokio::test]
async fn a_password_with_the_request_is_no_session() {
    let app = TestApp::with(|config| config.basic_auth = Switch::On).await;
    let user = app.user().await;
    let client = |password: &str| {
        let name = user.username();
        app.anonymous().with("authorization", &basic(name, password))
    };
    let answer = client(PASSWORD).get("/forward-auth").await;
    assert_eq!(told(&answer)[5..], ["", "", ""]);
    client(PASSWORD).get("/forward-auth?fresh=1").await.problem(403, "session_required");
    client("wrong").get("/forward-auth").await.problem(401, "invalid_credentials");
}

fn basic(name: &str, password: &str) -> String {
    use base64::Engine as _;
    let text = format!("{name}:{password}");
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
}

impl TestApp {
    /// Somebody who is logged in although the cookie is for https: the browser of a test would keep it
    /// back.
    async fn user_over_http(&self) -> Client {
        let name = format!("user-{:012x}", rand::random::<u32>());
        let new = json!({"username": name, "password": PASSWORD, "transport": "cookie"});
        let registered = self.anonymous().post("/users", new).await.status(201);
        let cookie = format!("__Secure-portcullis={}", registered.cookie());
        let mut client = self.anonymous().with("cookie", &cookie);
        client.user = registered.body["user"].clone();
        client
    }
}
