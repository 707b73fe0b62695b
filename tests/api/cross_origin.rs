use portcullis::config::{Config, Origin, PublicUrl};
use reqwest::Method;
use serde_json::json;

use crate::app::PASSWORD;
use crate::{Answer, Client, TestApp};

fn origins(texts: &[&str]) -> Vec<Origin> {
    texts.iter().map(|text| Origin::parse(text).unwrap()).collect()
}

fn production(config: &mut Config) {
    config.public_url = PublicUrl::parse("https://auth.example.com").unwrap();
}

fn page(client: &Client, origin: &str, site: &str) -> Client {
    client.with("origin", origin).with("sec-fetch-site", site)
}

#[tokio::test]
async fn an_app_beside_the_service_needs_to_be_allowed() {
    let app = TestApp::with(production).await;
    let spa = page(&app.anonymous(), "https://app.example.com", "same-site");
    let new = json!({"username": "alice", "password": PASSWORD});
    let answer = spa.post("/users", new.clone()).await.problem(403, "cross_origin_rejected");
    let detail = answer.body["detail"].as_str().unwrap();
    assert!(detail.contains("https://app.example.com"), "{detail}");
    assert!(detail.contains("PORTCULLIS_ALLOWED_ORIGINS"), "{detail}");
    assert_eq!(answer.header("access-control-allow-origin"), None);
    assert_eq!(app.count("users").await, 0);

    let app = TestApp::with(|config| {
        production(config);
        config.allowed_origins = origins(&["https://app.example.com"]);
    });
    let app = app.await;
    let spa = page(&app.anonymous(), "https://app.example.com", "same-site");
    let answer = spa.post("/users", new).await.status(201);
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example.com"));
    assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
    spa.call("/logout").await.status(204);
    let other = page(&app.anonymous(), "https://evil.example.com", "same-site");
    other.call("/logout").await.problem(403, "cross_origin_rejected");
}

#[tokio::test]
async fn a_dev_server_beside_the_service_needs_to_be_allowed() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let spa = page(&user, "http://localhost:5173", "same-site");
    spa.call("/logout").await.problem(403, "cross_origin_rejected");
    user.get("/me").await.ok();

    let mut config = app.config.clone();
    config.allowed_origins = origins(&["http://localhost:5173"]);
    let allowing = app.replica_with(config).await;
    let answer = spa.to(&allowing).login().await.status(200);
    assert_eq!(answer.header("access-control-allow-origin"), Some("http://localhost:5173"));
    let near = page(&user, "http://localhost:5174", "same-site").to(&allowing);
    near.call("/logout").await.problem(403, "cross_origin_rejected");
}

#[tokio::test]
async fn a_hostile_page_changes_nothing() {
    let app = TestApp::start().await;
    let user = app.user().await;
    for hostile in [
        page(&user, "https://evil.example", "cross-site"),
        page(&user, "null", "cross-site"),
        user.with("origin", "https://evil.example"),
        user.with("origin", "null"),
        user.with("sec-fetch-site", "cross-site"),
        user.with("sec-fetch-site", "same-site"),
        page(&user, "http://localhost:8080.evil.example", "cross-site"),
        page(&user, "http://localhost:80801", "same-site"),
        page(&user, "http://evil@localhost:8080", "cross-site"),
        page(&user, "https://localhost:8080", "same-site"),
    ] {
        let new = json!({"username": "mallory", "password": PASSWORD});
        hostile.login().await.problem(403, "cross_origin_rejected");
        hostile.post("/users", new).await.problem(403, "cross_origin_rejected");
        hostile.call("/logout").await.problem(403, "cross_origin_rejected");
        let again = json!({"password": PASSWORD});
        hostile.post("/me/reauthenticate", again).await.problem(403, "cross_origin_rejected");
        // Its requests to read are answered, and no CORS header lets it see the answer.
        assert_eq!(hostile.get("/me").await.header("access-control-allow-origin"), None);
    }
    assert_eq!(app.count("users").await, 1);
    user.get("/me").await.ok();
}

#[tokio::test]
async fn our_own_pages_and_programs_pass() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let host = app.base.clone();
    for friendly in [
        user.clone(),
        page(&user, "http://localhost:8080", "same-origin"),
        // Opened under another name than the public one.
        page(&user, &host, "same-origin"),
        user.with("origin", &host),
        user.with("sec-fetch-site", "none"),
    ] {
        friendly.login().await.status(200);
    }
}

#[tokio::test]
async fn a_page_whose_name_was_rebound_to_the_service_changes_nothing() {
    for public_url in ["http://localhost:8080", "https://auth.example.com"] {
        let app = TestApp::with(|config| config.public_url = PublicUrl::parse(public_url).unwrap());
        let app = app.await;
        let rebound = app.anonymous().with("host", "evil.example:8080");
        for origin in ["http://evil.example:8080", "null"] {
            let page = rebound.with("origin", origin);
            // The page is of the same origin for the browser, so that it may add headers without a preflight.
            for page in [
                page.clone(),
                page.with("sec-fetch-site", "same-origin"),
                page.with("x-api-key", "x"),
                page.with("authorization", "Bearer x"),
                page.with("authorization", "Basic YTpi"),
            ] {
                let new = json!({"username": "mallory", "password": PASSWORD});
                let answer = page.post("/users", new).await.problem(403, "cross_origin_rejected");
                assert_eq!(answer.header("access-control-allow-origin"), None);
                let login = json!({"identifier": "alice", "password": PASSWORD});
                page.post("/login", login).await.problem(403, "cross_origin_rejected");
                let forgot = json!({"email": "alice@example.com"});
                page.post("/password/forgot", forgot).await.problem(403, "cross_origin_rejected");
            }
        }
        assert_eq!(app.count("users").await, 0);
    }
}

#[tokio::test]
async fn a_proxy_may_call_by_an_internal_name() {
    let app = TestApp::with(production).await;
    let proxy = app.anonymous().with("host", "portcullis:8080");
    let new = json!({"username": "alice", "password": PASSWORD});
    proxy.post("/users", new).await.status(201);
    // With what a browser said to it.
    let public = page(&proxy, "https://auth.example.com", "same-origin");
    public.call("/logout").await.status(204);
    let login = json!({"identifier": "alice", "password": PASSWORD, "transport": "token"});
    let token = proxy.post("/login", login).await.token();
    let app_behind = app.with_token(&token).with("host", "portcullis:8080");
    app_behind.with("origin", "https://app.example.com").call("/logout").await.status(204);
}

#[tokio::test]
async fn no_preflight_succeeds_for_a_path_that_does_not_exist() {
    let app =
        TestApp::with(|config| config.allowed_origins = origins(&["https://app.example.com"]))
            .await;
    let client = app.anonymous().with("origin", "https://app.example.com");
    let preflight = client.with("access-control-request-method", "POST");
    for client in [&app.anonymous(), &client, &preflight] {
        for path in ["/nope", "/forward-authx", "/me/", "//me", "/users/1/2", "/metrics"] {
            let answer = Answer::to(client.request(Method::OPTIONS, path)).await;
            let answer = answer.problem(404, "not_found");
            assert_eq!(answer.header("access-control-allow-origin"), None, "{path}");
        }
        let answer = Answer::to(client.request(Method::OPTIONS, "/swagger-ui/nope.js")).await;
        answer.problem(405, "method_not_allowed");
        Answer::to(client.request(Method::OPTIONS, "/me")).await.status(200);
    }
}

#[tokio::test]
async fn a_token_needs_no_origin() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let login = json!({"identifier": user.username(), "password": PASSWORD, "transport": "token"});
    let token = app.anonymous().post("/login", login).await.token();
    let elsewhere = page(&app.with_token(&token), "https://evil.example", "cross-site");
    elsewhere.get("/me").await.ok();
    elsewhere.call("/logout").await.status(204);
    // The cookie of the browser does not slip in behind it.
    let slip = page(&user.with("authorization", "Bearer x"), "https://evil.example", "cross-site");
    slip.call("/logout").await.status(204);
    slip.post("/me/reauthenticate", json!({"password": PASSWORD}))
        .await
        .problem(401, "invalid_token");
    user.get("/me").await.ok();
    let basic =
        page(&user.with("authorization", "Basic YTpi"), "https://evil.example", "cross-site");
    basic.call("/logout").await.problem(403, "cross_origin_rejected");
}

#[tokio::test]
async fn a_gateway_that_adds_its_own_api_key_opens_no_hole_for_hostile_pages() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let behind = user.with("x-api-key", "gateway-key");
    let hostile = behind.with("origin", "https://evil.example").with("sec-fetch-site", "same-site");
    hostile.call("/logout").await.problem(403, "cross_origin_rejected");
    hostile.delete("/me").await.problem(403, "cross_origin_rejected");
    behind.get("/me").await.ok();
}

#[tokio::test]
async fn an_app_in_a_web_view_logs_in_by_token_if_its_origin_is_allowed() {
    let app = TestApp::with(|config| config.allowed_origins = origins(&["capacitor://localhost"]));
    let app = app.await;
    let user = app.user().await;
    let login = json!({"identifier": user.username(), "password": PASSWORD, "transport": "token"});
    let from = |origin: &str| app.anonymous().with("origin", origin);
    let answer = from("capacitor://localhost").post("/login", login.clone()).await.status(200);
    assert_eq!(answer.header("access-control-allow-origin"), Some("capacitor://localhost"));
    let with_token =
        from("capacitor://localhost").with("authorization", &format!("Bearer {}", answer.token()));
    with_token.get("/me").await.ok();
    for other in ["capacitor://evil", "ionic://localhost", "tauri://localhost", "http://localhost"]
    {
        from(other).post("/login", login.clone()).await.problem(403, "cross_origin_rejected");
    }
}

#[tokio::test]
async fn a_preflight_is_answered_without_a_login_and_only_for_allowed_origins() {
    let app =
        TestApp::with(|config| config.allowed_origins = origins(&["https://app.example.com"]))
            .await;
    let preflight = async |origin: &str, path: &str| {
        let request = app.anonymous().request(Method::OPTIONS, path);
        let request = request
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header(
                "access-control-request-headers",
                "content-type,authorization,x-api-key,x-request-id,traceparent,tracestate,baggage,sentry-trace",
            );
        Answer::to(request).await.status(200)
    };
    for path in ["/login", "/me", "/users", "/users/1"] {
        let answer = preflight("https://app.example.com", path).await;
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example.com"));
        assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
        let headers = answer.header("access-control-allow-headers").unwrap();
        for name in
            ["content-type", "x-api-key", "traceparent", "tracestate", "baggage", "sentry-trace"]
        {
            assert!(headers.split(',').any(|it| it == name), "{headers}");
        }
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            assert!(answer.header("access-control-allow-methods").unwrap().contains(method));
        }
        assert!(answer.header("x-request-id").is_some());
        let answer = preflight("https://evil.example", path).await;
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
}

#[tokio::test]
async fn errors_can_be_read_by_allowed_origins_too() {
    let app =
        TestApp::with(|config| config.allowed_origins = origins(&["https://app.example.com"]))
            .await;
    let spa = page(&app.anonymous(), "https://app.example.com", "same-site");
    for answer in [
        spa.get("/me").await.problem(401, "unauthenticated"),
        spa.get("/nope").await.problem(404, "not_found"),
        spa.call("/me").await.problem(405, "method_not_allowed"),
        spa.call("/login").await.problem(415, "unsupported_media_type"),
        spa.post("/login", json!({})).await.problem(422, "validation_failed"),
    ] {
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example.com"));
        assert!(answer.header("vary").unwrap().to_lowercase().contains("origin"));
        let exposed = answer.header("access-control-expose-headers").unwrap();
        for header in [
            "x-request-id",
            "retry-after",
            "www-authenticate",
            "ratelimit",
            "ratelimit-policy",
            "location",
        ] {
            assert!(exposed.split(',').any(|name| name.trim() == header), "{header}");
        }
    }
    let vary = app.anonymous().get("/healthz").await;
    assert!(vary.header("vary").unwrap().to_lowercase().contains("origin"));
}
