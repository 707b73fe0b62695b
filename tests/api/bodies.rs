//! How large bodies may be, and how much memory they may hold together.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::app::PASSWORD;
use crate::{Answer, Client, TestApp};

const LIMIT: usize = 16 * 1024;
/// A few more of the largest bodies than one network may have in progress.
const TOO_MANY: usize = 8 * 1024 * 1024 / LIMIT + 16;

/// A text as JSON, with every character as `\u` escapes.
fn escaped(text: &str) -> String {
    text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect()
}

async fn send(client: &Client, path: &str, body: String) -> Answer {
    let request = client.request(reqwest::Method::POST, path);
    Answer::to(request.header("content-type", "application/json").body(body)).await
}

#[tokio::test]
async fn the_longest_valid_bodies_are_accepted() {
    let app = TestApp::start().await;
    let client = app.anonymous();
    let domain = format!("{}.{}.{}.example", "a".repeat(62), "b".repeat(62), "c".repeat(54));
    let (username, email) = ("u".repeat(32), format!("{}@{domain}", "e".repeat(64)));
    assert!(email.len() >= 250, "{}", email.len());
    let (name, password) = ("🙂".repeat(200), "pässwörd🙂".repeat(12) + "last");
    let register = format!(
        r#"{{"username": "{}", "email": "{}", "name": "{}", "password": "{}"}}"#,
        escaped(&username),
        escaped(&email),
        escaped(&name),
        escaped(&password),
    );
    send(&client, "/users", register).await.status(201);
    // As many characters as a password may have at login.
    let login = format!(
        r#"{{"identifier": "{}", "password": "{}", "remember_for": "30d", "transport": "token", "device_token": "{}"}}"#,
        escaped(&email),
        escaped(&"🙂".repeat(1024)),
        "x".repeat(64),
    );
    assert!(login.len() < LIMIT, "{}", login.len());
    send(&client, "/login", login).await.problem(401, "invalid_credentials");
}

#[tokio::test]
async fn a_body_over_16_kib_is_too_large_and_the_client_reads_the_answer() {
    let app = TestApp::start().await;
    let of = |length: usize| {
        let body = json!({"identifier": "alice", "password": ""}).to_string();
        body.replace("\"\"", &format!("\"{}\"", "x".repeat(length - body.len())))
    };
    let client = app.anonymous();
    assert_eq!(of(LIMIT).len(), LIMIT);
    send(&client, "/login", of(LIMIT)).await.problem(401, "invalid_credentials");
    for length in [LIMIT + 1, 20_000, 40_000, 64 * 1024] {
        send(&client, "/login", of(length)).await.problem(413, "body_too_large");
    }
    // Without a length in the head.
    let mut stream = TcpStream::connect(app.base.strip_prefix("http://").unwrap()).await.unwrap();
    let chunk = format!("1000\r\n{}\r\n", " ".repeat(4096)).repeat(5);
    let head = "POST /login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(format!("{head}{chunk}0\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("body_too_large"), "{answer}");
}

#[tokio::test]
async fn a_body_that_is_announced_as_huge_is_rejected_before_it_is_sent() {
    let app = TestApp::start().await;
    let mut stream = TcpStream::connect(app.base.strip_prefix("http://").unwrap()).await.unwrap();
    let head = "POST /login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000000000\r\nexpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    tokio::time::timeout(Duration::from_secs(5), read).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

/// Opens connections that send all of the largest body but its last byte.
async fn hold(app: &TestApp, count: usize, headers: &str) -> Vec<TcpStream> {
    let address = app.base.strip_prefix("http://").unwrap();
    let head = format!(
        "POST /login HTTP/1.1\r\nhost: x\r\n{headers}content-type: application/json\r\ncontent-length: {LIMIT}\r\n\r\n"
    );
    let request = head + &" ".repeat(LIMIT - 1);
    let mut held = Vec::new();
    for _ in 0..count {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        held.push(stream);
    }
    held
}

/// Logs in until the answer is the expected one: bodies arrive and are dropped a little later than they are
/// sent.
async fn eventually(client: &Client, status: u16) -> Answer {
    // More than what may be left of a share that held bodies do not fit in.
    let login = json!({"identifier": "nobody", "password": "p".repeat(8000)});
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        let answer = client.post("/login", login.clone()).await;
        if answer.code == status {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no {status}");
}

fn with_proxy(config: &mut portcullis::config::Config) {
    config.throttle = portcullis::config::Switch::Off;
    config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_holds_bodies_back_is_told_busy_and_others_are_not() {
    let app = TestApp::with(with_proxy).await;
    let from = |ip: &str| app.anonymous().with("x-forwarded-for", ip);
    let held = hold(&app, TOO_MANY, "x-forwarded-for: 203.0.113.1\r\n").await;
    let answer = eventually(&from("203.0.113.200"), 503).await.problem(503, "busy");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(app.state.hasher.metrics().shed().get() > 0);
    let login = json!({"identifier": "nobody", "password": PASSWORD});
    for other in ["198.51.100.1", "2001:db8::1"] {
        from(other).post("/login", login.clone()).await.problem(401, "invalid_credentials");
    }
    // A backend calls for many, and a request without a body needs no memory for one.
    app.anonymous().post("/login", login.clone()).await.problem(401, "invalid_credentials");
    from("203.0.113.200").get("/healthz").await.ok();
    from("203.0.113.200").call("/logout").await.status(204);
    drop(held);
    eventually(&from("203.0.113.200"), 401).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_networks_of_an_ipv6_site_share_the_memory_of_one() {
    let app = TestApp::with(with_proxy).await;
    let from = |ip: &str| app.anonymous().with("x-forwarded-for", ip);
    let held = hold(&app, TOO_MANY, "x-forwarded-for: 2001:db8:1:100::1\r\n").await;
    eventually(&from("2001:db8:1:200::1"), 503).await.problem(503, "busy");
    eventually(&from("2001:db8:2:200::1"), 401).await;
    drop(held);
}

/// Waits until the bodies in progress hold so much, or nothing.
async fn until_held(app: &TestApp, bytes: usize) {
    let held = async {
        while app.state.bodies.held() != bytes {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), held).await.expect("the bytes");
}

#[tokio::test]
async fn a_head_and_an_announced_body_hold_nothing_of_the_budget() {
    let app = TestApp::start().await;
    let address = app.base.strip_prefix("http://").unwrap();
    let head = format!(
        "POST /login HTTP/1.1\r\nhost: x\r\nx-padding: {}\r\ncontent-type: application/json\r\ncontent-length: {LIMIT}\r\n\r\n",
        "x".repeat(8000)
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(app.state.bodies.held(), 0);
    // What comes of it counts.
    stream.write_all(&[b' '; 100]).await.unwrap();
    until_held(&app, 100).await;
    drop(stream);
    until_held(&app, 0).await;
}

#[tokio::test]
async fn a_time_out_returns_what_a_body_held() {
    let app = TestApp::with(|config| config.request_timeout = Duration::from_secs(3)).await;
    let held = hold(&app, 4, "").await;
    let some = async {
        while app.state.bodies.held() < 4 * (LIMIT - 1) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), some).await.expect("four bodies");
    // The connections stay open on the client's side.
    until_held(&app, 0).await;
    drop(held);
}

#[tokio::test]
async fn an_answer_returns_what_the_body_held() {
    let app = TestApp::start().await;
    let user = app.user().await;
    for _ in 0..3 {
        user.login().await.status(200);
        user.post("/login", json!({"identifier": 1})).await.problem(422, "validation_failed");
        send(&user, "/login", "{".to_owned()).await.problem(400, "malformed");
        send(&user, "/login", " ".repeat(LIMIT + 1)).await.problem(413, "body_too_large");
    }
    until_held(&app, 0).await;
}

#[tokio::test]
async fn a_body_in_tiny_chunks_counts_as_what_it_is() {
    let app = TestApp::start().await;
    let body = json!({"identifier": "nobody", "password": "p".repeat(3000)}).to_string();
    let chunks: String = body.chars().map(|c| format!("1\r\n{c}\r\n")).collect();
    let head = "POST /login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut stream = TcpStream::connect(app.base.strip_prefix("http://").unwrap()).await.unwrap();
    stream.write_all(format!("{head}{chunks}0\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (_, problem) = answer.split_once("\r\n\r\n").unwrap();
    let problem: Value = serde_json::from_str(problem).unwrap();
    assert_eq!(problem["code"], "invalid_credentials");
}
