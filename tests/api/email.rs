//! `POST /email/verify`, `POST /me/email/verify`, and what waits for them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portcullis::config::{Config, Switch};
use serde_json::{Value, json};

use crate::app::{Answer, PASSWORD};
use crate::smtp::Mailbox;
use crate::{Client, TestApp};

const ALICE: &str = "alice@example.com";
const OTHER: &str = "alice@example.org";

async fn verify(app: &TestApp, token: &str) -> Answer {
    app.anonymous().post("/email/verify", json!({"token": token})).await
}

async fn address(client: &Client) -> (Value, Value, Value) {
    let me = client.get("/me").await.ok();
    (me["email"].clone(), me["email_verified"].clone(), me["pending_email"].clone())
}

#[tokio::test]
async fn who_registers_is_mailed_and_verifies_the_address_by_link_or_code() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |_| {}).await;
    let bob = app.user_at("bob@example.com").await;
    let alice = app.user_at(ALICE).await;
    app.deliver().await;
    let mail = mailbox.next_to(ALICE, 1).await;
    assert!(mail.link().starts_with("http://localhost:8080/email/verify?token="), "{mail:?}");
    assert_eq!(address(&alice).await, (json!(ALICE), json!(false), Value::Null));
    let path = mail.link().replace("http://localhost:8080", "");
    app.anonymous().get(&path).await.status(200);
    assert_eq!(address(&alice).await.1, false, "opening the link changes nothing");
    verify(&app, &mail.token()).await.status(204);
    assert_eq!(address(&alice).await, (json!(ALICE), json!(true), Value::Null));
    assert_eq!(verify(&app, &mail.token()).await.faults()[0].0, "token");

    let code = mailbox.next_to("bob@example.com", 1).await.code();
    let given = json!({"email": "BOB@example.com", "code": code.to_lowercase()});
    bob.post("/email/verify", given.clone()).await.status(204);
    assert_eq!(address(&bob).await.1, true);
    assert_eq!(bob.post("/email/verify", given).await.faults()[0].0, "code");
    let kinds = alice.get("/me/activity").await.ok();
    let kinds = kinds["items"].as_array().unwrap().iter().map(|event| event["kind"].clone());
    assert!(kinds.collect::<Vec<_>>().contains(&json!("email_verified")));
}

#[tokio::test]
async fn the_mail_is_sent_again_and_ends_the_first() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |_| {}).await;
    let alice = app.user_at(ALICE).await;
    app.deliver().await;
    alice.call("/me/email/verify").await.status(202);
    app.deliver().await;
    let (first, second) = (mailbox.next_to(ALICE, 1).await, mailbox.next_to(ALICE, 2).await);
    verify(&app, &first.token()).await.faults();
    alice.post("/email/verify", json!({"token": second.token()})).await.status(204);
    alice.call("/me/email/verify").await.problem(409, "nothing_to_verify");
    app.user().await.call("/me/email/verify").await.problem(409, "nothing_to_verify");
    app.anonymous().call("/me/email/verify").await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn asking_again_is_limited() {
    let app = TestApp::start().await;
    let alice = app.user_at(ALICE).await;
    // Registering was the first.
    for _ in 0..4 {
        alice.call("/me/email/verify").await.status(202);
    }
    alice.call("/me/email/verify").await.problem(429, "rate_limited");
    app.user_at("bob@example.com").await.call("/me/email/verify").await.status(202);
}

#[tokio::test]
async fn another_address_takes_the_place_of_the_old_one_when_it_is_verified() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |_| {}).await;
    let alice = app.verified_user_at(ALICE).await;
    alice.patch("/me", json!({"email": OTHER})).await.ok();
    assert_eq!(address(&alice).await, (json!(ALICE), json!(true), json!(OTHER)));
    let by = |email: &str| json!({"identifier": email, "password": PASSWORD});
    app.anonymous().post("/login", by(OTHER)).await.problem(401, "invalid_credentials");
    app.anonymous().post("/login", by(ALICE)).await.status(200);
    app.deliver().await;
    assert!(mailbox.to(ALICE).iter().all(|mail| mail.subject != "Your email address was changed"));
    let token = mailbox.next_to(OTHER, 1).await.token();
    verify(&app, &token).await.status(204);
    assert_eq!(address(&alice).await, (json!(OTHER), json!(true), Value::Null));
    app.anonymous().post("/login", by(OTHER)).await.status(200);
    app.anonymous().post("/login", by(ALICE)).await.problem(401, "invalid_credentials");
    app.deliver().await;
    let told = mailbox.to(ALICE);
    assert!(told.iter().any(|mail| mail.subject == "Your email address was changed"), "{told:?}");
    assert!(told.iter().all(|mail| !mail.text.contains(OTHER)), "whose it is now is not told");
}

#[tokio::test]
async fn only_the_address_that_is_wanted_last_is_taken() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |_| {}).await;
    let alice = app.verified_user_at(ALICE).await;
    alice.patch("/me", json!({"email": OTHER})).await.ok();
    app.deliver().await;
    alice.patch("/me", json!({"email": "third@example.com"})).await.ok();
    app.deliver().await;
    let (other, third) =
        (mailbox.next_to(OTHER, 1).await, mailbox.next_to("third@example.com", 1).await);
    verify(&app, &other.token()).await.faults();
    // The one that the account has ends the wait.
    alice.patch("/me", json!({"email": ALICE})).await.ok();
    verify(&app, &third.token()).await.faults();
    assert_eq!(address(&alice).await, (json!(ALICE), json!(true), Value::Null));
    // So does a new password: whoever wanted the address may be the one that it is to keep out.
    alice.patch("/me", json!({"email": "fourth@example.com"})).await.ok();
    app.deliver().await;
    let fourth = mailbox.next_to("fourth@example.com", 1).await;
    let change = json!({"current_password": PASSWORD, "new_password": "quite another phrase"});
    alice.put("/me/password", change).await.status(200);
    verify(&app, &fourth.token()).await.faults();
    assert_eq!(address(&alice).await, (json!(ALICE), json!(true), Value::Null));
}

#[tokio::test]
async fn whoever_is_put_out_does_not_come_back_by_an_address_that_waits() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |config| config.throttle = Switch::Off).await;
    let alice = app.verified_user_at(ALICE).await;
    let (admin, path) = (app.admin().await, format!("/users/{}", alice.id()));
    let login = json!({"identifier": ALICE, "password": PASSWORD});
    for way in 0..5 {
        let thief = app.anonymous();
        let session = thief.post("/login", login.clone()).await.ok()["session"]["id"].clone();
        let evil = format!("evil-{way}@example.com");
        thief.patch("/me", json!({"email": evil})).await.ok();
        app.deliver().await;
        let token = mailbox.next_to(&evil, 1).await.token();
        match way {
            0 => alice.delete("/me/sessions").await.status(204),
            1 => {
                let one = format!("/me/sessions/{}", session.as_str().unwrap());
                alice.delete(&one).await.status(204)
            }
            2 => admin.delete(&format!("{path}/sessions")).await.status(204),
            3 => admin.patch(&path, json!({"is_active": false})).await.status(200),
            _ => admin.patch(&path, json!({"password": "quite another phrase"})).await.status(200),
        };
        assert_eq!(verify(&app, &token).await.faults()[0].0, "token", "{way}");
        admin.patch(&path, json!({"is_active": true})).await.ok();
        assert_eq!(verify(&app, &token).await.faults()[0].0, "token", "{way}");
        let user = admin.get(&path).await.ok();
        assert_eq!(
            (&user["email"], &user["pending_email"]),
            (&json!(ALICE), &Value::Null),
            "{way}"
        );
        alice.post("/login", login.clone()).await;
    }
    // The owner was told each time, when it was asked for.
    let told = mailbox.to(ALICE);
    let told = told.iter().filter(|mail| mail.subject == "Another email address was asked for");
    assert_eq!(told.count(), 5);
}

#[tokio::test]
async fn mails_that_are_not_sent_do_not_count() {
    let app = TestApp::start().await;
    let taken = app.user().await;
    let bob = app.user_at("bob@example.com").await;
    for _ in 0..6 {
        for (name, password, code) in [(taken.username(), PASSWORD, 409), ("alice", ALICE, 422)] {
            let new = json!({"username": name, "email": ALICE, "password": password});
            app.anonymous().post("/users", new).await.status(code);
        }
        taken.patch("/me", json!({"email": "bob@example.com"})).await.problem(409, "email_taken");
    }
    app.user_at(ALICE).await;
    bob.call("/me/email/verify").await.status(202);
}

#[tokio::test]
async fn asking_while_the_account_is_deleted_is_no_fault() {
    let app = TestApp::with(|config| config.throttle = Switch::Off).await;
    for n in 0..10 {
        let alice = app.user_at(&format!("alice-{n}@example.com")).await;
        let (ask, delete) = (alice.call("/me/email/verify"), alice.delete("/me"));
        let (ask, delete) = tokio::join!(ask, delete);
        assert!(matches!(ask.code, 202 | 401), "{}", ask.text);
        delete.status(204);
    }
}

#[tokio::test]
async fn of_two_who_want_one_address_whoever_verifies_it_first_has_it() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |_| {}).await;
    let (first, second) = (app.user().await, app.user().await);
    first.patch("/me", json!({"email": ALICE})).await.ok();
    second.patch("/me", json!({"email": ALICE})).await.ok();
    app.deliver().await;
    let mails = mailbox.wait(2).await;
    let tokens = [mails[0].token(), mails[1].token()];
    let tries = tokens.map(|token| {
        let client = app.anonymous();
        tokio::spawn(async move { client.post("/email/verify", json!({"token": token})).await })
    });
    let mut codes = Vec::new();
    for each in tries {
        codes.push(each.await.unwrap().code);
    }
    codes.sort_unstable();
    assert_eq!(codes, [204, 409]);
    let emails = [address(&first).await.0, address(&second).await.0];
    assert_eq!(emails.iter().filter(|email| **email == ALICE).count(), 1);
    // It is told before the mail, too, where that is no secret.
    let third = app.user().await;
    third.patch("/me", json!({"email": ALICE})).await.problem(409, "email_taken");
}

#[tokio::test]
async fn an_admins_word_is_taken_and_both_addresses_are_told() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |_| {}).await;
    let alice = app.verified_user_at(ALICE).await;
    let admin = app.admin().await;
    let path = format!("/users/{}", alice.id());
    let user = admin.patch(&path, json!({"email": OTHER})).await.ok();
    assert_eq!((&user["email"], &user["email_verified"]), (&json!(OTHER), &json!(false)));
    app.deliver().await;
    assert_eq!(mailbox.next_to(ALICE, 1).await.subject, "Your email address was changed");
    verify(&app, &mailbox.next_to(OTHER, 1).await.token()).await.status(204);
    assert_eq!(address(&alice).await, (json!(OTHER), json!(true), Value::Null));
    let new = json!({"email": "bob@example.com", "password": PASSWORD});
    admin.post("/users", new).await.status(201);
    app.deliver().await;
    verify(&app, &mailbox.next_to("bob@example.com", 1).await.token()).await.status(204);
}

#[tokio::test]
async fn where_addresses_must_be_verified_nobody_logs_in_before() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |config| {
        config.require_verified_email = Switch::On;
        config.basic_auth = Switch::On;
    });
    let app = app.await;
    let client = app.anonymous();
    let username_only = json!({"username": "alice", "password": PASSWORD});
    let faults = client.post("/users", username_only).await.faults();
    assert_eq!(faults, [("email".to_owned(), "required".to_owned())]);
    let new = json!({"username": "alice", "email": ALICE, "password": PASSWORD});
    let registered = client.post("/users", new).await.status(201);
    assert!(registered.set_cookie("portcullis").is_none());
    assert!(
        registered.set_cookie("portcullis-device").is_some(),
        "the account recognises the browser"
    );
    assert_eq!((&registered.body["token"], registered.body.get("session")), (&Value::Null, None));
    client.get("/me").await.problem(401, "unauthenticated");

    let login = |password: &str| json!({"identifier": "alice", "password": password});
    // Only the right password is told more than a wrong one.
    client.post("/login", login("a wrong password")).await.problem(401, "invalid_credentials");
    client.post("/login", login(PASSWORD)).await.problem(403, "email_unverified");
    let basic = STANDARD.encode(format!("alice:{PASSWORD}"));
    let basic = client.with("authorization", &format!("Basic {basic}"));
    basic.get("/me").await.problem(403, "email_unverified");
    // Registering and each right password mail, but no more than the limit has it.
    for _ in 0..10 {
        client.post("/login", login(PASSWORD)).await.problem(403, "email_unverified");
    }
    assert_eq!(app.count("outbox").await, 5);
    app.deliver().await;
    // Of those that are sent at once only the latest counts, and earlier ones may not go at all.
    let mut codes = Vec::new();
    for mail in mailbox.to(ALICE) {
        codes.push(verify(&app, &mail.token()).await.code);
    }
    assert_eq!(codes.iter().filter(|code| **code == 204).count(), 1, "{codes:?}");
    client.post("/login", login(PASSWORD)).await.status(200);
    assert_eq!(client.patch("/me", json!({"email": null})).await.faults()[0].0, "email");

    // An operator's account without an address is let in, and so is a code's owner.
    let admin =
        app.replica_with(Config { require_verified_email: Switch::Off, ..app.config.clone() });
    let user = admin.await.user().await;
    app.anonymous()
        .post("/login", json!({"identifier": user.username(), "password": PASSWORD}))
        .await
        .status(200);
}
