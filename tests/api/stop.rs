//! How the service ends: whatever it has taken is answered.

use std::time::Duration;

use portcullis::store;
use rustix::process::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::TestApp;
use crate::app::PASSWORD;
use crate::serve::{Directory, Service};

#[tokio::test]
async fn a_request_in_flight_is_answered_when_the_service_stops() {
    let app = TestApp::start().await;
    let directory = Directory::new();
    let service = Service::start(&directory.0, &[("DATABASE_URL", &app.database_url())]);
    let mut lock = store::begin(&app.pool).await.unwrap();
    sqlx::query("lock table users in access exclusive mode").execute(&mut *lock).await.unwrap();
    let login = json!({"identifier": "nobody", "password": PASSWORD});
    let request =
        reqwest::Client::new().post(format!("{}/login", service.base)).json(&login).send();
    let request = tokio::spawn(request);
    tokio::time::sleep(Duration::from_millis(500)).await;
    service.signal(Signal::TERM);
    tokio::time::sleep(Duration::from_millis(300)).await;
    lock.rollback().await.unwrap();
    assert_eq!(request.await.unwrap().unwrap().status(), 401);
    let mut service = service;
    assert!(service.child.wait().unwrap().success());
}

/// Asks time and again on one connection for as long as there is one, and returns how many requests
/// were answered and how many were not.
async fn keep_asking(address: String, keep_alive: bool) -> (usize, usize) {
    let connection = if keep_alive { "keep-alive" } else { "close" };
    let request = format!("GET /me HTTP/1.1\r\nhost: x\r\nconnection: {connection}\r\n\r\n");
    let (mut answered, mut lost) = (0, 0);
    // When nobody listens any more, nothing is lost by asking.
    while let Ok(mut stream) = TcpStream::connect(&address).await {
        loop {
            let mut answer = String::new();
            let mut buffer = [0; 4096];
            let asked = stream.write_all(request.as_bytes()).await.is_ok();
            // The body is a problem, which ends so.
            while asked && !answer.ends_with('}') {
                match stream.read(&mut buffer).await {
                    Ok(read @ 1..) => answer += &String::from_utf8_lossy(&buffer[..read]),
                    _ => break,
                }
            }
            if !answer.ends_with('}') {
                lost += 1;
                break;
            }
            answered += 1;
            if answer.to_ascii_lowercase().contains("connection: close") {
                break;
            }
        }
    }
    (answered, lost)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_request_is_lost_when_the_service_stops() {
    let app = TestApp::start().await;
    let (mut answered, mut lost) = (0, 0);
    for _ in 0..5 {
        let directory = Directory::new();
        let service = Service::start(&directory.0, &[("DATABASE_URL", &app.database_url())]);
        let address = service.base.strip_prefix("http://").unwrap().to_owned();
        let mut clients: JoinSet<_> =
            (0..16).map(|i| keep_asking(address.clone(), i % 2 == 0)).collect();
        tokio::time::sleep(Duration::from_millis(700)).await;
        tokio::task::spawn_blocking(|| service.stop(Signal::TERM)).await.unwrap();
        while let Some(seen) = clients.join_next().await {
            let (of_one, lost_by_one) = seen.unwrap();
            answered += of_one;
            lost += lost_by_one;
        }
    }
    println!("5 stops under load: {lost} requests lost, {answered} answered");
    assert!(answered > 500, "{answered}");
    // The kernel may let somebody in between our last look and the end of the listener.
    assert!(lost <= 2, "{lost} of {answered}");
}

#[tokio::test]
async fn a_stop_waits_no_longer_than_the_grace_period() {
    let app = TestApp::start().await;
    let directory = Directory::new();
    let settings = [("DATABASE_URL", &*app.database_url()), ("PORTCULLIS_SHUTDOWN_GRACE", "2s")];
    let service = Service::start(&directory.0, &settings);
    let address = service.base.strip_prefix("http://").unwrap();
    let mut held = Vec::new();
    for said in [
        "GET /me HTTP/1.1\r\nhost:",
        "POST /login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{",
        "",
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        held.push(stream);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let took = tokio::task::spawn_blocking(|| service.stop(Signal::TERM)).await.unwrap();
    println!("stopped after {took:?}");
    assert!((Duration::from_secs(1)..Duration::from_secs(6)).contains(&took), "{took:?}");
}
