//! What a machine reads of the log.

use std::time::Duration;

use portcullis::store;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::TestApp;
use crate::app::PASSWORD;
use crate::serve::{Directory, Service};
use crate::throttle::{right, wrong};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// The access lines of a request.
fn lines<'a>(log: &'a [Value], request_id: &str) -> Vec<&'a Value> {
    let of_request = |line: &&Value| line["span"]["request_id"] == request_id;
    log.iter().filter(of_request).filter(|line| line["message"] == "answered").collect()
}

/// The log, as text and line by line.
fn read(directory: &Directory) -> (String, Vec<Value>) {
    let text = std::fs::read_to_string(directory.0.join("log")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (text, lines)
}

#[tokio::test]
async fn each_request_is_one_line_that_says_whose_it_was() {
    let mut app = TestApp::start().await;
    let (directory, database) = (Directory::new(), app.database_url());
    let settings = [("DATABASE_URL", &*database), ("PORTCULLIS_LOG_FORMAT", "json")];
    let service = Service::start_for_machines(&directory.0, &settings);
    app.base.clone_from(&service.base);
    let user = app.user().await;
    let caller = user.with("traceparent", &format!("00-{TRACE}-b7ad6b7169203331-01"));
    let me = caller.get("/me").await.status(200);
    let login = app.anonymous().post("/login", right(user.username())).await.status(200);
    let failed = app.anonymous().post("/login", wrong(user.username())).await.status(401);
    let token = user.token(json!({"name": "t"})).await;
    let by_token = app.with_token(&token).get("/me").await.status(200);
    let lost = app.anonymous().get("/made-up?email=alice@example.com").await.status(404);
    let odd = app.anonymous().with("traceparent", "00-zz-zz-01").get("/healthz").await.status(200);
    let stop = move || service.stop(Signal::TERM);
    tokio::task::spawn_blocking(stop).await.unwrap();

    let (text, log) = read(&directory);
    let line = |answer: &crate::Answer| {
        let id = answer.header("x-request-id").unwrap();
        let lines = lines(&log, id);
        assert_eq!(lines.len(), 1, "{lines:#?}");
        lines[0].clone()
    };
    let (own, told) = (json!(user.id()), line(&me));
    assert_eq!((&told["status"], &told["route"]), (&json!(200), &json!("/me")));
    assert!(told["microseconds"].as_u64().unwrap() > 0, "{told}");
    assert_eq!(told.get("client"), None, "only of a request that was refused");
    let span = &told["span"];
    assert_eq!((&span["method"], &span["path"]), (&json!("GET"), &json!("/me")));
    assert_eq!((&span["trace_id"], &span["user_id"]), (&json!(TRACE), &own));
    assert!(span["session_id"].as_str().is_some_and(|id| id.len() == 36), "{told}");

    let told = line(&login);
    assert_eq!(told["span"]["user_id"], own);
    assert_eq!(told["span"]["session_id"], login.body["session"]["id"]);
    assert_eq!(told["span"].get("trace_id"), None);

    let told = line(&failed);
    assert_eq!((told["span"].get("user_id"), &told["status"]), (None, &json!(401)));
    assert_eq!(told["client"], "127.0.0.1");
    let told = line(&by_token);
    assert_eq!((told["span"].get("session_id"), &told["span"]["user_id"]), (None, &own));
    let told = line(&lost);
    assert_eq!((told.get("route"), &told["span"]["path"]), (None, &json!("/made-up")));
    assert_eq!(line(&odd)["span"].get("trace_id"), None);
    for secret in [PASSWORD, "alice@example.com", &token, &login.cookie()] {
        assert!(!text.contains(secret), "{secret}");
    }
    // Every other line of a request tells which it was, too.
    let event = log.iter().find(|line| line["event"] == "login_failed").unwrap();
    assert_eq!(event["span"]["request_id"], *failed.header("x-request-id").unwrap());
}

#[tokio::test]
async fn a_page_that_cannot_read_an_answer_is_logged_with_its_origin_and_the_setting() {
    let app = TestApp::start().await;
    let (directory, database) = (Directory::new(), app.database_url());
    let settings = [("DATABASE_URL", &*database), ("PORTCULLIS_LOG_FORMAT", "json")];
    let service = Service::start_for_machines(&directory.0, &settings);
    let page = app.anonymous().at(&service.base).with("origin", "http://localhost:5173");
    for _ in 0..3 {
        page.get("/session").await.problem(401, "unauthenticated");
    }
    let stop = move || service.stop(Signal::TERM);
    tokio::task::spawn_blocking(stop).await.unwrap();
    let (_, log) = read(&directory);
    let told = |line: &&serde_json::Value| line["origin"] == "http://localhost:5173";
    let lines: Vec<_> = log.iter().filter(told).collect();
    assert_eq!(lines.len(), 1, "{log:#?}");
    assert!(lines[0]["message"].as_str().unwrap().contains("PORTCULLIS_ALLOWED_ORIGINS"));
}

#[tokio::test]
async fn a_line_about_an_error_names_the_request_when_nothing_else_is_logged() {
    let app = TestApp::start().await;
    let (directory, database) = (Directory::new(), app.database_url());
    let settings = [
        ("DATABASE_URL", &*database),
        ("PORTCULLIS_LOG_FORMAT", "json"),
        ("PORTCULLIS_LOG", "error,portcullis::command=info"),
    ];
    let service = Service::start_for_machines(&directory.0, &settings);
    app.sql("alter table throttles rename to elsewhere").await;
    let client = app.anonymous().at(&service.base);
    let failed = client.post("/login", right("alice")).await.problem(500, "internal");
    let stop = move || service.stop(Signal::TERM);
    tokio::task::spawn_blocking(stop).await.unwrap();
    let (_, log) = read(&directory);
    assert!(log.iter().all(|line| line["message"] != "answered"), "{log:#?}");
    let line = log.iter().find(|line| line["message"] == "request failed").unwrap();
    assert_eq!(line["span"]["request_id"], failed.body["request_id"]);
}

#[tokio::test]
async fn a_request_that_nobody_waits_for_is_told_too() {
    let app = TestApp::start().await;
    let (directory, database) = (Directory::new(), app.database_url());
    let settings = [
        ("DATABASE_URL", &*database),
        ("PORTCULLIS_LOG_FORMAT", "json"),
        ("PORTCULLIS_TRUSTED_PROXIES", "127.0.0.1"),
    ];
    let service = Service::start_for_machines(&directory.0, &settings);
    let user = app.user().await.at(&service.base);
    let mut held = store::begin(&app.pool).await.unwrap();
    sqlx::query("lock table sessions in access exclusive mode").execute(&mut *held).await.unwrap();
    let impatient = user.with("x-request-id", "impatient").request(Method::GET, "/me");
    let answer = impatient.timeout(Duration::from_millis(300)).send().await;
    assert!(answer.is_err_and(|error| error.is_timeout()));
    held.rollback().await.unwrap();
    let stop = move || service.stop(Signal::TERM);
    tokio::task::spawn_blocking(stop).await.unwrap();
    let (_, log) = read(&directory);
    let mut lines = log.iter().filter(|line| line["span"]["request_id"] == "impatient");
    let line = lines.next().unwrap();
    assert_eq!((&line["message"], &line["route"]), (&json!("given up"), &json!("/me")));
    assert_eq!((line.get("status"), lines.next()), (None, None));
}

#[tokio::test]
async fn no_character_that_forges_a_log_reaches_it() {
    let app = TestApp::start().await;
    let (directory, database) = (Directory::new(), app.database_url());
    // C1 (CSI, NEL), direction overrides, and what has no width.
    let forging = ["\u{9b}", "\u{85}", "\u{202e}", "\u{2066}", "\u{200b}", "\u{2028}", "\u{feff}"];
    for format in ["json", "text"] {
        let settings = [
            ("DATABASE_URL", &*database),
            ("PORTCULLIS_LOG_FORMAT", format),
            ("PORTCULLIS_LOG", "trace"),
        ];
        let service = match format {
            "json" => Service::start_for_machines(&directory.0, &settings),
            _ => Service::start(&directory.0, &settings),
        };
        let address = service.base.strip_prefix("http://").unwrap();
        for c in forging {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let lines =
                format!("POST /before{c}after?{c} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
            let headers = format!(
                "origin: https://{c}\r\nuser-agent: {c}\r\nx-request-id: {c}\r\nx-forwarded-for: {c}\r\ncookie: {c}={c}"
            );
            stream.write_all(format!("{lines}{headers}\r\n\r\n").as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(
                answer.starts_with("HTTP/1.1 404") || answer.starts_with("HTTP/1.1 403"),
                "{answer}"
            );
            let login = json!({"identifier": c, "password": c, "device_token": c});
            app.anonymous().at(&service.base).post("/login", login).await;
        }
        let long = app.anonymous().at(&service.base).get(&format!("/{}", "x".repeat(10_000))).await;
        long.problem(404, "not_found");
        let stop = move || service.stop(Signal::TERM);
        tokio::task::spawn_blocking(stop).await.unwrap();
        let log = std::fs::read_to_string(directory.0.join("log")).unwrap();
        for c in forging {
            let code = format!("{:x}", u32::from(c.chars().next().unwrap()));
            let at = log.find(c).map(|at| &log[at.saturating_sub(100)..]);
            assert!(at.is_none(), "{format}: U+{code} in {at:?}");
            assert!(log.contains(&format!("u{{{code}}}after")), "{format}: no U+{code}");
        }
        // A path is not repeated whole on each line.
        assert!(log.contains(&"x".repeat(1000)) && !log.contains(&"x".repeat(1100)));
        if format == "json" {
            let (_, lines) = read(&directory);
            let path = |line: &Value| line["span"]["path"].as_str().unwrap_or_default().to_owned();
            assert!(lines.iter().any(|line| path(line) == r"/before\u{202e}after"), "{log}");
        }
    }
}

#[tokio::test]
async fn a_rejected_origin_is_logged_with_its_host_and_the_setting() {
    let app = TestApp::start().await;
    let (directory, database) = (Directory::new(), app.database_url());
    let settings = [("DATABASE_URL", &*database), ("PORTCULLIS_LOG_FORMAT", "json")];
    let service = Service::start_for_machines(&directory.0, &settings);
    let client = app.anonymous().at(&service.base);
    let rebound = client.with("host", "box:8080").with("origin", "http://box:8080");
    let rebound = rebound.call("/logout").await.problem(403, "cross_origin_rejected");
    let other = client.with("origin", "https://app.example.com");
    let other = other.call("/logout").await.problem(403, "cross_origin_rejected");
    let stop = move || service.stop(Signal::TERM);
    tokio::task::spawn_blocking(stop).await.unwrap();
    let (_, log) = read(&directory);
    for (answer, origin, host, setting) in [
        (&rebound, "http://box:8080", Some("box:8080"), "PORTCULLIS_PUBLIC_URL"),
        (&other, "https://app.example.com", None, "PORTCULLIS_ALLOWED_ORIGINS"),
    ] {
        let detail = answer.body["detail"].as_str().unwrap();
        assert!(detail.contains(origin) && detail.contains(setting), "{detail}");
        let of_request = |line: &&Value| {
            line["level"] == "WARN" && line["span"]["request_id"] == answer.body["request_id"]
        };
        let line = log.iter().find(of_request).unwrap();
        assert_eq!(line["origin"], origin);
        assert!(line["message"].as_str().unwrap().contains(setting), "{line}");
        assert!(host.is_none_or(|host| line["host"] == host), "{line}");
    }
}
