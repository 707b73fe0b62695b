use std::time::Duration;

use portcullis::store;
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::PASSWORD;
use crate::{Answer, TestApp};

#[tokio::test]
async fn an_address_that_does_not_exist_is_a_problem() {
    let app = TestApp::start().await;
    for path in ["/nope", "/users/", "/users/1/2", "/swagger-ui/nope.js", "/%00", "//me", "/me/"] {
        app.anonymous().get(path).await.problem(404, "not_found");
    }
    app.anonymous().post("/nope", json!({})).await.problem(404, "not_found");
}

#[tokio::test]
async fn a_method_that_does_not_exist_is_a_problem_that_lists_those_that_do() {
    let app = TestApp::start().await;
    for (method, path, allow) in [
        (Method::DELETE, "/login", "POST"),
        (Method::GET, "/logout", "POST"),
        (Method::PUT, "/me", "DELETE,GET,HEAD,PATCH"),
        (Method::PATCH, "/users", "GET,HEAD,POST"),
        (Method::POST, "/openapi.json", "GET,HEAD"),
    ] {
        let answer = Answer::to(app.anonymous().request(method.clone(), path)).await;
        let answer = answer.problem(405, "method_not_allowed");
        let mut allowed: Vec<_> =
            answer.header("allow").unwrap().split(',').map(str::trim).collect();
        allowed.sort_unstable();
        assert_eq!(allowed.join(","), allow, "{method} {path}");
    }
}

#[tokio::test]
async fn a_body_that_is_not_json_is_malformed() {
    let app = TestApp::start().await;
    let deep = format!("{}{}", r#"{"identifier":"#.repeat(200), "}".repeat(200));
    for body in [
        &b""[..],
        b"{",
        b"nonsense",
        b"identifier=alice&password=x",
        b"{\"identifier\": \"alice\", \"password\": \"\xff\xfe\"}",
        b"{\"identifier\": \"alice\", \"password\": \"x\"} trailing",
        b"[1, 2",
        b" \xef\xbb\xbf{}",
        deep.as_bytes(),
    ] {
        let answer = send(&app, "application/json", body.to_vec()).await;
        assert!(
            answer.code == 400 || (answer.code == 422 && body == deep.as_bytes()),
            "{}: {}",
            String::from_utf8_lossy(body),
            answer.text,
        );
        if answer.code == 400 {
            answer.problem(400, "malformed");
        }
    }
}

#[tokio::test]
async fn a_body_of_another_type_is_unsupported() {
    let app = TestApp::start().await;
    let body = br#"{"identifier": "alice", "password": "x"}"#;
    for content_type in
        ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", "", "nonsense"]
    {
        send(&app, content_type, body.to_vec()).await.problem(415, "unsupported_media_type");
    }
    let request = app.anonymous().request(Method::POST, "/login").body(body.to_vec());
    Answer::to(request).await.problem(415, "unsupported_media_type");
    for content_type in ["application/json", "application/json; charset=utf-8", "Application/JSON"]
    {
        send(&app, content_type, body.to_vec()).await.problem(401, "invalid_credentials");
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_too_large() {
    let app = TestApp::start().await;
    let body = json!({"identifier": "a".repeat(70_000), "password": "x"}).to_string();
    send(&app, "application/json", body.into_bytes()).await.problem(413, "body_too_large");
}

#[tokio::test]
async fn an_unknown_parameter_is_named_where_a_call_has_parameters_and_ignored_elsewhere() {
    let app = TestApp::start().await;
    let user = app.admin().await;
    for path in ["/users?x=1", "/audit?x", "/me/sessions?limit=1&x=2", "/me/tokens?x=1"] {
        assert_eq!(user.get(path).await.faults(), [("x".to_owned(), "unknown".to_owned())]);
    }
    for path in ["/me?x=1", "/session?x", "/healthz?x=1&y"] {
        user.get(path).await.ok();
    }
    let login = json!({"identifier": user.username(), "password": PASSWORD});
    user.post("/login?utm_source=mail", login).await.ok();
}

#[tokio::test]
async fn a_compressed_or_partial_body_is_rejected_and_not_misread() {
    let app = TestApp::start().await;
    let login = json!({"identifier": "alice", "password": PASSWORD}).to_string();
    let answer = async |name: &str, value: &str| {
        let request = app.anonymous().request(Method::POST, "/login").header(name, value);
        let request = request.header("content-type", "application/json");
        Answer::to(request.body(login.clone())).await
    };
    for coding in ["gzip", "br", "identity, gzip", "GZIP"] {
        let answer = answer("content-encoding", coding).await;
        let answer = answer.problem(415, "unsupported_media_type");
        assert_eq!(answer.header("accept-encoding"), Some("identity"), "{coding}");
    }
    for plain in ["identity", "", "Identity ,"] {
        answer("content-encoding", plain).await.problem(401, "invalid_credentials");
    }
    answer("content-range", "bytes 0-9/100").await.problem(400, "malformed");
}

#[tokio::test]
async fn a_byte_order_mark_before_the_body_is_skipped() {
    let app = TestApp::start().await;
    let login = json!({"identifier": "alice", "password": PASSWORD}).to_string();
    let marked = format!("\u{feff}{login}").into_bytes();
    send(&app, "application/json", marked).await.problem(401, "invalid_credentials");
    let twice = format!("\u{feff}\u{feff}{login}").into_bytes();
    send(&app, "application/json", twice).await.problem(400, "malformed");
    let list = "\u{feff}[]".to_owned().into_bytes();
    assert_eq!(send(&app, "application/json", list).await.faults()[0].0, "body");
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_a_time_out() {
    let app = TestApp::with(|config| config.request_timeout = Duration::from_secs(1)).await;
    let user = app.user().await;
    let mut lock = store::begin(&app.pool).await.unwrap();
    sqlx::query("lock table users in access exclusive mode").execute(&mut *lock).await.unwrap();
    user.get("/me").await.problem(503, "timeout");
    lock.rollback().await.unwrap();
    user.get("/me").await.ok();
}

#[tokio::test]
async fn every_answer_names_its_request() {
    let app = TestApp::start().await;
    let client = app.anonymous();
    let id = client.get("/healthz").await.header("x-request-id").unwrap().to_owned();
    assert_eq!(uuid::Uuid::parse_str(&id).unwrap().get_version_num(), 7);
    for path in ["/me", "/nope", "/healthz", "/swagger-ui/", "/"] {
        let answer = client.get(path).await;
        assert!(uuid::Uuid::parse_str(answer.header("x-request-id").unwrap()).is_ok(), "{path}");
    }
}

#[tokio::test]
async fn only_a_trusted_proxy_names_a_request() {
    let app = TestApp::start().await;
    let mut config = app.config.clone();
    config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let trusting = app.replica_with(config).await;
    let named = app.anonymous().with("x-request-id", "my-own.id_1");
    for path in ["/me", "/nope", "/healthz", "/swagger-ui/", "/", "/forward-auth"] {
        // Whatever a stranger says of where it comes from.
        let stranger = named.with("x-forwarded-for", "127.0.0.1").get(path).await;
        let id = stranger.header("x-request-id").unwrap();
        assert_eq!(uuid::Uuid::parse_str(id).unwrap().get_version_num(), 7, "{path}");
        let answer = named.to(&trusting).get(path).await;
        assert_eq!(answer.header("x-request-id"), Some("my-own.id_1"), "{path}");
    }
    for hostile in ["a b", "\"", "<script>", &"x".repeat(65), ""] {
        let proxy = trusting.anonymous().with("x-request-id", hostile);
        let answer = proxy.get("/me").await.problem(401, "unauthenticated");
        assert_ne!(answer.header("x-request-id"), Some(hostile));
    }
    let answer = named.to(&trusting).with("x-request-id", "another").get("/me").await;
    let id = answer.header("x-request-id").unwrap();
    assert!(uuid::Uuid::parse_str(id).is_ok(), "one of two: {id}");
}

#[tokio::test]
async fn a_head_request_is_answered_like_a_get() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let answer = Answer::to(user.request(Method::HEAD, "/me")).await;
    assert_eq!((answer.code, answer.text.as_str()), (200, ""));
    let answer = Answer::to(app.anonymous().request(Method::HEAD, "/me")).await;
    assert_eq!((answer.code, answer.text.as_str()), (401, ""));
}

#[tokio::test]
async fn an_error_never_tells_its_cause() {
    let app = TestApp::start().await;
    let user = app.user().await;
    app.sql("alter table users rename column name to nickname").await;
    let answer = user.get("/me").await.problem(500, "internal");
    assert!(
        !answer.text.contains("nickname") && !answer.text.contains("column"),
        "{}",
        answer.text
    );
    assert_ne!(answer.body["request_id"], Value::Null);
}

#[tokio::test]
async fn a_transaction_that_postgresql_rolled_back_is_a_503_that_says_so() {
    let app = TestApp::start().await;
    let user = app.user().await;
    for code in ["40001", "40P01"] {
        app.sql(&format!(
            "create or replace function collide() returns trigger language plpgsql as
             $$ begin raise exception using errcode = '{code}'; end $$"
        ))
        .await;
        app.sql("create or replace trigger collide before insert on sessions execute function collide()")
            .await;
        let answer = user.login().await.problem(503, "database_unavailable");
        let detail = answer.body["detail"].as_str().unwrap();
        assert!(detail.contains("at the same time") && !detail.contains("reached"), "{detail}");
    }
}

async fn send(app: &TestApp, content_type: &str, body: Vec<u8>) -> Answer {
    let request = app.anonymous().request(Method::POST, "/login");
    Answer::to(request.header("content-type", content_type).body(body)).await
}
