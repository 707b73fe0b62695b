//! What answers tell browsers to do with them.

use portcullis::config::{Hsts, PublicUrl};

use crate::TestApp;

const NOTHING: &str =
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[tokio::test]
async fn answers_are_neither_stored_nor_sniffed_nor_framed() {
    let app = TestApp::start().await;
    let user = app.user().await;
    for answer in [
        user.get("/me").await,
        user.get("/users").await,
        user.login().await,
        user.get("/nowhere").await,
        user.put("/me", serde_json::json!({})).await,
        app.anonymous().get("/healthz").await,
        app.anonymous().get("/openapi.json").await,
    ] {
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("content-security-policy"), Some(NOTHING));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(answer.header("cross-origin-resource-policy"), Some("same-origin"));
        assert_eq!(answer.header("strict-transport-security"), None);
    }
}

#[tokio::test]
async fn swagger_ui_may_run_its_own_scripts_and_nothing_else() {
    let app = TestApp::start().await;
    let page = app.anonymous().get("/swagger-ui/").await.status(200);
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(!page.text.contains("<script>"), "an inline script would not run");
}

#[tokio::test]
async fn behind_https_browsers_are_told_to_stay_there() {
    let https = PublicUrl::parse("https://auth.example.com").unwrap();
    let app = TestApp::with(|config| config.public_url = https).await;
    for path in ["/me", "/swagger-ui/", "/nowhere"] {
        let answer = app.anonymous().get(path).await;
        assert_eq!(answer.header("strict-transport-security"), Some("max-age=31536000"), "{path}");
    }
}

#[tokio::test]
async fn hsts_may_include_subdomains_or_be_left_to_a_proxy() {
    let app = TestApp::start().await;
    for (hsts, url, expected) in [
        (Hsts::Subdomains, "https://auth.example.com", Some("max-age=31536000; includeSubDomains")),
        (Hsts::Off, "https://auth.example.com", None),
        (Hsts::Subdomains, "http://localhost:8080", None),
    ] {
        let mut config = app.config.clone();
        (config.hsts, config.public_url) = (hsts, PublicUrl::parse(url).unwrap());
        let app = app.replica_with(config).await;
        for path in ["/me", "/swagger-ui/", "/nowhere", "/forward-auth"] {
            let answer = app.anonymous().get(path).await;
            assert_eq!(answer.header("strict-transport-security"), expected, "{path}");
        }
    }
}
