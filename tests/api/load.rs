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
use crate::throttle::{many_logins, rate, right};

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
    config.bcrypt_cost = 10;
    many_logins(&mut config);
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
    let start = Instant::now();
    let (mut in_turn, mut busy) = (0, 0);
    for _ in 0..5 {
        let login = from("198.51.100.1").post("/login", right(user.username())).await;
        match login.code {
            200 => in_turn += 1,
            _ => drop((login.problem(503, "busy"), busy += 1)),
        }
    }
    let took = start.elapsed();
    stop.store(true, Ordering::Relaxed);
    storm.join_all().await;
    println!("{in_turn} logins of another network in turn, {busy} not, in {took:?}");
    assert!(in_turn >= 3, "{in_turn}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_storm_of_logins_is_shed_and_does_not_slow_who_is_logged_in() {
    let cheap = TestApp::with(|config| config.throttle = Switch::Off).await;
    let user = cheap.user().await;
    let mut config = cheap.config.clone();
    config.bcrypt_cost = 12;
    config.password_queue_wait = Duration::from_secs(2);
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

/// What came of people who log in at the same moment.
#[derive(Debug, Default)]
struct Burst {
    logged_in: Vec<Duration>,
    rejected: Vec<Duration>,
}

impl Burst {
    /// Logs in each of these accounts once, all at the same moment.
    async fn of(app: &TestApp, network: &str, accounts: &[String]) -> Self {
        let mut logins = JoinSet::new();
        for (n, account) in accounts.iter().enumerate() {
            let client = app.anonymous().with("x-forwarded-for", &format!("{network}.{n}"));
            let login = right(account);
            logins.spawn(async move {
                let start = Instant::now();
                let answer = client.post("/login", login).await;
                (answer, start.elapsed())
            });
        }
        let mut burst = Self::default();
        for (answer, took) in logins.join_all().await {
            match answer.code {
                200 => burst.logged_in.push(took),
                _ => drop((answer.problem(503, "busy"), burst.rejected.push(took))),
            }
        }
        burst
    }

    fn slowest(times: &[Duration]) -> Duration {
        times.iter().copied().max().unwrap_or_default()
    }
}

/// Measures at full cost, so it needs a release build and an idle machine:
/// `cargo test --release --locked --test api people_who_log_in_at_once -- --ignored --nocapture`.
/// `BURST_COST` asks for another cost than 12.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "takes half a minute of an idle machine; run it in a release build"]
async fn people_who_log_in_at_once_wait_their_turn_or_are_rejected_at_once() {
    let cheap = TestApp::with(|config| config.throttle_registration = rate("1000/1h")).await;
    let mut people = vec![];
    for _ in 0..204 {
        people.push(cheap.user().await.username().to_owned());
    }
    let user = cheap.user().await;
    // A hash of the full cost for all of them, since a login with a cheaper one would replace it.
    let mut config = cheap.config.clone();
    let cost = std::env::var("BURST_COST");
    config.bcrypt_cost = cost.map_or(12, |cost| cost.parse().unwrap());
    config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let app = cheap.replica_with(config).await;
    app.anonymous().post("/login", right(&people[0])).await.ok();
    let copy = format!(
        "update users set password_hash = (select password_hash from users where username = '{}')",
        people[0]
    );
    app.sql(&copy).await;
    let user = user.to(&app);
    me(&user, 100).await;
    let idle = me(&user, 300).await;
    println!("/me (median, p99) {idle:?} on an idle service");
    let mut slowest_me = Duration::ZERO;
    for many in [16, 64, 200] {
        let others = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            Burst::of(&app, "198.51.100", &people[200..204]).await
        };
        let asked = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            me(&user, if many == 16 { 100 } else { 300 }).await
        };
        let burst = Burst::of(&app, "203.0.113", &people[..many]);
        let (burst, others, busy) = tokio::join!(burst, others, asked);
        println!(
            "{many} at once: {} logged in, the last after {:?}; {} rejected, the last after {:?}; \
             4 of another network logged in, the last after {:?}; /me (median, p99) {busy:?}",
            burst.logged_in.len(),
            Burst::slowest(&burst.logged_in),
            burst.rejected.len(),
            Burst::slowest(&burst.rejected),
            Burst::slowest(&others.logged_in),
        );
        assert!(many != 16 || burst.rejected.is_empty(), "{burst:?}");
        assert!(Burst::slowest(&burst.logged_in) < Duration::from_millis(11_000), "{burst:?}");
        // Nobody is rejected while the queue is shorter than the wait that is allowed, but for its reserve.
        let is_full = Burst::slowest(&burst.logged_in) > app.config.password_queue_wait * 3 / 4;
        assert!(burst.rejected.is_empty() || is_full, "{burst:?}");
        assert!(Burst::slowest(&burst.rejected) < Duration::from_millis(250), "{burst:?}");
        assert_eq!(others.logged_in.len(), 4);
        assert!(Burst::slowest(&others.logged_in) < Duration::from_secs(3), "{others:?}");
        slowest_me = slowest_me.max(if many == 64 { busy.1 } else { Duration::ZERO });
    }
    assert!(slowest_me < idle.1 * 3, "{slowest_me:?} {idle:?}");
}
