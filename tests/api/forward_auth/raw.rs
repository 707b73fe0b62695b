//! What no HTTP client sends.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::TestApp;

#[tokio::test]
async fn no_path_leads_out_of_it() {
    let app = TestApp::start().await;
    let address = app.base.strip_prefix("http://").unwrap().to_owned();
    let cookie = app.user().await.login().await.cookie();
    for path in ["/../me", "/..", "/./../me?x", "/%2e%2e/me", "//../../me", "/a/../../healthz"] {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let head = "host: x\r\nconnection: close";
        let ask = format!(
            "GET /forward-auth{path} HTTP/1.1\r\n{head}\r\ncookie: portcullis={cookie}\r\n\r\n"
        );
        stream.write_all(ask.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let is_checked = text.contains("\r\nx-auth-role: user\r\n") && text.ends_with("\r\n\r\n");
        assert!(text.starts_with("HTTP/1.1 200 ") && is_checked, "{path}: {text}");
    }
}

#[tokio::test]
async fn a_body_is_not_read_and_does_not_swallow_what_comes_next() {
    let app = TestApp::start().await;
    let address = app.base.strip_prefix("http://").unwrap().to_owned();
    let cookie = app.user().await.login().await.cookie();
    let cookie = format!("cookie: portcullis={cookie}\r\n");
    let next = "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    // The headers of a body, what comes of it, and whether the connection stays open.
    for (headers, body, stays) in [
        ("", "", true),
        ("content-length: 0\r\n", "", true),
        ("content-length: 5\r\n", "", false),
        ("content-length: 5\r\n", "a=b&c", false),
        ("content-length: 1000000\r\ncontent-type: application/json\r\n", "{", false),
        ("content-length: 5\r\nexpect: 100-continue\r\n", "", false),
        ("transfer-encoding: chunked\r\n", "", false),
        ("transfer-encoding: chunked\r\n", "1\r\na\r\n0\r\n\r\n", false),
        ("connection: upgrade\r\nupgrade: websocket\r\n", "", true),
    ] {
        for (who, status) in [(&*cookie, 200), ("", 401)] {
            let mut stream = TcpStream::connect(&address).await.unwrap();
            let ask =
                format!("POST /forward-auth/a HTTP/1.1\r\nhost: x\r\n{who}{headers}\r\n{body}");
            stream.write_all(ask.as_bytes()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(30)).await;
            let _ = stream.write_all(next.as_bytes()).await;
            let mut bytes = Vec::new();
            let read = stream.read_to_end(&mut bytes);
            let _ = tokio::time::timeout(Duration::from_secs(5), read).await.expect("an end");
            let text = String::from_utf8(bytes).unwrap();
            assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{headers}{text}");
            let answers = text.matches("HTTP/1.1 ").count();
            assert_eq!(answers, if stays { 2 } else { 1 }, "{headers}{body}: {text}");
        }
    }
}
