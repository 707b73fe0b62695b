//! What is believed of proxies, and how each of them asks.

use portcullis::config::{Config, SessionProtection};
use reqwest::Method;
use serde_json::json;

use super::{behind_a_proxy, production, told};
use crate::app::PASSWORD;
use crate::{Answer, Client, TestApp};

/// How each proxy asks about `POST https://app.example.com/a/b?c=d&e` from 203.0.113.9.
fn asking(proxy: &str, client: &Client, query: &str) -> reqwest::RequestBuilder {
    let (method, path, headers): (_, _, &[(&str, &str)]) = match proxy {
        // ngx_http_auth_request_module, with the headers that deploy/nginx.conf sets.
        "nginx" => (
            Method::GET,
            "/forward-auth",
            &[
                ("connection", "close"),
                ("x-original-method", "POST"),
                ("x-original-url", "https://app.example.com/a/b?c=d&e"),
                ("x-forwarded-for", "203.0.113.9"),
            ],
        ),
        // Its forwardAuth: always GET, hop-by-hop headers removed, all others copied.
        "Traefik" => (
            Method::GET,
            "/forward-auth",
            &[
                ("content-type", "text/plain"),
                ("x-forwarded-method", "POST"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "app.example.com"),
                ("x-forwarded-uri", "/a/b?c=d&e"),
                ("x-forwarded-for", "203.0.113.9"),
            ],
        ),
        // ext_authz with an HTTP service: the original's method, host, and path after the prefix.
        "Envoy" => (
            Method::POST,
            "/forward-auth/a/b?c=d&e",
            &[
                ("host", "app.example.com"),
                ("content-length", "0"),
                ("x-original-method", "POST"),
                ("x-original-url", "https://app.example.com/a/b?c=d&e"),
                ("x-forwarded-for", "203.0.113.9"),
                ("x-forwarded-proto", "https"),
                ("x-envoy-internal", "true"),
                ("x-envoy-expected-rq-timeout-ms", "200"),
            ],
        ),
        _ => panic!("{proxy}"),
    };
    let mut client = client.with("user-agent", "one").with("origin", "https://app.example.com");
    for (name, value) in headers {
        client = client.with(name, value);
    }
    if proxy == "Envoy" && !query.is_empty() {
        return client.with("x-auth-require", query).request(method, path);
    }
    client.request(method, &format!("{path}{}{query}", if query.is_empty() { "" } else { "?" }))
}

#[tokio::test]
async fn nginx_traefik_and_envoy_are_answered_in_their_own_ways_of_asking() {
    let app = TestApp::with(production).await;
    let home = app.anonymous().with("x-forwarded-for", "203.0.113.9").with("user-agent", "one");
    let new = json!({"username": "alice", "password": PASSWORD});
    let registered = home.post("/users", new).await.status(201);
    let cookie = format!("__Secure-portcullis={}", registered.cookie());
    let browser = app.anonymous().with("cookie", &cookie);
    let make = async |scopes: serde_json::Value| {
        let wishes = json!({"name": "t", "scopes": scopes});
        home.with("cookie", &cookie).token(wishes).await
    };
    let (read, write) = (make(json!(["read"])).await, make(json!(["write"])).await);
    for proxy in ["nginx", "Traefik", "Envoy"] {
        let ask = async |client: &Client, query| Answer::to(asking(proxy, client, query)).await;
        let answer = ask(&browser, "").await;
        assert_eq!(told(&answer)[1], "alice", "{proxy}");
        assert!(ask(&browser, "fresh=1").await.code == 200, "{proxy}: another client");
        ask(&browser, "role=admin").await.problem(403, "forbidden");
        ask(&app.with_token(&read), "").await.problem(403, "insufficient_scope");
        told(&ask(&app.with_token(&write), "").await);
        let page = "https://auth.example.com/login?theme=dark&return_to=https%3A%2F%2Fapp.example.com%2Fa%2Fb%3Fc%3Dd%26e";
        // nginx knows no other way to the page than the header of the 401.
        let nobody = ask(&app.anonymous(), "").await.problem(401, "unauthenticated");
        assert_eq!(nobody.header("location"), Some(page), "{proxy}");
        let nobody = ask(&app.anonymous(), "redirect=1").await.status(302);
        assert_eq!((nobody.header("location"), nobody.text.as_str()), (Some(page), ""), "{proxy}");
        assert_eq!(nobody.header("cache-control"), Some("no-store"));
        assert_eq!(nobody.header("set-cookie"), None);
    }
}

#[tokio::test]
async fn browsers_are_led_to_the_login_page_and_programs_are_not() {
    let app = TestApp::with(production).await;
    for (name, value, code) in [
        ("cookie", "__Secure-portcullis=x", "session_expired"),
        ("accept", "*/*", "unauthenticated"),
    ] {
        let browser = app.anonymous().with(name, value);
        assert!(browser.get("/forward-auth").await.problem(401, code).header("location").is_some());
        browser.get("/forward-auth?redirect=1").await.status(302);
        browser.with("x-auth-require", "redirect=1").get("/forward-auth/a").await.status(302);
        browser.with("x-auth-require", "redirect=0").get("/forward-auth").await.problem(401, code);
    }
    for (name, value) in [("authorization", "Bearer pct_x"), ("x-api-key", "pct_x")] {
        let answer = app.anonymous().with(name, value).get("/forward-auth?redirect=1").await;
        assert_eq!(answer.problem(401, "invalid_token").header("location"), None);
    }
    let user = app.user_over_http().await;
    user.get("/forward-auth?redirect=1&role=admin").await.problem(403, "forbidden");
    app.stale().await;
    user.get("/forward-auth?redirect=1&fresh=1").await.status(302);
    // Without a page there is nowhere to go.
    let mut config = app.config.clone();
    config.login_url = None;
    let app = app.replica_with(config).await;
    let answer = app.anonymous().get("/forward-auth?redirect=1").await;
    assert_eq!(answer.problem(401, "unauthenticated").header("location"), None);
}

#[tokio::test]
async fn who_is_no_trusted_proxy_names_neither_method_nor_url() {
    let untrusted = |config: &mut Config| {
        production(config);
        config.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
    };
    let app = TestApp::with(untrusted).await;
    let user = app.user_over_http().await;
    let token = user.token(json!({"name": "t"})).await;
    let forger = |client: Client| {
        client
            .with("x-forwarded-method", "GET")
            .with("x-original-method", "GET")
            .with("x-forwarded-for", "10.0.0.1")
            .with("x-original-url", "https://app.example.com/")
    };
    let program = forger(app.with_token(&token));
    program.get("/forward-auth").await.problem(403, "insufficient_scope");
    let nobody = forger(app.anonymous()).get("/forward-auth?redirect=1").await.status(302);
    assert_eq!(nobody.header("location"), Some("https://auth.example.com/login?theme=dark"));
}

#[tokio::test]
async fn the_scope_of_an_api_token_is_judged_by_the_method_that_the_proxy_names() {
    let app = TestApp::with(behind_a_proxy).await;
    let user = app.user().await;
    let mut tokens = Vec::new();
    for scopes in [json!(["read"]), json!(["write"]), json!(["read", "write"])] {
        tokens.push(user.token(json!({"name": "t", "scopes": scopes})).await);
    }
    let (forwarded, original) = ("x-forwarded-method", "x-original-method");
    let table: [(&[(&str, &str)], bool); 14] = [
        (&[(forwarded, "GET")], true),
        (&[(original, "HEAD")], true),
        (&[(forwarded, "OPTIONS"), (original, "OPTIONS")], true),
        (&[(forwarded, "POST")], false),
        (&[(original, "DELETE")], false),
        (&[(original, "PROPFIND")], false),
        (&[(original, "get")], false),
        (&[(original, "")], false),
        (&[(original, "GET ")], true),
        (&[(original, "GET, POST")], false),
        // The proxy sets one of them, and hands on the other as the client sent it.
        (&[(forwarded, "GET"), (original, "POST")], false),
        (&[(forwarded, "POST"), (original, "GET")], false),
        (&[(forwarded, "GET"), (forwarded, "POST")], false),
        (&[], false),
    ];
    for (headers, safe) in table {
        // What the proxy asks with says nothing: nginx and Traefik always ask with GET.
        for method in [Method::GET, Method::POST] {
            let ask = async |token: &str| {
                let mut client = app.with_token(token);
                for (name, value) in headers {
                    client = client.with(name, value);
                }
                Answer::to(client.request(method.clone(), "/forward-auth/a")).await
            };
            let codes = (ask(&tokens[0]).await.code, ask(&tokens[1]).await.code);
            assert_eq!(codes, if safe { (200, 403) } else { (403, 200) }, "{headers:?}");
            told(&ask(&tokens[2]).await);
        }
    }
    let refused = app.with_token(&tokens[0]).get("/forward-auth?redirect=1").await;
    let refused = refused.problem(403, "insufficient_scope");
    assert!(refused.header("www-authenticate").unwrap().contains(r#"scope="write""#));
    // A session may do everything, whatever the method.
    told(&user.with(original, "DELETE").get("/forward-auth").await);
}

#[tokio::test]
async fn a_check_is_a_use_of_the_session_by_the_client_that_the_proxy_names() {
    let app = TestApp::with(|config| {
        behind_a_proxy(config);
        config.session_protection = SessionProtection::Strong;
    });
    let app = app.await;
    let user = app.user().await;
    let home = app.anonymous().with("x-forwarded-for", "203.0.113.9").with("user-agent", "one");
    let login = json!({"identifier": user.username(), "password": PASSWORD});
    let secret = home.post("/login", login).await.status(200).cookie();
    let at = |address: &str| {
        let client = app.with_cookie(&secret).with("user-agent", "one");
        client.with("x-forwarded-for", address)
    };
    app.sql("update sessions set last_seen_at = now() - interval '2 minutes'").await;
    told(&at("203.0.113.9").get("/forward-auth").await);
    app.touched().await;
    // What the thief writes himself comes before what the proxy appends.
    let thief = at("203.0.113.9, 198.51.100.1");
    thief.get("/forward-auth").await.problem(401, "session_expired");
    at("203.0.113.9").get("/forward-auth").await.problem(401, "session_expired");
}
