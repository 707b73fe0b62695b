//! PostgreSQL going away and coming back, under load, for two instances.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use portcullis::config::Rate;
use portcullis::embedded::Embedded;
use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::task::JoinSet;

use crate::app::{Client, PASSWORD};
use crate::embedded::Dir;
use crate::{Answer, TestApp};

/// How long an answer may take while there is no database: a second for a connection, twice at most,
/// and as much for a busy machine.
const QUICK: Duration = Duration::from_secs(4);
/// How long the service may take until it is well again.
const RECOVERY: Duration = Duration::from_secs(2);

/// What a client saw.
#[derive(Default)]
struct Seen {
    codes: BTreeMap<u16, usize>,
    slowest_503: Duration,
    /// The accounts that were said to be made, with their sessions.
    made: Vec<(String, String)>,
}

impl Seen {
    fn add(&mut self, answer: Answer, since: Instant) {
        if answer.code == 503 {
            self.slowest_503 = self.slowest_503.max(since.elapsed());
            let code = answer.body["code"].as_str().unwrap();
            assert!(matches!(code, "database_unavailable" | "timeout"), "{}", answer.text);
        }
        assert!(matches!(answer.code, 200 | 201 | 503), "{}", answer.text);
        *self.codes.entry(answer.code).or_default() += 1;
    }
}

/// Asks who it is, logs in and registers, until told to stop.
async fn use_it(n: usize, client: Client, stranger: Client, stop: Arc<AtomicBool>) -> Seen {
    let mut seen = Seen::default();
    let login =
        json!({"identifier": client.username(), "password": PASSWORD, "transport": "token"});
    for round in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let start = Instant::now();
        seen.add(client.get("/me").await, start);
        let start = Instant::now();
        match round % 4 {
            0 => seen.add(stranger.post("/login", login.clone()).await, start),
            1 => {
                let name = format!("made-{n}-{round}");
                let account = json!({"username": name, "password": PASSWORD, "transport": "token"});
                let answer = stranger.post("/users", account).await;
                if answer.code == 201 {
                    seen.made.push((name, answer.token()));
                }
                seen.add(answer, start);
            }
            _ => seen.add(client.get("/session").await, start),
        }
    }
    seen
}

fn kill(data_dir: &Path) {
    let pid = std::fs::read_to_string(data_dir.join("cluster/postmaster.pid")).unwrap();
    let pid = pid.lines().next().unwrap().parse().unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

async fn until_well(app: &TestApp, user: &Client) -> Duration {
    let start = Instant::now();
    while app.anonymous().get("/readyz").await.code != 200
        || user.to(app).get("/me").await.code != 200
    {
        assert!(start.elapsed() < Duration::from_secs(30), "it does not recover");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    start.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_killed_postgresql_costs_nobody_a_session_or_a_write() {
    let dir = Dir::new();
    let mut server = Embedded::start(&dir.0).await.unwrap();
    let app = TestApp::over(server.connect_options(), |config| {
        config.throttle_registration = Rate::parse("1000000/1h").unwrap();
    });
    let app = app.await;
    let replica = app.replica().await;
    let user = app.user().await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut load = JoinSet::new();
    for n in 0..8 {
        let on = if n % 2 == 0 { &app } else { &replica };
        let stranger = on.anonymous();
        load.spawn(use_it(n, app.user().await.to(on), stranger, Arc::clone(&stop)));
    }
    let mut recoveries = Vec::new();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        kill(server.data_dir());
        // What was at work when its parent died may end its statement.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(2) {
            app.anonymous().get("/healthz").await.ok();
            user.get("/me").await.problem(503, "database_unavailable");
            replica.anonymous().get("/readyz").await.problem(503, "database_unavailable");
        }
        drop(server);
        server = Embedded::start(&dir.0).await.unwrap();
        for instance in [&app, &replica] {
            recoveries.push(until_well(instance, &user).await);
        }
    }
    stop.store(true, Ordering::Relaxed);
    let (mut codes, mut slowest, mut made) = (BTreeMap::new(), Duration::ZERO, Vec::new());
    for seen in load.join_all().await {
        for (code, count) in seen.codes {
            *codes.entry(code).or_insert(0) += count;
        }
        slowest = slowest.max(seen.slowest_503);
        made.extend(seen.made);
    }
    let mut lost = 0;
    for (name, token) in &made {
        let known = app.with_token(token).get("/me").await;
        lost += usize::from(known.code != 200 || known.body["username"] != **name);
    }
    println!(
        "3 kills: answers {codes:?}, slowest 503 {slowest:?}, well again after {recoveries:?}, \
         {lost} of {} acknowledged accounts lost",
        made.len()
    );
    assert!(made.len() > 20 && codes[&503] > 10 && codes[&200] > 100, "{codes:?}");
    assert_eq!(lost, 0);
    assert!(slowest < QUICK, "{slowest:?}");
    assert!(recoveries.iter().all(|recovery| *recovery < RECOVERY), "{recoveries:?}");
    // What was there before all of it still is.
    Answer::to(user.request(Method::GET, "/me")).await.ok();
    server.stop().await.unwrap();
}
