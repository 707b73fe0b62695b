//! `POST /password/forgot`, `POST /password/reset` and the link between them.

use std::collections::BTreeSet;

use portcullis::config::{PublicUrl, Rate};
use serde_json::{Value, json};
use url::Url;

use crate::app::{Answer, PASSWORD};
use crate::smtp::{Mail, Mailbox};
use crate::{Client, TestApp};

const ALICE: &str = "alice@example.com";
const NEW: &str = "an entirely different phrase";

/// Asks for a new password, and returns the mail.
async fn forget(app: &TestApp, mailbox: &Mailbox) -> Mail {
    app.anonymous().post("/password/forgot", json!({"email": ALICE})).await.status(202);
    app.deliver().await;
    let mut mails = mailbox.to(ALICE).into_iter().rev();
    mails.find(|mail| mail.subject == "Choose a new password").unwrap()
}

async fn reset(app: &TestApp, token: &str) -> Answer {
    app.anonymous().post("/password/reset", json!({"token": token, "password": NEW})).await
}

async fn login(app: &TestApp, password: &str) -> Answer {
    app.anonymous().post("/login", json!({"identifier": ALICE, "password": password})).await
}

/// The field that is refused because what was mailed does not stand.
#[track_caller]
fn void(answer: Answer, field: &str) {
    assert_eq!(answer.faults(), [(field.to_owned(), "invalid".to_owned())]);
}

#[tokio::test]
async fn a_forgotten_password_is_replaced_by_following_the_link() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |_| {}).await;
    let user = app.verified_user_at(ALICE).await;
    let elsewhere = app.anonymous();
    let token = json!({"identifier": ALICE, "password": PASSWORD, "transport": "token"});
    let app_login = app.with_token(&elsewhere.post("/login", token).await.status(200).token());
    let api = app.with_token(&user.token(json!({"name": "backup"})).await);
    app.sql("delete from outbox").await;

    let mail = forget(&app, &mailbox).await;
    assert_eq!(mail.header("from").as_deref(), Some("Example <auth@example.com>"));
    assert_eq!(mail.header("auto-submitted").as_deref(), Some("auto-generated"));
    assert!(mail.text.contains("Example") && mail.text.contains("30 minutes"), "{}", mail.text);
    let link = Url::parse(&mail.link()).unwrap();
    assert_eq!(link.origin().ascii_serialization(), app.config.public_url.origin().as_str());
    // Scanners open links, several times.
    let path = format!("{}?{}", link.path(), link.query().unwrap());
    for _ in 0..3 {
        let page = app.anonymous().get(&path).await.status(200);
        assert!(page.text.contains("PORTCULLIS_RESET_URL") && !page.text.contains(&mail.token()));
        app.anonymous().get(&format!("{path}&utm_source=mail")).await.status(200);
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    }
    user.get("/me").await.ok();

    let client = app.anonymous();
    let body = json!({"token": mail.token(), "password": NEW});
    let answer = client.post("/password/reset", body).await.status(204);
    assert!(answer.header("set-cookie").is_none() && answer.text.is_empty());
    client.get("/me").await.problem(401, "unauthenticated");
    user.get("/me").await.problem(401, "session_expired");
    app_login.get("/me").await.problem(401, "session_expired");
    api.get("/me").await.problem(401, "invalid_token");
    login(&app, PASSWORD).await.problem(401, "invalid_credentials");
    login(&app, NEW).await.status(200);
    void(reset(&app, &mail.token()).await, "token");

    app.deliver().await;
    let subjects: Vec<_> = mailbox.to(ALICE).into_iter().map(|mail| mail.subject).collect();
    assert!(subjects.contains(&"Your password was changed".to_owned()), "{subjects:?}");
    let events = user.post("/login", json!({"identifier": ALICE, "password": NEW})).await;
    let activity = user.get("/me/activity").await.ok();
    let changed = activity["items"].as_array().unwrap().iter();
    let changed = changed.filter(|event| event["kind"] == "password_changed").count();
    assert_eq!((events.code, changed), (200, 1));
}

#[tokio::test]
async fn the_code_does_it_too_however_it_is_typed_and_only_with_its_address() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |_| {}).await;
    app.verified_user_at(ALICE).await;
    app.user_at("bob@example.com").await;
    let code = forget(&app, &mailbox).await.code();
    let with = |email: &str, code: &str| json!({"email": email, "code": code, "password": NEW});
    let client = app.anonymous();
    void(client.post("/password/reset", with("bob@example.com", &code)).await, "code");
    void(client.post("/password/reset", with("nobody@example.com", &code)).await, "code");
    void(client.post("/password/reset", with(ALICE, "0000-0000")).await, "code");
    let typed = format!(" {} - {} ", code[..4].to_lowercase(), &code[4..]);
    client.post("/password/reset", with("Alice@Example.com ", &typed)).await.status(204);
    void(client.post("/password/reset", with(ALICE, &code)).await, "code");
    login(&app, NEW).await.status(200);
}

#[tokio::test]
async fn what_is_neither_a_token_nor_a_code_is_told() {
    let app = TestApp::start().await;
    for (body, field, code) in [
        (json!({"password": NEW}), "token", "required"),
        (json!({"password": NEW, "email": ALICE}), "code", "required"),
        (json!({"password": NEW, "code": "0000-0000"}), "email", "required"),
        (json!({"password": NEW, "token": "x", "code": "0000-0000"}), "token", "invalid"),
        (json!({"password": NEW, "token": "x", "email": ALICE}), "token", "invalid"),
        (json!({"password": NEW, "token": ""}), "token", "invalid"),
        (json!({"password": NEW, "email": "x", "code": "0000-0000"}), "email", "invalid"),
        (json!({"password": NEW, "email": ALICE, "code": ""}), "code", "invalid"),
        (json!({"password": NEW, "email": ALICE, "code": "\u{0}é".repeat(500)}), "code", "invalid"),
        (json!({"token": "x"}), "password", "required"),
    ] {
        let faults = app.anonymous().post("/password/reset", body.clone()).await.faults();
        assert_eq!(faults, [(field.to_owned(), code.to_owned())], "{body}");
    }
    let faults = app.anonymous().post("/password/forgot", json!({"email": "alice"})).await.faults();
    assert_eq!(faults, [("email".to_owned(), "invalid".to_owned())]);
}

#[tokio::test]
async fn an_unknown_address_is_answered_alike_and_nobody_is_mailed() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |_| {}).await;
    app.verified_user_at(ALICE).await;
    app.verified_user_at("bob@example.com").await;
    app.sql("update users set is_active = false where email = 'bob@example.com'").await;
    let mut answers = Vec::new();
    for email in [ALICE, "bob@example.com", "nobody@example.com"] {
        let answer = app.anonymous().post("/password/forgot", json!({"email": email})).await;
        let names: BTreeSet<_> = answer.headers.keys().map(ToString::to_string).collect();
        answers.push((answer.code, answer.text, names));
    }
    assert_eq!(answers[0].0, 202);
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
    app.deliver().await;
    assert_eq!(mailbox.wait(1).await.len(), 1);
    assert_eq!(mailbox.to(ALICE).len(), 1);
    assert_eq!((app.count("outbox").await, app.count("one_time_tokens").await), (0, 1));
}

#[tokio::test]
async fn of_many_uses_at_once_one_wins() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |_| {}).await;
    app.verified_user_at(ALICE).await;
    let (replica, token) = (app.replica().await, forget(&app, &mailbox).await.token());
    let mut tries = tokio::task::JoinSet::new();
    for n in 0..16 {
        let client = app.anonymous();
        let client = if n % 2 == 0 { client } else { client.to(&replica) };
        let body = json!({"token": token, "password": format!("{NEW} {n}")});
        tries.spawn(async move { client.post("/password/reset", body).await });
    }
    let answers = tries.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.code == 204).count(), 1);
    for answer in answers.into_iter().filter(|answer| answer.code != 204) {
        void(answer, "token");
    }
}

#[tokio::test]
async fn a_password_that_is_not_taken_uses_nothing_up() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |_| {}).await;
    app.verified_user_at(ALICE).await;
    let mail = forget(&app, &mailbox).await;
    for (weak, code) in
        [("short", "too_short"), ("password1", "breached"), ("alice@example.com", "personal")]
    {
        for body in [json!({"token": mail.token()}), json!({"email": ALICE, "code": mail.code()})] {
            let mut body = body;
            body["password"] = json!(weak);
            let faults = app.anonymous().post("/password/reset", body).await.faults();
            assert_eq!(faults, [("password".to_owned(), code.to_owned())]);
        }
    }
    reset(&app, &mail.token()).await.status(204);
}

#[tokio::test]
async fn a_newer_mail_a_change_of_password_or_address_and_time_make_it_void() {
    let mailbox = Mailbox::start().await;
    let app =
        TestApp::with_mail(&mailbox, |config| config.throttle_mail = Rate::parse("20/1h").unwrap())
            .await;
    let user = app.verified_user_at(ALICE).await;

    let (older, newer) = (forget(&app, &mailbox).await, forget(&app, &mailbox).await);
    void(reset(&app, &older.token()).await, "token");
    let body = json!({"email": ALICE, "code": older.code(), "password": NEW});
    void(app.anonymous().post("/password/reset", body).await, "code");
    let minutes = "select extract(epoch from expires_at - now())::float8 / 60 from one_time_tokens";
    let minutes: f64 = sqlx::query_scalar(minutes).fetch_one(&app.pool).await.unwrap();
    assert!((29.0..=30.0).contains(&minutes), "{minutes}");
    app.sql("update one_time_tokens set expires_at = now()").await;
    void(reset(&app, &newer.token()).await, "token");

    // It is enough that a newer one was asked for, whether or not it comes.
    let mail = forget(&app, &mailbox).await;
    app.anonymous().post("/password/forgot", json!({"email": "bob@example.com"})).await.status(202);
    let weak = json!({"token": mail.token(), "password": "alice@example.com"});
    assert_eq!(app.anonymous().post("/password/reset", weak).await.faults()[0].0, "password");
    app.anonymous().post("/password/forgot", json!({"email": ALICE})).await.status(202);
    void(reset(&app, &mail.token()).await, "token");

    let other = "yet another phrase of some length";
    let change = json!({"current_password": PASSWORD, "new_password": other});
    let mail = forget(&app, &mailbox).await;
    user.put("/me/password", change).await.status(200);
    void(reset(&app, &mail.token()).await, "token");

    // One that was asked for before the change, and is sent after it.
    app.anonymous().post("/password/forgot", json!({"email": ALICE})).await.status(202);
    let back = json!({"current_password": other, "new_password": PASSWORD});
    user.put("/me/password", back).await.status(200);
    let before = mailbox.to(ALICE).len();
    app.deliver().await;
    let subjects: Vec<_> =
        mailbox.to(ALICE).into_iter().skip(before).map(|mail| mail.subject).collect();
    assert!(subjects.iter().all(|subject| subject == "Your password was changed"), "{subjects:?}");

    let mail = forget(&app, &mailbox).await;
    let path = format!("/users/{}", user.id());
    app.admin().await.patch(&path, json!({"email": "other@example.com"})).await.ok();
    void(reset(&app, &mail.token()).await, "token");
    app.admin().await.patch(&path, json!({"email": ALICE})).await.ok();
    void(reset(&app, &mail.token()).await, "token");

    // One that was asked for before the account was disabled stays void when it is enabled again.
    let mail = forget(&app, &mailbox).await;
    for is_active in [false, true] {
        app.admin().await.patch(&path, json!({"is_active": is_active})).await.ok();
        void(reset(&app, &mail.token()).await, "token");
    }
}

#[tokio::test]
async fn a_token_for_one_thing_is_good_for_nothing_else() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |_| {}).await;
    app.user_at(ALICE).await;
    app.deliver().await;
    let verify = mailbox.next_to(ALICE, 1).await;
    let forgot = forget(&app, &mailbox).await;
    void(reset(&app, &verify.token()).await, "token");
    let body = json!({"email": ALICE, "code": verify.code(), "password": NEW});
    void(app.anonymous().post("/password/reset", body).await, "code");
    let body = json!({"token": forgot.token()});
    void(app.anonymous().post("/email/verify", body).await, "token");
}

#[tokio::test]
async fn nothing_in_the_request_decides_where_the_link_leads() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |config| {
        config.public_url = PublicUrl::parse("https://auth.example.com").unwrap();
        config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    });
    let app = app.await;
    app.verified_user_at(ALICE).await;
    let liar = app
        .anonymous()
        .with("host", "evil.example")
        .with("x-forwarded-host", "evil.example")
        .with("x-forwarded-proto", "http")
        .with("forwarded", "host=evil.example");
    liar.post("/password/forgot", json!({"email": ALICE})).await.status(202);
    app.deliver().await;
    let mail = mailbox.next_to(ALICE, 1).await;
    assert!(mail.link().starts_with("https://auth.example.com/password/reset?token=pco_"));
    assert!(!String::from_utf8_lossy(&mail.raw).contains("evil"));
}

#[tokio::test]
async fn the_link_leads_on_to_the_frontends_page() {
    let page = |text: &str| Some(Url::parse(text).unwrap());
    let app = TestApp::with(|config| {
        config.reset_url = page("https://app.example.com/new-password?lang=en#top");
        config.verify_url = page("http://localhost:5173/verify");
    });
    let app = app.await;
    for (path, expected) in [
        (
            "/password/reset?token=pco_x",
            "https://app.example.com/new-password?lang=en&token=pco_x#top",
        ),
        ("/email/verify?token=pco_x", "http://localhost:5173/verify?token=pco_x"),
        // Whatever comes along stays a value.
        (
            "/email/verify?token=%26a%3D%23%0d%0a",
            "http://localhost:5173/verify?token=%26a%3D%23%0D%0A",
        ),
    ] {
        let answer = app.anonymous().get(path).await.status(303);
        assert_eq!(answer.header("location"), Some(expected));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
    }
    let faults = app.anonymous().get("/password/reset").await.faults();
    assert_eq!(faults, [("token".to_owned(), "required".to_owned())]);
}

#[tokio::test]
async fn mails_are_limited_for_each_address_and_each_network() {
    let app = TestApp::with(|config| {
        config.throttle_mail_network = Rate::parse("8/1h").unwrap();
        config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    });
    let app = app.await;
    app.verified_user_at(ALICE).await;
    let replica = app.replica().await;
    let from = |ip: &str| app.anonymous().with("x-forwarded-for", ip);
    let ask = async |client: &Client, email: &str| {
        client.post("/password/forgot", json!({"email": email})).await
    };
    // Known or not makes no difference.
    for email in [ALICE, "nobody@example.com"] {
        let mut taken = 0;
        for n in 0..12 {
            let client = from(&format!("192.0.{n}.1"));
            let client = if n % 2 == 0 { client } else { client.to(&replica) };
            let answer = ask(&client, email).await;
            if answer.code == 202 { taken += 1 } else { drop(answer.problem(429, "rate_limited")) }
        }
        assert_eq!(taken, 5, "{email}");
    }
    let client = from("198.51.100.7");
    for n in 0..8 {
        ask(&client, &format!("user-{n}@example.com")).await.status(202);
    }
    let refused = ask(&client, "user-8@example.com").await.problem(429, "rate_limited");
    assert!(refused.header("ratelimit-policy").unwrap().contains("network"));
}

#[tokio::test]
async fn tries_at_a_code_are_limited_over_all_replicas() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |_| {}).await;
    app.verified_user_at(ALICE).await;
    let replica = app.replica().await;
    let code = forget(&app, &mailbox).await.code();
    let guess = |email: &'static str, n: usize| {
        let client = app.anonymous();
        let client = if n.is_multiple_of(2) { client } else { client.to(&replica) };
        let body = json!({"email": email, "code": format!("0000-{n:04}"), "password": NEW});
        async move { client.post("/password/reset", body).await.code }
    };
    for email in [ALICE, "nobody@example.com"] {
        let mut guesses = tokio::task::JoinSet::new();
        for n in 0..40 {
            guesses.spawn(guess(email, n));
        }
        let codes = guesses.join_all().await;
        let looked_at = codes.iter().filter(|code| **code == 422).count();
        assert_eq!(looked_at, 10, "{email}: {codes:?}");
        assert!(codes.iter().all(|code| matches!(code, 422 | 429)), "{codes:?}");
    }
    // Not even the right one is looked at; the link is another matter.
    let body = json!({"email": ALICE, "code": code, "password": NEW});
    app.anonymous().post("/password/reset", body).await.problem(429, "rate_limited");
    let mail = mailbox.next_to(ALICE, 1).await;
    reset(&app, &mail.token()).await.status(204);
}

#[tokio::test]
async fn neither_token_nor_code_is_in_the_database() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |_| {}).await;
    app.verified_user_at(ALICE).await;
    let mail = forget(&app, &mailbox).await;
    let tables: Vec<String> =
        sqlx::query_scalar("select tablename::text from pg_tables where schemaname = 'public'")
            .fetch_all(&app.pool)
            .await
            .unwrap();
    let mut rows = Vec::new();
    for table in &tables {
        let all = format!("select t::text from {table} t");
        rows.extend(sqlx::query_scalar::<_, String>(&all).fetch_all(&app.pool).await.unwrap());
    }
    assert!(
        tables.contains(&"one_time_tokens".to_owned()) && rows.iter().any(|r| r.contains(ALICE))
    );
    for secret in [mail.token(), mail.token()[4..].to_owned(), mail.code()] {
        assert!(!rows.iter().any(|row| row.contains(&secret)), "{secret}");
    }
}

#[tokio::test]
async fn who_proves_an_address_that_never_was_verified_shares_the_account_with_nobody() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |_| {}).await;
    // Somebody has registered with the address of another.
    let squatter = app.user_at(ALICE).await;
    let api =
        app.with_token(&squatter.token(json!({"name": "t", "scopes": ["read", "write"]})).await);
    squatter.patch("/me", json!({"email": "mallory@example.com"})).await.ok();
    app.deliver().await;
    let way_back = mailbox.next_to("mallory@example.com", 1).await;

    let mail = forget(&app, &mailbox).await;
    reset(&app, &mail.token()).await.status(204);
    squatter.get("/me").await.problem(401, "session_expired");
    api.get("/me").await.problem(401, "invalid_token");
    void(app.anonymous().post("/email/verify", json!({"token": way_back.token()})).await, "token");
    let user = login(&app, NEW).await.ok()["user"].clone();
    assert_eq!((&user["email"], &user["email_verified"]), (&json!(ALICE), &json!(true)));
    assert_eq!(user["pending_email"], Value::Null);
}
