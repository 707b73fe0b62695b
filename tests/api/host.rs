//! `Host`, and what else a request line may say of the host.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::TestApp;

/// What the service answers to a text.
async fn ask(app: &TestApp, text: &str) -> String {
    let mut stream = TcpStream::connect(app.base.strip_prefix("http://").unwrap()).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[track_caller]
fn assert_is_invalid_host(answer: &str, request: &str) {
    assert!(answer.starts_with("HTTP/1.1 400 "), "{request}: {answer}");
    assert!(answer.contains("content-type: application/problem+json"), "{request}: {answer}");
    assert!(answer.contains(r#""code":"invalid_host""#), "{request}: {answer}");
}

#[tokio::test]
async fn a_request_without_a_host_or_with_two_is_rejected() {
    let app = TestApp::start().await;
    for line in [
        "GET /healthz",
        "GET /nope",
        "POST /login",
        "GET /forward-auth",
        "OPTIONS /me",
        "GET /swagger-ui/",
    ] {
        for hosts in ["", "host: x\r\nhost: x\r\n", "host: x\r\nHOST: localhost:8080\r\n"] {
            let request = format!("{line} HTTP/1.1\r\n{hosts}connection: close\r\n\r\n");
            assert_is_invalid_host(&ask(&app, &request).await, &request);
        }
    }
}

#[tokio::test]
async fn a_request_with_an_invalid_host_is_rejected() {
    let app = TestApp::start().await;
    for host in [
        "",
        "a b",
        "a/b",
        "alice@localhost",
        "localhost:http",
        "localhost:99999",
        "::1",
        "[::1",
        "é",
    ] {
        for version in ["1.0", "1.1"] {
            let request =
                format!("GET /healthz HTTP/{version}\r\nhost: {host}\r\nconnection: close\r\n\r\n");
            let answer = ask(&app, &request).await;
            assert_is_invalid_host(&answer.replacen("HTTP/1.0", "HTTP/1.1", 1), &request);
        }
    }
    for target in ["http://alice@localhost/healthz", "http://localhost:99999/healthz"] {
        let request = format!("GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        assert_is_invalid_host(&ask(&app, &request).await, &request);
    }
}

#[tokio::test]
async fn valid_hosts_and_http_1_0_without_one_are_answered() {
    let app = TestApp::start().await;
    let valid =
        ["x", "my_service:8080", "auth.example.com", "127.0.0.1:1", "[::1]", "[::1]:8080", "a:"];
    let mut requests: Vec<_> = valid
        .map(|host| format!("GET /healthz HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"))
        .into();
    // As HAProxy checks whether a server is up.
    requests.push("GET /healthz HTTP/1.0\r\n\r\n".to_owned());
    let target = "http://auth.example.com/healthz";
    requests.push(format!("GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"));
    for request in requests {
        let answer = ask(&app, &request).await;
        assert!(answer.contains(" 200 OK"), "{request}: {answer}");
    }
}
