//! Clients that hang up, say nothing, or hold things.

use std::time::{Duration, Instant};

use portcullis::config::PublicUrl;
use portcullis::store;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::app::PASSWORD;
use crate::{Answer, TestApp};

/// A whole request, as text.
fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_client_that_hangs_up_leaves_no_transaction_behind() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let address = app.base.strip_prefix("http://").unwrap().to_owned();
    let body = json!({"username": user.username(), "password": PASSWORD}).to_string();
    let requests = [post("/users", &body), post("/login", &body)];
    for round in 0..30u64 {
        let aborted = (0..8).map(|i| {
            let (address, request) = (address.clone(), requests[i as usize % 2].clone());
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.set_zero_linger().unwrap();
                stream.write_all(request.as_bytes()).await.unwrap();
                tokio::time::sleep(Duration::from_micros((round * 8 + i) * 100)).await;
            })
        });
        for aborted in aborted.collect::<Vec<_>>() {
            aborted.await.unwrap();
        }
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let query = "select count(*) from pg_stat_activity
                 where datname = current_database() and state like 'idle in transaction%'";
    let left: i64 = sqlx::query_scalar(query).fetch_one(&app.pool).await.unwrap();
    assert_eq!(left, 0, "of 240 aborted requests");
    user.login().await.status(200);
}

#[tokio::test]
async fn a_begin_that_is_cut_off_leaves_no_transaction_behind() {
    let app = TestApp::start().await;
    let pool = store::pool(app.database_options(), &app.config);
    let (mut cut_off, mut left) = (0, 0);
    let query = "select count(*) from pg_stat_activity
                 where datname = current_database() and state like 'idle in transaction%'";
    let open = async || -> i64 { sqlx::query_scalar(query).fetch_one(&app.pool).await.unwrap() };
    for round in 0..400 {
        // A begin takes a hundred looks or only ten, by how fast the machine and the build are.
        let patience = if round % 2 == 0 { round } else { round / 2 % 10 };
        // Whoever is cut off while it connects never comes to BEGIN.
        store::ping(&pool).await.unwrap();
        // Somebody who gives up after so many looks; a timer is too coarse for this.
        let give_up = async {
            for _ in 0..patience {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            begun = store::begin(&pool) => drop(begun.unwrap()),
            () = give_up => cut_off += 1,
        }
        // The next one to begin on the same connection would tidy up.
        tokio::time::sleep(Duration::from_millis(2)).await;
        if open().await > 0 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            left += open().await;
        }
    }
    assert_eq!(left, 0, "after {cut_off} that were cut off");
    assert!(cut_off > 20, "{cut_off}");
}

#[tokio::test]
async fn time_outs_are_in_force_on_every_connection() {
    let app = TestApp::start().await;
    let pool = store::pool(app.database_options(), &app.config);
    for (name, value) in [
        ("statement_timeout", "10s"),
        ("lock_timeout", "2s"),
        ("idle_in_transaction_session_timeout", "10s"),
    ] {
        let show = format!("show {name}");
        let shown: String = sqlx::query_scalar(&show).fetch_one(&pool).await.unwrap();
        assert_eq!(shown, value, "{name}");
    }
}

#[tokio::test]
async fn one_locked_row_does_not_take_the_service_down() {
    let app = TestApp::start().await;
    let (user, other) = (app.user().await, app.user().await);
    let mut lock = store::begin(&app.pool).await.unwrap();
    let sql = "select from users where id = $1::text::uuid for update";
    sqlx::query(sql).bind(user.id()).fetch_all(&mut *lock).await.unwrap();
    let start = Instant::now();
    user.login().await.problem(503, "timeout");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    other.login().await.status(200);
    lock.rollback().await.unwrap();
    user.login().await.status(200);
}

#[tokio::test]
async fn a_cookie_whose_name_only_looks_like_ours_is_not_ours() {
    let app = TestApp::with(|config| {
        config.public_url = PublicUrl::parse("https://auth.example.com").unwrap();
    });
    let app = app.await;
    let secret = app.user().await.login().await.cookie();
    let ours = format!("__Host-portcullis={secret}");
    app.anonymous().with("cookie", &ours).get("/me").await.ok();
    for space in ["\u{2000}", "\u{a0}", "\u{85}", "\u{3000}", "\u{b}", "\u{c}x"] {
        for forged in [format!("{space}{ours}"), ours.replace('=', &format!("{space}="))] {
            let Ok(value) = reqwest::header::HeaderValue::from_bytes(forged.as_bytes()) else {
                continue;
            };
            let request = app.anonymous().request(reqwest::Method::GET, "/me");
            let answer = Answer::to(request.header("cookie", value.clone())).await;
            answer.problem(401, "unauthenticated");
            // Nor is it in the way of the real one.
            let both = app.anonymous().request(reqwest::Method::GET, "/me").header("cookie", value);
            Answer::to(both.header("cookie", &ours)).await.status(200);
        }
    }
}

#[tokio::test]
async fn logins_that_meet_a_hash_that_is_being_replaced_all_succeed() {
    let app = TestApp::start().await;
    let user = app.user().await;
    for _ in 0..5 {
        let plain = bcrypt::hash(PASSWORD, 4).unwrap();
        sqlx::query("update users set password_hash = $1")
            .bind(plain)
            .execute(&app.pool)
            .await
            .unwrap();
        let login = json!({"identifier": user.username(), "password": PASSWORD});
        let logins = (0..6).map(|i| {
            let (client, user, login) = (app.anonymous(), user.clone(), login.clone());
            tokio::spawn(async move {
                match i {
                    0 => user.post("/me/reauthenticate", json!({"password": PASSWORD})).await,
                    _ => client.post("/login", login).await,
                }
            })
        });
        for login in logins.collect::<Vec<_>>() {
            login.await.unwrap().status(200);
        }
    }
}

#[tokio::test]
async fn no_body_however_odd_is_a_fault_of_ours() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let deep = |open: &str, close: &str, n: usize| open.repeat(n) + &close.repeat(n);
    let fields = |value: &str| {
        format!(r#"{{"identifier": {value}, "password": {value}, "username": {value}}}"#)
            .into_bytes()
    };
    let mut bodies: Vec<Vec<u8>> = [
        deep("[", "]", 120),
        deep("[", "]", 10_000),
        deep(r#"{"a":"#, "}", 120),
        deep(r#"{"a":"#, "}", 9_000),
        "[".repeat(10_000),
        r#""\u0000""#.to_owned(),
        r#""a\u0000b""#.to_owned(),
        r#""\ud800""#.to_owned(),
        r#""\ud83d\ude00""#.to_owned(),
        "\"\u{feff}\u{202e}\u{fffe}\"".to_owned(),
        "1e400".to_owned(),
        "-0".to_owned(),
        "9".repeat(400),
        "\"\u{0}\"".to_owned(),
        format!("\"{}\"", "x".repeat(60_000)),
        format!("\"{}\"", "x".repeat(70_000)),
        format!("\"{}\"", "é\u{301}".repeat(15_000)),
        format!("\"{}\"", "\u{fdfa}".repeat(15_000)),
    ]
    .iter()
    .flat_map(|value| [fields(value), value.clone().into_bytes()])
    .collect();
    bodies.push(b"{\"identifier\": \"\xff\xfe\", \"password\": \"\xc3\x28\"}".to_vec());
    bodies.push(b"\xef\xbb\xbf\xef\xbb\xbf{}".to_vec());
    bodies.push(vec![]);
    for body in bodies {
        for (method, path) in [
            (reqwest::Method::POST, "/login"),
            (reqwest::Method::POST, "/users"),
            (reqwest::Method::PATCH, "/me"),
            (reqwest::Method::PUT, "/me/password"),
            (reqwest::Method::POST, "/me/tokens"),
        ] {
            let request = user.request(method, path).header("content-type", "application/json");
            let answer = Answer::to(request.body(body.clone())).await;
            let sent = String::from_utf8_lossy(&body[..body.len().min(80)]);
            assert!(
                matches!(answer.code, 400 | 401 | 413 | 422 | 429),
                "{path} {sent}: {}",
                answer.text
            );
        }
    }
}

#[tokio::test]
async fn half_a_body_is_given_up() {
    let app = TestApp::with(|config| config.request_timeout = Duration::from_secs(2)).await;
    let mut stream = TcpStream::connect(app.base.strip_prefix("http://").unwrap()).await.unwrap();
    let whole = post("/login", &" ".repeat(100));
    stream.write_all(&whole.as_bytes()[..whole.len() - 50]).await.unwrap();
    let start = Instant::now();
    let mut answer = String::new();
    // It is answered, and the connection does not wait for the rest.
    let read = stream.read_to_string(&mut answer);
    tokio::time::timeout(Duration::from_secs(10), read).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("timeout"), "{answer}");
    assert!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_client_that_does_not_read_is_let_go_and_its_place_is_anothers() {
    let app = TestApp::with(|config| {
        config.request_timeout = Duration::from_secs(2);
        config.max_connections = 3;
    });
    let app = app.await;
    let address = app.base.strip_prefix("http://").unwrap().parse().unwrap();
    let mut held = Vec::new();
    for _ in 0..3 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(address).await.unwrap();
        // More than the kernel takes on the way.
        let request = "GET /swagger-ui/swagger-ui-bundle.js HTTP/1.1\r\nhost: x\r\n\r\n";
        stream.write_all(request.repeat(20).as_bytes()).await.unwrap();
        held.push(stream);
    }
    let start = Instant::now();
    let client = app.anonymous();
    let waiting = client.get("/healthz");
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("a place").ok();
    println!("a place after {:?}", start.elapsed());
    assert!(start.elapsed() > Duration::from_secs(1), "there was one at once");
}

#[tokio::test]
async fn a_head_that_does_not_end_is_refused() {
    let app = TestApp::start().await;
    let mut stream = TcpStream::connect(app.base.strip_prefix("http://").unwrap()).await.unwrap();
    let head = format!("GET /me HTTP/1.1\r\nhost: x\r\ncookie: {}", "x".repeat(200_000));
    // It may be refused before it is whole.
    let _ = stream.write_all(head.as_bytes()).await;
    let mut answer = [0; 64];
    let read =
        tokio::time::timeout(Duration::from_secs(5), stream.read(&mut answer)).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..read.unwrap_or_default()]).into_owned();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
}
