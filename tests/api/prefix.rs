//! A proxy serves the service below a path of its own, and strips that path or leaves it.

use portcullis::config::PublicUrl;
use portcullis::openapi;
use serde_json::{Value, json};

use crate::app::PASSWORD;
use crate::smtp::Mailbox;
use crate::{Client, TestApp};

const PUBLIC: &str = "https://example.com/auth";

/// A service below `/auth`, and a client of each kind of proxy: one that strips the prefix, and one that leaves it.
async fn below_auth(mailbox: &Mailbox) -> (TestApp, [Client; 2]) {
    let app = TestApp::with_mail(mailbox, |config| {
        config.public_url = PublicUrl::parse(PUBLIC).unwrap();
    });
    let app = app.await;
    let stripped = app.anonymous();
    let left = stripped.at(&format!("{}/auth", app.base));
    (app, [stripped, left])
}

#[tokio::test]
async fn locations_and_redirects_have_the_prefix_and_cookies_have_none() {
    let mailbox = Mailbox::start().await;
    let (_app, clients) = below_auth(&mailbox).await;
    for (n, client) in clients.iter().enumerate() {
        let new = json!({"username": format!("user-{n}"), "password": PASSWORD});
        let answer = client.post("/users", new).await.status(201);
        let id = answer.body["user"]["id"].as_str().unwrap();
        assert_eq!(answer.header("location"), Some(&*format!("/auth/users/{id}")));
        let cookie = answer.header("set-cookie").unwrap();
        assert!(
            cookie.starts_with("__Host-portcullis=") && cookie.ends_with("; Path=/"),
            "{cookie}"
        );
        let token = answer.set_cookie("__Host-portcullis").unwrap();
        let me = client.with("cookie", &format!("__Host-portcullis={token}"));
        assert_eq!(me.get("/me").await.ok()["id"], id);
        let token = me.post("/me/tokens", json!({"name": "t"})).await.status(201);
        let id = token.body["api_token"]["id"].as_str().unwrap();
        assert_eq!(token.header("location"), Some(&*format!("/auth/me/tokens/{id}")));
        let home = client.get("/").await.status(307);
        assert_eq!(home.header("location"), Some("/auth/swagger-ui/"));
        let moved = client.get("/swagger-ui").await.status(303);
        assert_eq!(moved.header("location"), Some("/auth/swagger-ui/"));
        client.get("/nothing").await.problem(404, "not_found");
    }
    clients[1].get("/auth/me").await.problem(404, "not_found");
    clients[0].get("/authentic/me").await.problem(404, "not_found");
    clients[0].get("/auth").await.status(307);
}

#[tokio::test]
async fn swagger_ui_and_the_document_name_addresses_with_the_prefix() {
    let mailbox = Mailbox::start().await;
    let (_app, clients) = below_auth(&mailbox).await;
    for client in clients {
        let start = client.get("/swagger-ui/swagger-initializer.js").await.status(200);
        assert!(start.text.contains(r#""/auth/openapi.json""#), "{}", start.text);
        let document = client.get("/openapi.json").await.ok();
        assert_eq!(document["servers"][0]["url"], "/auth");
    }
}

#[tokio::test]
async fn links_in_emails_have_the_prefix_and_open() {
    let mailbox = Mailbox::start().await;
    let (app, clients) = below_auth(&mailbox).await;
    let email = "alice@example.com";
    let new = json!({"username": "alice", "email": email, "password": PASSWORD});
    clients[0].post("/users", new).await.status(201);
    app.deliver().await;
    let mail = mailbox.next_to(email, 1).await;
    let link = format!("{PUBLIC}/email/verify?token={}", mail.token());
    assert!(mail.text.contains(&link), "{}", mail.text);
    for client in clients {
        client.get(&format!("/email/verify?token={}", mail.token())).await.status(200);
    }
}

#[test]
fn a_prefix_is_plain_and_none_of_the_services_own_paths() {
    let document: Value = serde_json::from_str(&openapi::json().unwrap()).unwrap();
    let paths = document["paths"].as_object().unwrap().keys().map(String::as_str);
    for path in paths.chain(["/swagger-ui/", "/openapi.json", "/metrics"]) {
        let first = path.split('/').nth(1).unwrap();
        for url in
            [format!("https://example.com/{first}"), format!("https://example.com/{first}/x")]
        {
            let error = PublicUrl::parse(&url).unwrap_err();
            assert!(error.contains(&format!("/{first}")), "{error}");
        }
    }
    for odd in ["/a//b", "/a%20b", "/é", "/a?b", "/a#b", "/a/%2e%2e/b%"] {
        assert!(PublicUrl::parse(&format!("https://example.com{odd}")).is_err(), "{odd}");
    }
    for (given, prefix) in [("", ""), ("/", ""), ("/auth", "/auth"), ("/a/auth-1/", "/a/auth-1")] {
        let url = PublicUrl::parse(&format!("https://example.com{given}")).unwrap();
        assert_eq!(
            (url.prefix(), url.to_string()),
            (prefix, format!("https://example.com{prefix}"))
        );
    }
}
