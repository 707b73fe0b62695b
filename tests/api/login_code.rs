//! `POST /login/code` and `POST /login/code/verify`.

use portcullis::config::Switch;
use serde_json::json;

use crate::app::PASSWORD;
use crate::smtp::{Failure, Mailbox};
use crate::{Client, TestApp};

const ALICE: &str = "alice@example.com";

async fn start(mailbox: &Mailbox) -> TestApp {
    TestApp::with_mail(mailbox, |config| config.login_code = Switch::On).await
}

/// Requests a code with a client, and returns the code that the mail holds.
async fn ask(app: &TestApp, mailbox: &Mailbox, client: &Client) -> String {
    client.post("/login/code", json!({"email": ALICE})).await.status(202);
    app.deliver().await;
    latest(mailbox)
}

/// The code in the latest mail.
fn latest(mailbox: &Mailbox) -> String {
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
    let browser = app.anonymous();
    let asked = browser.post("/login/code", json!({"email": ALICE})).await.status(202);
    let cookie = format!("portcullis-login={}", asked.set_cookie("portcullis-login").unwrap());
    app.deliver().await;
    let code = latest(&mailbox);
    assert!(!mailbox.to(ALICE)[0].text.contains("http"), "there is no link to follow");
    let given =
        json!({"email": " Alice@example.com", "code": code.to_lowercase(), "remember": true});
    let login = browser.post("/login/code/verify", given.clone()).await.status(200);
    assert_eq!(login.body["session"]["remember"], true);
    assert!(login.set_cookie("portcullis-device").is_some());
    browser.get("/me").await.ok();
    // It is fresh.
    browser.post("/me/tokens", json!({"name": "t"})).await.status(201);
    let again = app.anonymous().with("cookie", &cookie);
    again.post("/login/code/verify", given).await.problem(401, "invalid_credentials");

    let phone = app.anonymous();
    let code = ask(&app, &mailbox, &phone).await;
    let given = json!({"email": ALICE, "code": code, "transport": "token", "remember_for": "1d"});
    let login = phone.post("/login/code/verify", given).await.status(200);
    assert!(login.header("set-cookie").is_none());
    app.with_token(&login.token()).get("/me").await.ok();
    let events = browser.get("/me/activity").await.ok();
    let kinds = events["items"].as_array().unwrap().iter().map(|event| event["kind"].clone());
    let kinds: Vec<_> = kinds.collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "logged_in").count(), 3, "{kinds:?}");
    let by = |event: &serde_json::Value| event["details"]["by"].clone();
    let by: Vec<_> = events["items"].as_array().unwrap().iter().map(by).collect();
    assert_eq!(by.iter().filter(|by| **by == "login_code").count(), 2, "{by:?}");
    assert_eq!(by.iter().filter(|by| **by == "registration").count(), 1, "{by:?}");
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
    let alice = app.anonymous();
    let code = ask(&app, &mailbox, &alice).await;
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
    let replica = app.replica().await;
    let asked = app.anonymous().post("/login/code", json!({"email": ALICE})).await.status(202);
    app.deliver().await;
    let (code, request) = (latest(&mailbox), asked.body["request"].clone());
    let sessions = app.count("sessions").await;
    let mut tries = tokio::task::JoinSet::new();
    for n in 0..16 {
        let client = app.anonymous();
        let client = if n % 2 == 0 { client } else { client.to(&replica) };
        let given = json!({"email": ALICE, "code": code, "request": request});
        tries.spawn(async move { client.post("/login/code/verify", given).await.code });
    }
    let codes = tries.join_all().await;
    assert_eq!(codes.iter().filter(|code| **code == 200).count(), 1, "{codes:?}");
    assert!(codes.iter().all(|code| matches!(code, 200 | 401 | 429)), "{codes:?}");
    assert_eq!(app.count("sessions").await, sessions + 1);
}

#[tokio::test]
async fn guesses_are_limited_over_replicas() {
    let mailbox = Mailbox::start().await;
    let app = start(&mailbox).await;
    app.verified_user_at(ALICE).await;
    let replica = app.replica().await;
    let known = app.anonymous();
    known.post("/login", json!({"identifier": ALICE, "password": PASSWORD})).await.status(200);
    ask(&app, &mailbox, &known).await;
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
    let given = json!({"email": ALICE, "code": ask(&app, &mailbox, &known).await});
    // The password is another matter, and so is a device that the account knows.
    let login = json!({"identifier": ALICE, "password": PASSWORD});
    app.anonymous().post("/login", login).await.status(200);
    known.post("/login/code/verify", given).await.status(200);
}

#[tokio::test]
async fn each_request_for_a_code_allows_ten_guesses_and_takes_none_from_another() {
    let mailbox = Mailbox::start().await;
    let app = start(&mailbox).await;
    app.verified_user_at(ALICE).await;
    let verify = async |client: &Client, code: &str| {
        client.post("/login/code/verify", json!({"email": ALICE, "code": code})).await
    };
    let owner = app.anonymous();
    let code = ask(&app, &mailbox, &owner).await;
    let stranger = app.anonymous();
    let theirs = ask(&app, &mailbox, &stranger).await;
    for _ in 0..10 {
        verify(&stranger, "0000-0000").await.problem(401, "invalid_credentials");
        verify(&app.anonymous(), "0000-0000").await.problem(401, "invalid_credentials");
    }
    verify(&stranger, &theirs).await.problem(429, "rate_limited");
    verify(&app.anonymous(), &code).await.problem(429, "rate_limited");
    verify(&owner, &code).await.status(200);
}

#[tokio::test]
async fn strangers_who_request_codes_neither_void_the_owners_nor_keep_a_known_device_from_more() {
    let mailbox = Mailbox::start().await;
    let app = start(&mailbox).await;
    let owner = app.verified_user_at(ALICE).await;
    let code = ask(&app, &mailbox, &owner).await;
    for _ in 0..8 {
        app.anonymous().post("/login/code", json!({"email": ALICE})).await;
        app.deliver().await;
    }
    app.anonymous().post("/login/code", json!({"email": ALICE})).await.problem(429, "rate_limited");
    let given = json!({"email": ALICE, "code": code});
    owner.post("/login/code/verify", given).await.status(200);
    for path in ["/login/code", "/password/forgot"] {
        owner.post(path, json!({"email": ALICE})).await.status(202);
    }
    // An app sends its secret in the body.
    let login = json!({"email": ALICE, "password": PASSWORD, "transport": "token"});
    let device =
        app.anonymous().post("/login", login).await.status(200).body["device_token"].clone();
    let again = json!({"email": ALICE, "device_token": device});
    app.anonymous().post("/login/code", again.clone()).await.status(202);
    app.anonymous().post("/password/forgot", again).await.status(202);
    // Of the device's own limit one was taken before, and one now.
    for _ in 0..3 {
        owner.post("/login/code", json!({"email": ALICE})).await.status(202);
    }
    owner.post("/login/code", json!({"email": ALICE})).await.problem(429, "rate_limited");
}

#[tokio::test]
async fn an_unknown_address_a_disabled_account_and_an_old_code_open_nothing() {
    let mailbox = Mailbox::start().await;
    let app = start(&mailbox).await;
    let alice = app.verified_user_at(ALICE).await;
    let client = app.anonymous();
    let verify = async |code: &str| {
        client.post("/login/code/verify", json!({"email": ALICE, "code": code})).await
    };
    let older = ask(&app, &mailbox, &client).await;
    app.sql("update one_time_tokens set expires_at = expires_at - interval '10 minutes'").await;
    verify(&older).await.problem(401, "invalid_credentials");

    let code = ask(&app, &mailbox, &client).await;
    let change = json!({"current_password": PASSWORD, "new_password": "quite another phrase"});
    alice.put("/me/password", change).await.status(200);
    verify(&code).await.problem(401, "invalid_credentials");

    let code = ask(&app, &mailbox, &client).await;
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

#[tokio::test]
async fn a_code_works_only_for_the_client_that_requested_it() {
    let mailbox = Mailbox::start().await;
    let app = start(&mailbox).await;
    app.verified_user_at(ALICE).await;
    let browser = app.anonymous();
    let code = ask(&app, &mailbox, &browser).await;
    let mut given = json!({"email": ALICE, "code": code});
    // Somebody who saw the code, and somebody who made a request as well.
    let stranger = app.anonymous();
    let elsewhere = stranger.post("/login/code", json!({"email": "bob@example.com"})).await;
    for request in [None, Some(elsewhere.body["request"].clone()), Some(json!("nonsense"))] {
        let mut theirs = given.clone();
        theirs["request"] = request.unwrap_or_default();
        let refused = stranger.post("/login/code/verify", theirs).await;
        let wrong = json!({"email": ALICE, "code": "0000-0000"});
        let wrong =
            stranger.post("/login/code/verify", wrong).await.problem(401, "invalid_credentials");
        let refused = refused.problem(401, "invalid_credentials");
        assert_eq!(
            refused.body["detail"], wrong.body["detail"],
            "it does not tell that the code is right"
        );
    }
    let failures = "audit_events where kind = 'login_failed'";
    assert_eq!(app.count(failures).await, 6);
    browser.to(&app.replica().await).post("/login/code/verify", given.clone()).await.status(200);

    // An app that keeps no cookies.
    let asked = app.anonymous().post("/login/code", json!({"email": ALICE})).await.status(202);
    app.deliver().await;
    given["code"] = json!(latest(&mailbox));
    app.anonymous()
        .post("/login/code/verify", given.clone())
        .await
        .problem(401, "invalid_credentials");
    given["request"] = asked.body["request"].clone();
    app.anonymous().post("/login/code/verify", given).await.status(200);
}

#[tokio::test]
async fn guesses_without_the_right_request_count_like_wrong_codes() {
    let mailbox = Mailbox::start().await;
    let app = start(&mailbox).await;
    app.verified_user_at(ALICE).await;
    let code = ask(&app, &mailbox, &app.anonymous()).await;
    let given = json!({"email": ALICE, "code": code});
    for _ in 0..10 {
        let stranger = app.anonymous();
        stranger
            .post("/login/code/verify", given.clone())
            .await
            .problem(401, "invalid_credentials");
    }
    app.anonymous().post("/login/code/verify", given).await.problem(429, "rate_limited");
}

#[tokio::test]
async fn a_request_for_a_code_is_answered_alike_whether_or_not_an_account_has_the_address() {
    let app = TestApp::with(|config| config.login_code = Switch::On).await;
    app.verified_user_at(ALICE).await;
    let answer = async |email: &str| {
        let asked = app.anonymous().post("/login/code", json!({"email": email})).await.status(202);
        let fields: Vec<_> = asked.body.as_object().unwrap().keys().cloned().collect();
        let request = asked.body["request"].as_str().unwrap().to_owned();
        assert_eq!(asked.set_cookie("portcullis-login").as_ref(), Some(&request));
        let names: Vec<_> = asked.headers.keys().map(ToString::to_string).collect();
        let cookie = asked.header("set-cookie").unwrap().replace(&request, "…");
        (fields, names, cookie, asked.text.replace(&request, "…"))
    };
    let known = answer(ALICE).await;
    assert_eq!(known, answer("nobody@example.com").await);
    assert_eq!(known.2, "portcullis-login=…; HttpOnly; SameSite=Lax; Path=/; Max-Age=600");
    let hashed: i64 =
        sqlx::query_scalar("select count(*) from outbox where length(request_hash) = 32")
            .fetch_one(&app.pool)
            .await
            .unwrap();
    assert_eq!(hashed, 2, "the secret is stored hashed");
}

#[tokio::test]
async fn two_tabs_of_a_browser_may_request_codes_one_after_the_other() {
    let mailbox = Mailbox::start().await;
    let app = start(&mailbox).await;
    app.verified_user_at(ALICE).await;
    app.verified_user_at("bob@example.com").await;
    let browser = app.anonymous();
    let first = browser.post("/login/code", json!({"email": ALICE})).await.status(202);
    app.deliver().await;
    let old = latest(&mailbox);
    // Both codes are valid, each for its own request. A login uses up the others.
    let code = ask(&app, &mailbox, &browser).await;
    browser.post("/login/code", json!({"email": "bob@example.com"})).await.status(202);
    app.deliver().await;
    let mut given = json!({"email": ALICE, "code": old, "request": first.body["request"]});
    let app_only = app.anonymous();
    app_only.post("/login/code/verify", given.clone()).await.status(200);
    given["code"] = json!(code);
    browser.post("/login/code/verify", given).await.problem(401, "invalid_credentials");
    let bobs = mailbox.to("bob@example.com").pop().unwrap().code();
    let given = json!({"email": "bob@example.com", "code": bobs});
    browser.post("/login/code/verify", given).await.status(200);
}

#[tokio::test]
async fn a_code_of_a_mail_that_was_sent_again_is_bound_to_the_same_client() {
    let mailbox = Mailbox::start().await;
    let app = start(&mailbox).await;
    app.verified_user_at(ALICE).await;
    let browser = app.anonymous();
    browser.post("/login/code", json!({"email": ALICE})).await.status(202);
    mailbox.fail(Failure::CutAfterData, 1);
    app.deliver().await;
    app.sql("update outbox set due_at = now()").await;
    app.deliver().await;
    for n in 1..=2 {
        let code = mailbox.next_to(ALICE, n).await.code();
        let given = json!({"email": ALICE, "code": code});
        app.anonymous()
            .post("/login/code/verify", given.clone())
            .await
            .problem(401, "invalid_credentials");
        // Both codes are valid until one is used.
        let status = if n == 1 { 200 } else { 401 };
        browser.post("/login/code/verify", given).await.status(status);
    }
}
