//! Browsers that send several session cookies: of an earlier cookie domain, of another deployment, or an attacker's.

use portcullis::config::PublicUrl;
use serde_json::json;

use crate::TestApp;
use crate::app::{Answer, PASSWORD};
use crate::serve::{Directory, Service};

/// A session of its own for an account, and its secret.
async fn secret_of(app: &TestApp, username: &str) -> String {
    let login = json!({"username": username, "password": PASSWORD, "remember": true});
    app.anonymous().post("/login", login).await.status(200).cookie()
}

/// A secret that looks like a session's.
const UNKNOWN: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// The session cookies that an answer sets or removes.
fn set_cookies(answer: &Answer) -> Vec<&str> {
    let set = answer.headers.get_all("set-cookie").iter().map(|set| set.to_str().unwrap());
    set.filter(|set| !set.contains("-device=")).collect()
}

#[tokio::test]
async fn the_only_valid_one_of_several_session_cookies_counts() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let secret = secret_of(&app, user.username()).await;
    let revoked = secret_of(&app, user.username()).await;
    app.with_cookie(&revoked).call("/logout").await.status(204);
    for cookies in [
        format!("{revoked}; portcullis={secret}"),
        format!("{secret}; portcullis={revoked}"),
        format!("{secret}; portcullis={secret}"),
        format!("x; portcullis={secret}"),
        format!("; portcullis={secret}; theme=dark"),
        format!("{UNKNOWN}; portcullis={secret}; portcullis={revoked}"),
    ] {
        let browser = app.with_cookie(&cookies);
        assert_eq!(browser.get("/me").await.ok()["id"], user.id(), "{cookies}");
        assert_eq!(browser.get("/session").await.ok()["session"]["current"], true);
        browser.get("/forward-auth").await.ok();
        browser.patch("/me", json!({"name": "Alice"})).await.ok();
    }
    // In two headers, as HTTP/2 proxies may send them.
    app.with_cookie(&secret).with("cookie", "portcullis=x").get("/me").await.ok();
    let renewal = app.with_cookie(&format!("{revoked}; portcullis={secret}"));
    let renewed = renewal.post("/me/reauthenticate", json!({"password": PASSWORD})).await;
    app.with_cookie(&renewed.status(200).cookie()).get("/me").await.ok();
}

#[tokio::test]
async fn two_valid_session_cookies_are_rejected_and_so_are_many() {
    let app = TestApp::start().await;
    let (user, attacker) = (app.user().await, app.user().await);
    let secret = secret_of(&app, user.username()).await;
    let planted = secret_of(&app, attacker.username()).await;
    let both = app.with_cookie(&format!("{secret}; portcullis={planted}"));
    both.get("/me").await.problem(401, "session_expired");
    both.post("/me/tokens", json!({"name": "t"})).await.problem(401, "session_expired");
    let many: String =
        ["BA", "CA", "DA", "EA"].map(|end| format!("; portcullis={}{end}", &UNKNOWN[2..])).concat();
    let many = app.with_cookie(&format!("{secret}{many}"));
    many.get("/me").await.problem(401, "session_expired");
    many.call("/logout").await.status(204);
    app.with_cookie(&secret).get("/me").await.problem(401, "session_expired");
    app.with_cookie(&planted).get("/me").await.ok();
}

#[tokio::test]
async fn a_login_revokes_every_session_that_the_cookies_name() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let old = secret_of(&app, user.username()).await;
    let new = secret_of(&app, app.user().await.username()).await;
    let both = app.with_cookie(&format!("{old}; portcullis={new}"));
    let login = json!({"username": user.username(), "password": PASSWORD});
    let secret = both.post("/login", login).await.status(200).cookie();
    for revoked in [old, new] {
        app.with_cookie(&revoked).get("/me").await.problem(401, "session_expired");
    }
    app.with_cookie(&secret).get("/me").await.ok();
}

#[tokio::test]
async fn after_a_change_of_the_cookie_domain_a_login_or_logout_removes_the_old_cookie() {
    let of_host = TestApp::with(|config| {
        config.public_url = PublicUrl::parse("http://auth.example.com").unwrap();
    });
    let of_host = of_host.await;
    let user = of_host.user().await;
    let mut config = of_host.config.clone();
    config.cookie_domain = Some("example.com".to_owned());
    let of_domain = of_host.replica_with(config).await;
    let (host_only, shared) = (
        "portcullis=; HttpOnly; SameSite=Lax; Path=/; Max-Age=0",
        "portcullis=; HttpOnly; SameSite=Lax; Path=/; Domain=example.com; Max-Age=0",
    );

    let old = secret_of(&of_host, user.username()).await;
    let browser = of_domain.with_cookie(&old);
    let login = json!({"username": user.username(), "password": PASSWORD});
    let answer = browser.post("/login", login).await.status(200);
    let set = set_cookies(&answer);
    assert_eq!((set.len(), set[0]), (2, host_only), "{set:?}");
    assert!(set[1].contains(&answer.cookie()) && set[1].contains("Domain=example.com"), "{set:?}");
    // A browser that keeps the old one all the same stays logged in.
    let both = of_domain.with_cookie(&format!("{old}; portcullis={}", answer.cookie()));
    both.get("/me").await.ok();
    let answer = both.call("/logout").await.status(204);
    assert_eq!(set_cookies(&answer), [host_only, shared]);
    both.get("/me").await.problem(401, "session_expired");

    // Without a domain there is one cookie, and no other is removed.
    let secret = secret_of(&of_host, user.username()).await;
    let answer = of_host.with_cookie(&secret).call("/logout").await.status(204);
    assert_eq!(set_cookies(&answer), [host_only]);
}

#[tokio::test]
async fn a_deployment_below_the_cookie_domain_of_another_one_works() {
    let deployment = |url: &'static str, domain: &'static str| {
        TestApp::with(move |config| {
            config.public_url = PublicUrl::parse(url).unwrap();
            config.cookie_domain = Some(domain.to_owned());
        })
    };
    let production = deployment("https://auth.example.com", "example.com").await;
    let staging = deployment("https://auth.staging.example.com", "staging.example.com").await;
    let (alice, bob) = (production.user().await, staging.user().await);
    let of_production = secret_of(&production, alice.username()).await;
    let of_staging = secret_of(&staging, bob.username()).await;
    let cookies = format!("__Secure-portcullis={of_production}; __Secure-portcullis={of_staging}");
    let browser = staging.anonymous().with("cookie", &cookies);
    assert_eq!(browser.get("/me").await.ok()["id"], bob.id());
    // Registering and logging in again work as well, and the logout is one of staging alone.
    let login = json!({"username": bob.username(), "password": PASSWORD});
    let of_staging = browser.post("/login", login).await.status(200).cookie();
    let cookies = format!("__Secure-portcullis={of_production}; __Secure-portcullis={of_staging}");
    let browser = staging.anonymous().with("cookie", &cookies);
    browser.call("/logout").await.status(204);
    browser.get("/me").await.problem(401, "session_expired");
    let cookie = format!("__Secure-portcullis={of_production}");
    production.anonymous().with("cookie", &cookie).get("/me").await.ok();
}

#[tokio::test]
async fn the_log_warns_of_several_session_cookies() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let one = secret_of(&app, user.username()).await;
    let two = secret_of(&app, user.username()).await;
    let (directory, url) = (Directory::new(), app.database_url());
    let service = Service::start(&directory.0, &[("DATABASE_URL", &url)]);
    let warnings = || {
        let log = std::fs::read_to_string(directory.0.join("log")).unwrap();
        log.lines().filter(|line| line.contains("WARN") && line.contains("several_cookies")).count()
    };
    app.with_cookie(&one).at(&service.base).get("/me").await.ok();
    assert_eq!(warnings(), 0);
    for (other, status, expected) in [(UNKNOWN, 200, 1), (&two, 401, 2)] {
        let both = app.with_cookie(&format!("{one}; portcullis={other}")).at(&service.base);
        both.get("/me").await.status(status);
        assert_eq!(warnings(), expected);
    }
    let log = std::fs::read_to_string(directory.0.join("log")).unwrap();
    assert!(!log.contains(&one) && !log.contains(&two));
}
