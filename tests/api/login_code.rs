//! `POST /login/code` and `POST /login/code/verify`.

use portcullis::config::Switch;
use serde_json::json;

use crate::TestApp;
use crate::app::PASSWORD;
use crate::smtp::Mailbox;

const ALICE: &str = "alice@example.com";

async fn start(mailbox: &Mailbox) -> TestApp {
    TestApp::with_mail(mailbox, |config| config.login_code = Switch::On).await
}

/// Asks for a code, and returns the one that comes.
async fn ask(app: &TestApp, mailbox: &Mailbox) -> String {
    app.anonymous().post("/login/code", json!({"email": ALICE})).await.status(202);
    app.deliver().await;
    let mut mails = mailbox.to(ALICE).into_iter().rev();
    mails.find(|mail| mail.subject == "Your code to log in").unwrap().code()
}

#[tokio::test]
async fn it_is_off_unless_it_is_switched_on() {
    let app = TestApp::start().await;
    let client = app.anonymous();
    let ask = client.post("/login/code", json!({"email": ALICE})).await;
    ask.problem(403, "login_code_disabled");
    let given = json!({"email": ALICE, "code": "0000-0000"});
    client.post("/login/code/verify", given).await.problem(403, "login_code_disabled");
    assert_eq!(app.count("outbox").await, 0);
}

#[tokio::test]
async fn a_code_logs_in_once_as_a_password_does() {
    let mailbox = Mailbox::start().await;
    let app = start(&mailbox).await;
    app.verified_user_at(ALICE).await;
    let code = ask(&app, &mailbox).await;
    assert!(!mailbox.to(ALICE)[0].text.contains("http"), "there is no link to follow");
    let browser = app.anonymous();
    let given =
        json!({"email": " Alice@example.com", "code": code.to_lowercase(), "remember": true});
    let login = browser.post("/login/code/verify", given.clone()).await.status(200);
    assert_eq!(login.body["session"]["remember"], true);
    assert!(login.set_cookie("portcullis-device").is_some());
    browser.get("/me").await.ok();
    // It is fresh.
    browser.post("/me/tokens", json!({"name": "t"})).await.status(201);
    app.anonymous().post("/login/code/verify", given).await.problem(401, "invalid_credentials");

    let code = ask(&app, &mailbox).await;
    let given = json!({"email": ALICE, "code": code, "transport": "token", "remember_for": "1d"});
    let login = app.anonymous().post("/login/code/verify", given).await.status(200);
    assert!(login.header("set-cookie").is_none());
    app.with_token(&login.token()).get("/me").await.ok();
    let events = browser.get("/me/activity").await.ok();
    let kinds = events["items"].as_array().unwrap().iter().map(|event| event["kind"].clone());
    let kinds: Vec<_> = kinds.collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "logged_in").count(), 3, "{kinds:?}");
    assert_eq!(kinds.iter().filter(|kind| **kind == "login_failed").count(), 1, "{kinds:?}");
}

#[tokio::test]
async fn who_proves_an_address_that_never_was_verified_shares_the_account_with_nobody() {
    let mailbox = Mailbox::start().await;
    let app = start(&mailbox).await;
    // Somebody has registered with the address of another.
    let squatter = app.user_at(ALICE).await;
    let token = squatter.token(json!({"name": "t", "scopes": ["read", "write"]})).await;
    squatter.patch("/me", json!({"email": "mallory@example.com"})).await.ok();
    app.deliver().await;
    let way_back = mailbox.next_to("mallory@example.com", 1).await.token();
    let (alice, code) = (app.anonymous(), ask(&app, &mailbox).await);
    let given = json!({"email": ALICE, "code": code});
    let user = alice.post("/login/code/verify", given).await.ok()["user"].clone();
    assert_eq!((&user["email_verified"], &user["pending_email"]), (&json!(true), &json!(null)));
    squatter.get("/me").await.problem(401, "session_expired");
    app.with_token(&token).get("/me").await.problem(401, "invalid_token");
    let login = json!({"identifier": ALICE, "password": PASSWORD});
    app.anonymous().post("/login", login).await.problem(401, "invalid_credentials");
    app.anonymous().post("/email/verify", json!({"token": way_back})).await.faults();
    alice.get("/me").await.ok();
    // She chooses a password of her own as one who has forgotten hers.
    alice.post("/password/forgot", json!({"email": ALICE})).await.status(202);
    app.deliver().await;
    let mails = mailbox.to(ALICE);
    let reset = mails.iter().find(|mail| mail.subject == "Choose a new password").unwrap();
    let given = json!({"token": reset.token(), "password": "a password of her own"});
    alice.post("/password/reset", given).await.status(204);
}

#[tokio::test]
async fn of_many_who_bring_a_code_at_once_one_gets_in() {
    let mailbox = Mailbox::start().await;
    let app = start(&mailbox).await;
    app.verified_user_at(ALICE).await;
    let (replica, code) = (app.replica().await, ask(&app, &mailbox).await);
    let sessions = app.count("sessions").await;
    let mut tries = tokio::task::JoinSet::new();
    for n in 0..16 {
        let client = app.anonymous();
        let client = if n % 2 == 0 { client } else { client.to(&replica) };
        let given = json!({"email": ALICE, "code": code});
        tries.spawn(async move { client.post("/login/code/verify", given).await.code });
    }
    let codes = tries.join_all().await;
    assert_eq!(codes.iter().filter(|code| **code == 200).count(), 1, "{codes:?}");
    assert!(codes.iter().all(|code| matches!(code, 200 | 401 | 429)), "{codes:?}");
    assert_eq!(app.count("sessions").await, sessions + 1);
}

#[tokio::test]
async fn guesses_are_limited_over_replicas_and_a_newer_code_gives_no_more() {
    let mailbox = Mailbox::start().await;
    let app = start(&mailbox).await;
    app.verified_user_at(ALICE).await;
    let replica = app.replica().await;
    let known = app.anonymous();
    known.post("/login", json!({"identifier": ALICE, "password": PASSWORD})).await.status(200);
    ask(&app, &mailbox).await;
    for email in [ALICE, "nobody@example.com"] {
        let mut guesses = tokio::task::JoinSet::new();
        for n in 0..40 {
            let client = app.anonymous();
            let client = if n % 2 == 0 { client } else { client.to(&replica) };
            let given = json!({"email": email, "code": format!("0000-{n:04}")});
            guesses.spawn(async move { client.post("/login/code/verify", given).await.code });
        }
        let codes = guesses.join_all().await;
        assert_eq!(codes.iter().filter(|code| **code == 401).count(), 10, "{email}: {codes:?}");
        assert_eq!(codes.iter().filter(|code| **code == 429).count(), 30, "{email}: {codes:?}");
    }
    let given = json!({"email": ALICE, "code": ask(&app, &mailbox).await});
    app.anonymous().post("/login/code/verify", given.clone()).await.problem(429, "rate_limited");
    // The password is another matter, and so is a device that the account knows.
    let login = json!({"identifier": ALICE, "password": PASSWORD});
    app.anonymous().post("/login", login).await.status(200);
    known.post("/login/code/verify", given).await.status(200);
}

#[tokio::test]
async fn an_unknown_address_a_disabled_account_and_an_old_code_open_nothing() {
    let mailbox = Mailbox::start().await;
    let app = start(&mailbox).await;
    let alice = app.verified_user_at(ALICE).await;
    let verify = async |code: &str| {
        app.anonymous().post("/login/code/verify", json!({"email": ALICE, "code": code})).await
    };
    let (older, newer) = (ask(&app, &mailbox).await, ask(&app, &mailbox).await);
    verify(&older).await.problem(401, "invalid_credentials");
    app.sql("update one_time_tokens set expires_at = expires_at - interval '10 minutes'").await;
    verify(&newer).await.problem(401, "invalid_credentials");

    let code = ask(&app, &mailbox).await;
    let change = json!({"current_password": PASSWORD, "new_password": "quite another phrase"});
    alice.put("/me/password", change).await.status(200);
    verify(&code).await.problem(401, "invalid_credentials");

    let code = ask(&app, &mailbox).await;
    app.sql("update users set is_active = false").await;
    verify(&code).await.problem(403, "account_disabled");
    let failures = "select count(*) from audit_events where kind = 'login_failed' and details->>'code' = 'account_disabled'";
    let failures: i64 = sqlx::query_scalar(failures).fetch_one(&app.pool).await.unwrap();
    assert_eq!(failures, 1);
    app.anonymous().post("/login/code", json!({"email": ALICE})).await.status(202);
    app.anonymous().post("/login/code", json!({"email": "nobody@example.com"})).await.status(202);
    let before = mailbox.received().len();
    app.deliver().await;
    assert_eq!(mailbox.received().len(), before);
}
