//! Limits on guessing, over two instances on one database.

use std::collections::BTreeMap;
use std::time::Duration;

use portcullis::config::{Config, Rate, Switch};
use serde_json::{Value, json};

use crate::TestApp;
use crate::app::{Answer, Client, PASSWORD};
use crate::smtp::Mailbox;

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

/// For tests that log in to one account more often than people do.
pub fn many_logins(config: &mut Config) {
    config.throttle_logins = rate("100000/10m");
}

/// For many at once, on a machine that has other things to do.
fn patient(config: &mut Config) {
    config.database_acquire_timeout = Duration::from_secs(20);
}

#[tokio::test]
async fn a_wrong_login_says_how_many_attempts_are_left_for_known_and_unknown_accounts_alike() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let mut answers = Vec::new();
    for name in [user.username(), "nobody-has-this-name"] {
        let mut left = Vec::new();
        for _ in 0..10 {
            let answer = app.anonymous().post("/login", wrong(name)).await;
            let answer = answer.problem(401, "invalid_credentials");
            assert_eq!(answer.header("ratelimit-policy"), Some("\"account\";q=10;w=600"));
            assert_eq!(answer.header("retry-after"), None);
            let state = answer.header("ratelimit").unwrap();
            let (left_now, more) =
                state.strip_prefix("\"account\";r=").unwrap().split_once(";t=").unwrap();
            assert!((1..=60).contains(&more.parse::<u32>().unwrap()), "{state}");
            left.push(left_now.parse::<u32>().unwrap());
        }
        answers.push(left);
    }
    assert_eq!(answers[0], (0..10).rev().collect::<Vec<_>>());
    assert_eq!(answers[0], answers[1]);
    // A known device is told of its own limit.
    let known = user.post("/login", wrong(user.username())).await;
    let known = known.problem(401, "invalid_credentials");
    assert!(known.header("ratelimit").unwrap().starts_with("\"device\";r=9;"));
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

/// Sends wrong passwords for a name until 20 were sent, and a correct one of `owner` after each fifth,
/// from a program without cookies. Returns how many were checked.
async fn guesses_beside_logins(app: &TestApp, name: &str, owner: &str) -> usize {
    let mut checked = 0;
    for n in 0..20 {
        if n % 5 == 0 {
            app.anonymous().post("/login", right(owner)).await;
        }
        let answer = app.anonymous().post("/login", wrong(name)).await;
        checked += usize::from(answer.code == 401);
    }
    checked
}

#[tokio::test]
async fn logins_of_an_unknown_client_allow_strangers_no_more_guesses() {
    let app = TestApp::start().await;
    let (user, other) = (app.user().await, app.user().await);
    let known = guesses_beside_logins(&app, user.username(), user.username()).await;
    // A name without account allows as many.
    let unknown = guesses_beside_logins(&app, "user-0123456789ab", other.username()).await;
    assert_eq!((known, unknown), (10, 10));
}

#[tokio::test]
async fn a_correct_password_gives_its_attempt_back_to_the_name_and_the_network() {
    let app = TestApp::with(|config| config.throttle_network = rate("10/15m")).await;
    let replica = app.replica().await;
    let user = app.user().await;
    for _ in 0..9 {
        app.anonymous().post("/login", wrong(user.username())).await.status(401);
    }
    for _ in 0..12 {
        replica.anonymous().post("/login", right(user.username())).await.ok();
    }
    app.anonymous().post("/login", wrong("nobody")).await.status(401);
    app.anonymous().post("/login", wrong("nobody")).await.problem(429, "rate_limited");
    app.sql("delete from throttles where full_at > now() + interval '10 minutes'").await;
    app.anonymous().post("/login", wrong(user.username())).await.status(401);
    app.anonymous().post("/login", wrong(user.username())).await.problem(429, "rate_limited");
}

#[tokio::test]
async fn a_correct_password_of_a_known_device_resets_its_own_limit_and_no_other() {
    let app = TestApp::start().await;
    let owner = app.user().await;
    use_up(&app.anonymous(), owner.username()).await;
    for _ in 0..3 {
        for _ in 0..9 {
            owner.post("/login", wrong(owner.username())).await.status(401);
        }
        owner.post("/login", right(owner.username())).await.ok();
    }
    app.anonymous().post("/login", wrong(owner.username())).await.problem(429, "rate_limited");
}

#[tokio::test]
async fn an_owners_new_password_allows_strangers_no_more_guesses() {
    let app = TestApp::start().await;
    let owner = app.user().await;
    use_up(&app.anonymous(), owner.username()).await;
    let change = json!({"current_password": PASSWORD, "new_password": "quite another phrase"});
    owner.put("/me/password", change).await.ok();
    app.anonymous().post("/login", wrong(owner.username())).await.problem(429, "rate_limited");
}

#[tokio::test]
async fn more_correct_logins_than_the_rate_are_refused_and_count_as_wrong_ones() {
    let app = TestApp::with(|config| config.throttle_logins = rate("3/10m")).await;
    let replica = app.replica().await;
    let user = app.user().await;
    for n in 0..3 {
        let app = if n % 2 == 0 { &app } else { &replica };
        app.anonymous().post("/login", right(user.username())).await.ok();
    }
    // Strangers do not see it.
    app.anonymous()
        .post("/login", wrong(user.username()))
        .await
        .problem(401, "invalid_credentials");
    for _ in 0..9 {
        let refused = app.anonymous().post("/login", right(user.username())).await;
        let refused = refused.problem(429, "rate_limited");
        assert_eq!(refused.header("ratelimit-policy"), Some(r#""logins";q=3;w=600"#));
    }
    // From here on they cost no hash.
    let refused = app.anonymous().post("/login", right(user.username())).await;
    let refused = refused.problem(429, "rate_limited");
    assert_eq!(refused.header("ratelimit-policy"), Some(r#""account";q=10;w=600"#));
    // The owner still changes the password, and other accounts are not affected.
    let change = json!({"current_password": PASSWORD, "new_password": "quite another phrase"});
    user.put("/me/password", change).await.ok();
    let other = app.user().await;
    other.post("/login", right(other.username())).await.ok();
}

#[tokio::test]
async fn confirmations_of_a_session_have_a_rate_of_their_own() {
    let app = TestApp::with(|config| config.throttle_logins = rate("3/10m")).await;
    let (user, second) = (app.user().await, app.anonymous());
    second.post("/login", right(user.username())).await.ok();
    let confirm = json!({"password": PASSWORD});
    for _ in 0..3 {
        second.post("/me/reauthenticate", confirm.clone()).await.ok();
    }
    let refused = second.post("/me/reauthenticate", confirm.clone()).await;
    let refused = refused.problem(429, "rate_limited");
    assert_eq!(refused.header("ratelimit-policy"), Some(r#""confirmations";q=3;w=600"#));
    user.post("/me/reauthenticate", confirm).await.ok();
}

#[tokio::test]
async fn an_ipv6_site_has_four_times_the_limit_of_one_of_its_256_networks() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |config| {
        config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        config.throttle_network = rate("2/15m");
        config.throttle_registration = rate("2/1h");
        config.throttle_mail_network = rate("2/1h");
    });
    let app = app.await;
    let from = |ip: String| app.anonymous().with("x-forwarded-for", &ip);
    let call = async |kind: &str, network: usize, n: usize| {
        let client = from(format!("2001:db8:0:{network}00::{n}"));
        let name = format!("{kind}{network}x{n}");
        match kind {
            "wrong" => client.post("/login", wrong(&name)).await,
            "claim" => client.post("/users", json!({"username": name, "password": PASSWORD})).await,
            _ => {
                let email = format!("{name}@example.com");
                client.post("/password/forgot", json!({"email": email})).await
            }
        }
    };
    for (kind, status, policy, window) in [
        ("wrong", 401, "network", 900),
        ("claim", 201, "registration", 3600),
        ("mail", 202, "mail_network", 3600),
    ] {
        let named = |answer: Answer, name: &str, quota: usize| {
            let refused = answer.problem(429, "rate_limited");
            let expected = format!(r#""{name}";q={quota};w={window}"#);
            assert_eq!(refused.header("ratelimit-policy"), Some(&*expected));
        };
        for network in 1..=4 {
            for n in 1..=2 {
                call(kind, network, n).await.status(status);
            }
            named(call(kind, network, 3).await, policy, 2);
        }
        let before = app.count("throttles").await;
        named(call(kind, 5, 1).await, &format!("{policy}_48"), 8);
        // What the site refuses counts nowhere else.
        assert_eq!(app.count("throttles").await, before);
        let elsewhere = from("2001:db8:1::1".to_owned());
        match kind {
            "wrong" => elsewhere.post("/login", wrong("nobody")).await.status(401),
            "claim" => {
                let new = json!({"username": "elsewhere", "password": PASSWORD});
                elsewhere.post("/users", new).await.status(201)
            }
            _ => {
                let ask = json!({"email": "nobody@example.com"});
                elsewhere.post("/password/forgot", ask).await.status(202)
            }
        };
    }
}

#[tokio::test]
async fn basic_has_twenty_times_the_rate_of_logins() {
    let app = TestApp::with(|config| {
        config.basic_auth = Switch::On;
        config.throttle_logins = rate("1/10m");
    });
    let app = app.await;
    let user = app.user().await;
    let program = basic(&app, user.username(), PASSWORD);
    for _ in 0..20 {
        program.get("/me").await.ok();
    }
    let refused = program.get("/me").await.problem(429, "rate_limited");
    assert_eq!(refused.header("ratelimit-policy"), Some(r#""basic";q=20;w=600"#));
    app.anonymous().post("/login", right(user.username())).await.ok();
}

/// Somebody who sends a name and a password with each request.
pub fn basic(app: &TestApp, name: &str, password: &str) -> Client {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}"));
    app.anonymous().with("authorization", &format!("Basic {text}"))
}

#[tokio::test]
async fn basic_is_limited_like_a_login() {
    let app = TestApp::with(|config| config.basic_auth = Switch::On).await;
    let user = app.user().await;
    let basic = |password: &str| basic(&app, user.username(), password);
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

#[tokio::test]
async fn several_sessions_of_an_account_share_a_limit_on_wrong_passwords() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let sessions = [app.anonymous(), app.anonymous(), app.anonymous(), app.anonymous()];
    for session in &sessions {
        session.post("/login", right(user.username())).await.ok();
    }
    let guess = json!({"password": "a wrong password"});
    let (mut checked, mut policies) = (0, vec![]);
    for session in &sessions {
        for _ in 0..11 {
            let answer = session.post("/me/reauthenticate", guess.clone()).await;
            match answer.code {
                403 => checked += 1,
                _ => {
                    let refused = answer.problem(429, "rate_limited");
                    policies.push(refused.header("ratelimit-policy").unwrap().to_owned());
                }
            }
        }
    }
    assert_eq!(checked, 20);
    assert_eq!(policies.first().unwrap(), r#""session";q=10;w=600"#);
    assert_eq!(policies.last().unwrap(), r#""reauthentication";q=20;w=600"#);
    // They were guesses at the name, too.
    let refused = app.anonymous().post("/login", wrong(user.username())).await;
    let refused = refused.problem(429, "rate_limited");
    assert_eq!(refused.header("ratelimit-policy"), Some(r#""account";q=10;w=600"#));
}

#[tokio::test]
async fn a_correct_confirmation_gives_its_attempt_back() {
    let app = TestApp::start().await;
    let user = app.user().await;
    for _ in 0..9 {
        let guess = json!({"password": "a wrong password"});
        user.post("/me/reauthenticate", guess).await.problem(403, "wrong_password");
    }
    for _ in 0..5 {
        user.post("/me/reauthenticate", json!({"password": PASSWORD})).await.ok();
    }
    let left = wrong(user.username());
    app.anonymous().post("/login", left.clone()).await.problem(401, "invalid_credentials");
    app.anonymous().post("/login", left).await.problem(429, "rate_limited");
}

#[tokio::test]
async fn strangers_who_exhaust_a_name_do_not_keep_its_owner_from_confirming() {
    let app = TestApp::start().await;
    let owner = app.user().await;
    use_up(&app.anonymous(), owner.username()).await;
    owner.post("/me/reauthenticate", json!({"password": PASSWORD})).await.ok();
    let guess = json!({"password": "a wrong password"});
    owner.post("/me/reauthenticate", guess).await.problem(403, "wrong_password");
    let change = json!({"current_password": PASSWORD, "new_password": "quite another phrase"});
    owner.put("/me/password", change).await.ok();
    // And gave nothing back that it did not take.
    app.anonymous().post("/login", wrong(owner.username())).await.problem(429, "rate_limited");
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
    login.problem(500, "internal");
    let confirm = user.post("/me/reauthenticate", json!({"password": PASSWORD})).await;
    confirm.problem(500, "internal");
    let account = json!({"username": "another", "password": PASSWORD});
    app.anonymous().post("/users", account).await.problem(500, "internal");
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
    let costly = Config {
        bcrypt_cost: 14,
        password_queue_wait: Duration::from_secs(2),
        throttle_account,
        throttle_network,
        ..cheap.config.clone()
    };
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

#[tokio::test]
async fn somebody_who_knows_the_password_does_not_keep_a_known_device_out() {
    let app = TestApp::with(|config| config.throttle_logins = Rate::parse("3/10m").unwrap()).await;
    let owner = app.user().await;
    let login = json!({"identifier": owner.username(), "password": PASSWORD});
    for _ in 0..3 {
        app.anonymous().post("/login", login.clone()).await;
    }
    app.anonymous().post("/login", login.clone()).await.problem(429, "rate_limited");
    owner.post("/login", login).await.status(200);
}
