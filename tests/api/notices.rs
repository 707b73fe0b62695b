//! News of what happened to an account, for its owner.

use serde_json::json;

use crate::TestApp;
use crate::app::PASSWORD;
use crate::smtp::Mailbox;

const ALICE: &str = "alice@example.com";
const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

/// The subjects of all mails to an address.
fn subjects(mailbox: &Mailbox, email: &str) -> Vec<String> {
    mailbox.to(email).into_iter().map(|mail| mail.subject).collect()
}

#[tokio::test]
async fn a_login_by_a_new_device_is_told_and_one_by_a_known_device_is_not() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |config| {
        config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    });
    let app = app.await;
    let login = json!({"identifier": ALICE, "password": PASSWORD});
    let known = app.verified_user_at(ALICE).await;
    known.post("/login", login.clone()).await.status(200);
    app.deliver().await;
    assert_eq!(subjects(&mailbox, ALICE), [""; 0]);

    let new = app.anonymous().with("user-agent", FIREFOX).with("x-forwarded-for", "203.0.113.9");
    new.post("/login", login.clone()).await.status(200);
    new.post("/login", login.clone()).await.status(200);
    app.deliver().await;
    let mails = mailbox.wait(1).await;
    assert_eq!(subjects(&mailbox, ALICE), ["A new device has logged in"]);
    for part in ["Firefox on Linux", "203.0.113.9", "UTC"] {
        assert!(mails[0].text.contains(part) && mails[0].html.contains(part), "{:?}", mails[0]);
    }

    // A device that another account knows is new to this one.
    let bob = app.user_at("bob@example.com").await;
    app.sql("delete from outbox").await;
    bob.post("/login", login.clone()).await.status(200);
    app.deliver().await;
    assert_eq!(subjects(&mailbox, ALICE).len(), 2);

    // A program without a memory is told of now and then.
    for _ in 0..10 {
        app.anonymous().post("/login", login.clone()).await.status(200);
    }
    app.deliver().await;
    assert_eq!(subjects(&mailbox, ALICE).len(), 5);
}

#[tokio::test]
async fn a_new_password_is_told_whoever_set_it() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |_| {}).await;
    let alice = app.verified_user_at(ALICE).await;
    let new = "quite another phrase";
    let change = json!({"current_password": PASSWORD, "new_password": new});
    alice.put("/me/password", change).await.status(200);
    app.deliver().await;
    assert_eq!(subjects(&mailbox, ALICE), ["Your password was changed"]);
    let told = &mailbox.to(ALICE)[0].text;
    assert!(told.contains("No other session was logged out. No API token was revoked."), "{told}");
    let admin = app.admin().await;
    let path = format!("/users/{}", alice.id());
    admin.patch(&path, json!({"password": "a third one of some length"})).await.ok();
    admin.patch(&path, json!({"name": "Alice"})).await.ok();
    app.deliver().await;
    assert_eq!(subjects(&mailbox, ALICE).len(), 2);
    assert!(mailbox.received().iter().all(|mail| !mail.text.contains("http")));
}

#[tokio::test]
async fn wrong_passwords_that_lock_an_account_are_told_once() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |_| {}).await;
    app.verified_user_at(ALICE).await;
    let replica = app.replica().await;
    let guess = async |email: &str, times: usize| {
        let mut guesses = tokio::task::JoinSet::new();
        for n in 0..times {
            let client = app.anonymous();
            let client = if n % 2 == 0 { client } else { client.to(&replica) };
            let login = json!({"identifier": email, "password": format!("wrong {n}")});
            guesses.spawn(async move { client.post("/login", login).await.code });
        }
        guesses.join_all().await
    };
    guess(ALICE, 9).await;
    app.deliver().await;
    assert_eq!(subjects(&mailbox, ALICE), [""; 0]);
    let codes = guess(ALICE, 8).await;
    assert_eq!(codes.iter().filter(|code| **code == 401).count(), 1, "{codes:?}");
    guess("nobody@example.com", 16).await;
    assert_eq!(app.count("outbox").await, 1);
    app.deliver().await;
    assert_eq!(subjects(&mailbox, ALICE), ["Too many wrong passwords"]);
    // Who goes on for hours uses up each try that comes back.
    for _ in 0..5 {
        app.sql("update throttles set full_at = full_at - interval '1 minute'").await;
        let codes = guess(ALICE, 4).await;
        assert_eq!(codes.iter().filter(|code| **code == 401).count(), 1, "{codes:?}");
    }
    app.deliver().await;
    assert_eq!(subjects(&mailbox, ALICE).len(), 1);
}

#[tokio::test]
async fn wrong_passwords_of_a_session_that_exhaust_its_limit_are_reported_once() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |_| {}).await;
    let alice = app.verified_user_at(ALICE).await;
    let guess = json!({"password": "a wrong one"});
    for _ in 0..9 {
        alice.post("/me/reauthenticate", guess.clone()).await.problem(403, "wrong_password");
    }
    app.deliver().await;
    assert_eq!(subjects(&mailbox, ALICE), [""; 0]);
    let change = json!({"current_password": "a wrong one", "new_password": "quite another phrase"});
    alice.put("/me/password", change).await.problem(403, "wrong_password");
    alice.post("/me/reauthenticate", guess).await.problem(429, "rate_limited");
    app.deliver().await;
    assert_eq!(subjects(&mailbox, ALICE), ["Too many wrong passwords"]);
    assert!(mailbox.to(ALICE)[0].text.contains("log out all other devices"));
    app.sql("update throttles set full_at = full_at - interval '1 minute'").await;
    alice.post("/me/reauthenticate", json!({"password": "a wrong one"})).await.status(403);
    app.deliver().await;
    assert_eq!(subjects(&mailbox, ALICE).len(), 1);
    let failed = "audit_events where kind = 'login_failed' and details->>'code' = 'wrong_password'";
    assert_eq!(app.count(failed).await, 11);
}

#[tokio::test]
async fn strangers_who_exhaust_a_name_do_not_silence_the_notice_of_a_guessing_session() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |_| {}).await;
    let alice = app.verified_user_at(ALICE).await;
    crate::throttle::use_up(&app.anonymous(), ALICE).await;
    app.deliver().await;
    assert_eq!(subjects(&mailbox, ALICE).len(), 1);
    for _ in 0..10 {
        let guess = json!({"password": "a wrong one"});
        alice.post("/me/reauthenticate", guess).await.problem(403, "wrong_password");
    }
    app.deliver().await;
    assert_eq!(subjects(&mailbox, ALICE).len(), 2);
}

#[tokio::test]
async fn an_owner_who_mistypes_is_told_of_no_stranger() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |_| {}).await;
    let alice = app.verified_user_at(ALICE).await;
    let login = |password: &str| json!({"identifier": ALICE, "password": password});
    for _ in 0..10 {
        alice.post("/login", login("a wrong one")).await.problem(401, "invalid_credentials");
    }
    alice.post("/login", login(PASSWORD)).await.problem(429, "rate_limited");
    assert_eq!(app.count("outbox").await, 0);
}

#[tokio::test]
async fn an_address_that_was_never_verified_is_told_nothing() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |_| {}).await;
    // Whoever has the address has perhaps never heard of us.
    let squatter = app.user_at(ALICE).await;
    app.sql("delete from outbox").await;
    let login = json!({"identifier": ALICE, "password": PASSWORD});
    app.anonymous().post("/login", login).await.status(200);
    let new = "quite another phrase";
    let change = json!({"current_password": PASSWORD, "new_password": new});
    squatter.put("/me/password", change).await.status(200);
    for _ in 0..11 {
        let wrong = json!({"identifier": ALICE, "password": "wrong"});
        app.anonymous().post("/login", wrong).await;
    }
    let path = format!("/users/{}", squatter.id());
    app.admin().await.patch(&path, json!({"email": null, "username": "squatter"})).await.ok();
    app.deliver().await;
    assert_eq!(mailbox.received().len(), 0);
}

#[tokio::test]
async fn nothing_in_a_mail_is_what_somebody_else_chose() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |_| {}).await;
    let new = json!({
        "username": "win.evil.example", "name": "<b>Click</b> https://evil.example",
        "email": ALICE, "password": PASSWORD,
    });
    let client = app.anonymous().with("user-agent", "https://evil.example <script>");
    client.post("/users", new).await.status(201);
    app.deliver().await;
    app.sql("update users set email_verified = true").await;
    let stranger = app.anonymous().with("user-agent", "https://evil.example <script>");
    let login = json!({"identifier": ALICE, "password": PASSWORD});
    stranger.post("/login", login).await.status(200);
    app.anonymous().post("/password/forgot", json!({"email": ALICE})).await.status(202);
    app.deliver().await;
    let mails = mailbox.wait(3).await;
    for mail in mails {
        let whole = format!("{} {} {}", mail.subject, mail.text, mail.html);
        assert!(!whole.contains("evil") && !whole.contains("Click"), "{whole}");
        assert_eq!(mail.header("to").as_deref(), Some(ALICE));
    }
}
