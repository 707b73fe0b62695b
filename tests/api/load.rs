//! Who is logged in, while others do what they can to be in the way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use portcullis::config::Switch;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::TestApp;
use crate::app::Client;
use crate::throttle::right;

/// What the median and the 99th percentile must stay below, other tests being at work as well. Who had
/// to wait for a hash or for a slow connection would wait longer.
const USUAL: Duration = Duration::from_millis(150);
const BEARABLE: Duration = Duration::from_millis(1500);

/// The median and the 99th percentile of `GET /me`, asked a hundred times a second.
async fn me(client: &Client, times: usize) -> (Duration, Duration) {
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    let mut asked = JoinSet::new();
    for _ in 0..times {
        ticks.tick().await;
        let client = client.clone();
        asked.spawn(async move {
            let start = Instant::now();
            client.get("/me").await.ok();
            start.elapsed()
        });
    }
    let mut times = asked.join_all().await;
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_thousand_slow_connections_change_nothing_for_others() {
    let app = TestApp::with(|config| config.header_timeout = Duration::from_secs(15)).await;
    let user = app.user().await;
    let idle = me(&user, 200).await;
    let address = app.base.strip_prefix("http://").unwrap();
    let mut held = Vec::new();
    for i in 0..2000 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // A third say nothing, a third half a head, a third half a body.
        let said: &[u8] = match i % 3 {
            0 => b"",
            1 => b"GET /me HTTP/1.1\r\nhost:",
            _ => b"POST /login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 90\r\n\r\n{",
        };
        stream.write_all(said).await.unwrap();
        held.push(stream);
    }
    let slow = me(&user, 300).await;
    user.login().await.status(200);
    let open = held.iter().filter(|stream| is_open(stream)).count();
    println!("{open} connections held; /me (median, p99) {slow:?}, without them {idle:?}");
    assert_eq!(open, 2000);
    assert!(slow.0 < USUAL && slow.1 < BEARABLE, "{slow:?} {idle:?}");
    // They are let go by themselves.
    tokio::time::sleep(Duration::from_secs(16)).await;
    let open = held.iter().enumerate().filter(|(i, stream)| i % 3 != 2 && is_open(stream)).count();
    assert_eq!(open, 0);
}

/// Whether the other side has not closed it.
fn is_open(stream: &TcpStream) -> bool {
    let read = stream.try_read(&mut [0; 512]);
    matches!(read, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_network_that_logs_in_without_pause_leaves_turns_to_others() {
    let cheap = TestApp::start().await;
    let (stranger, user) = (cheap.user().await, cheap.user().await);
    let mut config = cheap.config.clone();
    config.bcrypt_cost = 12;
    config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    // Both have hashes of the cost that is made now.
    let app = cheap.replica_with(config).await;
    let from = |network: &str| app.anonymous().with("x-forwarded-for", network);
    for (account, network) in [(&stranger, "203.0.113.1"), (&user, "198.51.100.1")] {
        from(network).post("/login", right(account.username())).await.ok();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let cores = std::thread::available_parallelism().unwrap().get();
    let mut storm = JoinSet::new();
    for n in 0..cores * 16 {
        let client = from(&format!("203.0.113.{n}"));
        let (login, stop) = (right(stranger.username()), Arc::clone(&stop));
        storm.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                client.post("/login", login.clone()).await;
            }
        });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (mut in_turn, mut busy) = (0, 0);
    for _ in 0..5 {
        let login = from("198.51.100.1").post("/login", right(user.username())).await;
        match login.code {
            200 => in_turn += 1,
            _ => drop((login.problem(503, "busy"), busy += 1)),
        }
    }
    stop.store(true, Ordering::Relaxed);
    storm.join_all().await;
    println!("{in_turn} logins of another network in turn, {busy} not");
    assert!(in_turn >= 3, "{in_turn}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_storm_of_logins_is_shed_and_does_not_slow_who_is_logged_in() {
    let cheap = TestApp::with(|config| config.throttle = Switch::Off).await;
    let user = cheap.user().await;
    let mut config = cheap.config.clone();
    config.bcrypt_cost = 12;
    let app = cheap.replica_with(config).await;
    let user = user.to(&app);
    let idle = me(&user, 300).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut storm = JoinSet::new();
    let cores = std::thread::available_parallelism().unwrap().get();
    for n in 0..cores * 32 {
        let (client, stop) = (app.anonymous(), Arc::clone(&stop));
        storm.spawn(async move {
            let (mut looked_at, mut shed, mut slowest) = (0, 0, Duration::ZERO);
            while !stop.load(Ordering::Relaxed) {
                let start = Instant::now();
                let login = json!({"identifier": format!("nobody{n}"), "password": "a wrong one"});
                let answer = client.post("/login", login).await;
                slowest = slowest.max(start.elapsed());
                if answer.code == 503 {
                    answer.problem(503, "busy");
                    shed += 1;
                    tokio::time::sleep(Duration::from_millis(200)).await;
                } else {
                    answer.problem(401, "invalid_credentials");
                    looked_at += 1;
                }
            }
            (looked_at, shed, slowest)
        });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let stormy = me(&user, 400).await;
    stop.store(true, Ordering::Relaxed);
    let storm = storm.join_all().await;
    let looked_at: usize = storm.iter().map(|seen| seen.0).sum();
    let shed: usize = storm.iter().map(|seen| seen.1).sum();
    let slowest = storm.iter().map(|seen| seen.2).max().unwrap();
    println!("{looked_at} logins looked at, {shed} shed, the slowest answer after {slowest:?}");
    assert!(looked_at > 0 && shed > 0, "{looked_at} {shed}");
    println!("/me (median, p99) {stormy:?} in a storm of {} logins, {idle:?} without", cores * 32);
    assert!(stormy.0 < USUAL && stormy.1 < BEARABLE, "{stormy:?} {idle:?}");
}
