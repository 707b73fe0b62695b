//! Limits on guessing, over two instances on one database.

use std::collections::BTreeMap;
use std::time::Duration;

use portcullis::config::{Config, Rate, Switch};
use serde_json::{Value, json};

use crate::TestApp;
use crate::app::{Answer, Client, PASSWORD};

pub fn wrong(name: &str) -> Value {
    json!({"identifier": name, "password": "a wrong password"})
}

pub fn right(name: &str) -> Value {
    json!({"identifier": name, "password": PASSWORD})
}

/// Sends all of these at once, each second one to the other instance, and counts the statuses.
async fn at_once(apps: [&TestApp; 2], logins: Vec<Value>) -> BTreeMap<u16, usize> {
    let sent: Vec<_> = logins
        .into_iter()
        .enumerate()
        .map(|(i, login)| {
            let client = apps[i % 2].anonymous();
            tokio::spawn(async move { client.post("/login", login).await.code })
        })
        .collect();
    let mut counts = BTreeMap::new();
    for code in sent {
        *counts.entry(code.await.unwrap()).or_default() += 1;
    }
    counts
}

/// Uses up a limit by wrong passwords.
pub async fn use_up(client: &Client, name: &str) {
    for _ in 0..10 {
        client.post("/login", wrong(name)).await.problem(401, "invalid_credentials");
    }
    client.post("/login", wrong(name)).await.problem(429, "rate_limited");
}

pub fn rate(text: &str) -> Rate {
    Rate::parse(text).unwrap()
}

/// For many at once, on a machine that has other things to do.
fn patient(config: &mut Config) {
    config.database_acquire_timeout = Duration::from_secs(20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_wrong_passwords_at_once_no_more_than_the_limit_are_looked_at() {
    let app = TestApp::with(patient).await;
    let replica = app.replica().await;
    let user = app.user().await;
    let names = [user.username().to_owned(), format!("  {} ", user.username().to_uppercase())];
    let logins = (0..200).map(|i| wrong(&names[i / 2 % 2])).collect();
    let counts = at_once([&app, &replica], logins).await;
    println!("200 wrong passwords at once: {counts:?}");
    assert_eq!(counts, BTreeMap::from([(401, 10), (429, 190)]));
    let failures = "audit_events where kind = 'login_failed'";
    assert_eq!(app.count(failures).await, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_network_has_a_limit_over_all_names() {
    let app = TestApp::with(|config| {
        patient(config);
        config.throttle_network = rate("30/15m");
    });
    let app = app.await;
    let replica = app.replica().await;
    let counts = at_once([&app, &replica], (0..100).map(|i| wrong(&format!("u{i}"))).collect());
    assert_eq!(counts.await, BTreeMap::from([(401, 30), (429, 70)]));
    // Who lost against others at the network has lost nothing of its own.
    assert_eq!(app.count("throttles where full_at > now()").await, 31);
    let refused = app.anonymous().post("/login", wrong("another")).await;
    let refused = refused.problem(429, "rate_limited");
    assert_eq!(refused.header("ratelimit-policy"), Some(r#""network";q=30;w=900"#));
    // What the network refuses uses up no name's limit.
    app.sql("delete from throttles where full_at > now() + interval '10 minutes'").await;
    let counts = at_once([&app, &replica], vec![wrong("another"); 12]).await;
    assert_eq!(counts, BTreeMap::from([(401, 10), (429, 2)]));
}

#[tokio::test]
async fn what_a_name_refuses_uses_up_nothing_of_its_network() {
    let app = TestApp::with(|config| config.throttle_network = rate("15/15m")).await;
    let client = app.anonymous();
    use_up(&client, "nobody").await;
    for _ in 0..20 {
        client.post("/login", wrong("nobody")).await.problem(429, "rate_limited");
    }
    for _ in 0..5 {
        client.post("/login", wrong("somebody")).await.problem(401, "invalid_credentials");
    }
    client.post("/login", wrong("somebody")).await.problem(429, "rate_limited");
}

#[tokio::test]
async fn a_refusal_says_when_to_come_back_and_then_there_is_one_more_try() {
    let app = TestApp::start().await;
    let client = app.anonymous();
    use_up(&client, "nobody").await;
    let refused = client.post("/login", wrong("nobody")).await.problem(429, "rate_limited");
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((50..=60).contains(&wait), "{wait}");
    assert_eq!(refused.header("ratelimit-policy"), Some(r#""account";q=10;w=600"#));
    assert_eq!(refused.header("ratelimit"), Some(&*format!(r#""account";r=0;t={wait}"#)));
    app.sql("update throttles set full_at = full_at - interval '60 seconds'").await;
    client.post("/login", wrong("nobody")).await.problem(401, "invalid_credentials");
    client.post("/login", wrong("nobody")).await.problem(429, "rate_limited");
}

#[tokio::test]
async fn an_unknown_account_answers_as_a_known_one_until_and_after_it_is_used_up() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let seen = |answer: Answer| {
        let names = [
            "content-type",
            "content-length",
            "cache-control",
            "www-authenticate",
            "retry-after",
            "ratelimit",
            "ratelimit-policy",
            "set-cookie",
        ];
        let headers = names.map(|name| answer.header(name).map(str::to_owned));
        let mut body = answer.body;
        body["request_id"] = Value::Null;
        (answer.code, answer.headers.len(), headers, body)
    };
    for round in 0..12 {
        let known = app.anonymous().post("/login", wrong(user.username())).await;
        let unknown = app.anonymous().post("/login", wrong("user-0123456789ab")).await;
        // The two may fall into two seconds.
        if known.header("retry-after") == unknown.header("retry-after") {
            assert_eq!(seen(known), seen(unknown), "{round}");
        } else {
            assert_eq!((known.code, unknown.code), (429, 429));
        }
    }
}

#[tokio::test]
async fn a_login_makes_the_limits_whole_again() {
    let app = TestApp::with(|config| config.throttle_network = rate("25/15m")).await;
    let replica = app.replica().await;
    let user = app.user().await;
    for _ in 0..2 {
        for _ in 0..9 {
            app.anonymous().post("/login", wrong(user.username())).await.status(401);
        }
        // Right ones do not count at all.
        for _ in 0..12 {
            replica.anonymous().post("/login", right(user.username())).await.ok();
        }
    }
    // The network has counted 18 wrong ones.
    for i in 0..7 {
        app.anonymous().post("/login", wrong(&format!("nobody{i}"))).await.status(401);
    }
    app.anonymous().post("/login", wrong("nobody")).await.problem(429, "rate_limited");
}

#[tokio::test]
async fn basic_is_limited_like_a_login() {
    let app = TestApp::with(|config| config.basic_auth = Switch::On).await;
    let user = app.user().await;
    let basic = |password: &str| {
        use base64::Engine as _;
        let text = format!("{}:{password}", user.username());
        let text = base64::engine::general_purpose::STANDARD.encode(text);
        app.anonymous().with("authorization", &format!("Basic {text}"))
    };
    for _ in 0..12 {
        basic(PASSWORD).get("/me").await.ok();
    }
    for tried in 1..=10 {
        basic("a wrong password").get("/me").await.problem(401, "invalid_credentials");
        // Who sends the right one all the time makes no room for others to guess.
        if tried < 10 {
            basic(PASSWORD).get("/me").await.ok();
        }
    }
    basic("a wrong password").get("/me").await.problem(429, "rate_limited");
    basic(PASSWORD).get("/me").await.problem(429, "rate_limited");
    app.anonymous().post("/login", right(user.username())).await.problem(429, "rate_limited");
}

#[tokio::test]
async fn a_session_that_guesses_its_password_is_limited_and_no_other() {
    let app = TestApp::start().await;
    let replica = app.replica().await;
    let (thief, owner) = (app.user().await, app.anonymous());
    owner.post("/login", right(thief.username())).await.ok();
    let guess = json!({"password": "a wrong password"});
    let change =
        json!({"current_password": "a wrong password", "new_password": "long enough, too"});
    for _ in 0..5 {
        thief.post("/me/reauthenticate", guess.clone()).await.problem(403, "wrong_password");
        let changed = thief.to(&replica).put("/me/password", change.clone()).await;
        changed.problem(403, "wrong_password");
    }
    thief.put("/me/password", change.clone()).await.problem(429, "rate_limited");
    let right_one = json!({"password": PASSWORD});
    let refused = thief.to(&replica).post("/me/reauthenticate", right_one.clone()).await;
    let refused = refused.problem(429, "rate_limited");
    assert_eq!(refused.header("ratelimit-policy"), Some(r#""session";q=10;w=600"#));
    owner.post("/me/reauthenticate", right_one).await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn registrations_of_a_network_are_limited_and_an_admins_are_not() {
    let app = TestApp::with(|config| {
        patient(config);
        config.throttle_registration = rate("5/1h");
    });
    let app = app.await;
    let replica = app.replica().await;
    let admin = app.admin().await;
    let account = |i: usize| json!({"username": format!("user{i}"), "password": PASSWORD});
    let sent: Vec<_> = (0..20)
        .map(|i| {
            let client = [&app, &replica][i % 2].anonymous();
            let account = account(i);
            tokio::spawn(async move { client.post("/users", account).await.code })
        })
        .collect();
    let mut made = 0;
    for code in sent {
        match code.await.unwrap() {
            201 => made += 1,
            code => assert_eq!(code, 429),
        }
    }
    // The admin registered as well.
    assert_eq!(made, 4);
    let refused = app.anonymous().post("/users", account(100)).await.problem(429, "rate_limited");
    assert_eq!(refused.header("ratelimit-policy"), Some(r#""registration";q=5;w=3600"#));
    // What is wrong anyway is told, and not counted.
    let short = json!({"username": "user101", "password": "short"});
    app.anonymous().post("/users", short).await.problem(422, "validation_failed");
    // A new name is another way to ask which are taken.
    admin.patch("/me", json!({"username": "user0"})).await.problem(429, "rate_limited");
    admin.patch("/me", json!({"name": "Alice"})).await.ok();
    admin.post("/users", account(100)).await.status(201);
}

#[tokio::test]
async fn a_backend_that_logs_in_for_many_has_no_limit_as_a_network() {
    let trusts = |config: &mut Config| {
        config.throttle_network = rate("3/15m");
        config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    };
    let app = TestApp::with(trusts).await;
    for i in 0..8 {
        app.anonymous().post("/login", wrong(&format!("nobody{i}"))).await.status(401);
    }
    // Who forwards for somebody is limited by whom.
    let browser = |host: u8| app.anonymous().with("x-forwarded-for", &format!("203.0.113.{host}"));
    for i in 0..3 {
        browser(i).post("/login", wrong(&format!("nobody{i}"))).await.status(401);
    }
    browser(9).post("/login", wrong("nobody")).await.problem(429, "rate_limited");
    let elsewhere = app.anonymous().with("x-forwarded-for", "198.51.100.1");
    elsewhere.post("/login", wrong("nobody")).await.status(401);
}

#[tokio::test]
async fn when_the_limiter_fails_nobody_logs_in() {
    let app = TestApp::start().await;
    let user = app.user().await;
    app.sql("alter table throttles rename to elsewhere").await;
    let login = app.anonymous().post("/login", right(user.username())).await;
    login.problem(503, "database_unavailable");
    let confirm = user.post("/me/reauthenticate", json!({"password": PASSWORD})).await;
    confirm.problem(503, "database_unavailable");
    let account = json!({"username": "another", "password": PASSWORD});
    app.anonymous().post("/users", account).await.problem(503, "database_unavailable");
    user.get("/me").await.ok();
    // Where it is off, it is not asked.
    let open = Config { throttle: Switch::Off, ..app.config.clone() };
    let open = app.replica_with(open).await;
    for _ in 0..15 {
        open.anonymous().post("/login", wrong(user.username())).await.status(401);
    }
    open.anonymous().post("/login", right(user.username())).await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_try_that_was_shed_does_not_count() {
    let cheap = TestApp::start().await;
    let user = cheap.user().await;
    let (throttle_account, throttle_network) = (rate("1000/1h"), rate("1000/1h"));
    let costly =
        Config { bcrypt_cost: 14, throttle_account, throttle_network, ..cheap.config.clone() };
    cheap.sql("delete from throttles").await;
    let app = cheap.replica_with(costly).await;
    let cores = std::thread::available_parallelism().unwrap().get();
    let logins: Vec<_> = (0..cores * 20)
        .map(|_| {
            let (client, login) = (app.anonymous(), wrong(user.username()));
            tokio::spawn(async move { client.post("/login", login).await })
        })
        .collect();
    let (mut counted, mut shed) = (0, 0);
    for login in logins {
        let answer = login.await.unwrap();
        match answer.body["code"].as_str().unwrap() {
            "busy" => shed += 1,
            // One that failed otherwise may have been looked at.
            "invalid_credentials" | "database_unavailable" | "timeout" => counted += 1,
            code => panic!("{code}"),
        }
    }
    let left = "select ceil(extract(epoch from max(full_at) - now()) / 3.6)::bigint from throttles";
    let left: i64 = sqlx::query_scalar(left).fetch_one(&app.pool).await.unwrap();
    println!("{shed} shed, {counted} others, {left} counted");
    assert!(shed > 10 && left <= counted, "{shed} {counted} {left}");
}
