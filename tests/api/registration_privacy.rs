//! Registration that does not tell which addresses are taken.

use portcullis::config::{Config, Switch};
use serde_json::json;

use crate::TestApp;
use crate::app::PASSWORD;
use crate::smtp::{Failure, Mailbox};

const ALICE: &str = "alice@example.com";

async fn start(mailbox: &Mailbox) -> TestApp {
    TestApp::with_mail(mailbox, |config| config.registration_privacy = Switch::On).await
}

/// Makes an account with the address.
async fn taken(app: &TestApp) {
    let open = Config { registration_privacy: Switch::Off, ..app.config.clone() };
    app.replica_with(open).await.verified_user_at(ALICE).await;
}

#[tokio::test]
async fn a_taken_address_is_answered_like_a_free_one_and_its_owner_is_told() {
    let mailbox = Mailbox::start().await;
    let app = start(&mailbox).await;
    let other = "a password of the one who tries";
    let register = async |email: &str, password: &str| {
        let new = json!({"email": email, "password": password});
        let answer = app.anonymous().post("/users", new.clone()).await.status(202);
        let names: Vec<_> = answer.headers.keys().map(ToString::to_string).collect();
        let device = answer.set_cookie("portcullis-device").expect("a device secret");
        let cookie = answer.header("set-cookie").unwrap().replace(&device, "…");
        (answer.text, names, cookie)
    };
    let register_in_app = async |email: &str| {
        let new = json!({"email": email, "password": PASSWORD, "transport": "token"});
        let answer = app.anonymous().post("/users", new).await.status(202);
        let names: Vec<_> = answer.headers.keys().map(ToString::to_string).collect();
        let device = answer.body["device_token"].as_str().expect("a device secret");
        (answer.text.replace(device, "…"), names)
    };
    let login = async |email: &str, password: &str| {
        app.anonymous().post("/login", json!({"identifier": email, "password": password})).await
    };
    let free = register(ALICE, PASSWORD).await;
    assert_eq!(free.0, r#"{"device_token":null}"#);
    let free_in_app = register_in_app("bob@example.com").await;
    // Nothing shows by logging in, either.
    login(ALICE, PASSWORD).await.problem(401, "invalid_credentials");
    app.deliver().await;
    let mail = mailbox.next_to(ALICE, 1).await;
    assert_eq!(app.count("users").await, 0);
    let path = mail.link().replace("http://localhost:8080", "");
    app.anonymous().get(&path).await.status(200);
    assert_eq!(app.count("users").await, 0);
    let given = json!({"token": mail.token()});
    app.anonymous().post("/email/verify", given.clone()).await.status(204);
    app.anonymous().post("/email/verify", given).await.faults();
    let user = login(ALICE, PASSWORD).await.ok()["user"].clone();
    assert_eq!(user["email_verified"], true);

    let taken = register("Alice@Example.com", other).await;
    assert_eq!(taken, free);
    assert_eq!(register_in_app(ALICE).await, free_in_app);
    login(ALICE, other).await.problem(401, "invalid_credentials");
    app.deliver().await;
    let mails = mailbox.to(ALICE);
    let told = mails.iter().find(|mail| mail.subject == "You have an account already");
    let told = told.expect("the owner is told");
    assert!(!told.text.contains("http"), "{}", told.text);
    login(ALICE, PASSWORD).await.ok();
    assert_eq!(app.count("users").await, 1);
}

#[tokio::test]
async fn the_username_beside_it_does_not_tell_either() {
    let mailbox = Mailbox::start().await;
    let app = start(&mailbox).await;
    taken(&app).await;
    for (email, username) in [(ALICE, "first"), ("bob@example.com", "second")] {
        let new = json!({"email": email, "username": username, "password": PASSWORD});
        app.anonymous().post("/users", new).await.status(202);
        // Whether the account was made would show by its username.
        let probe = json!({"username": username, "password": PASSWORD});
        app.anonymous().post("/users", probe).await.status(201);
    }
    // The account that waits for its address finds its username taken, and can be asked for anew.
    app.deliver().await;
    let token = mailbox.next_to("bob@example.com", 1).await.token();
    let verify = app.anonymous().post("/email/verify", json!({"token": token})).await;
    verify.problem(409, "username_taken");
    // A username is for all to see, whatever the address.
    for email in [ALICE, "carol@example.com"] {
        let new = json!({"email": email, "username": "first", "password": PASSWORD});
        app.anonymous().post("/users", new).await.problem(409, "username_taken");
    }
}

#[tokio::test]
async fn moving_to_a_taken_address_does_not_tell_either() {
    let mailbox = Mailbox::start().await;
    let app = start(&mailbox).await;
    taken(&app).await;
    let bob = app.user().await;
    for email in [ALICE, "free@example.com"] {
        assert_eq!(bob.patch("/me", json!({"email": email})).await.ok()["pending_email"], email);
        app.deliver().await;
    }
    assert_eq!(mailbox.next_to(ALICE, 1).await.subject, "You have an account already");
    let token = mailbox.next_to("free@example.com", 1).await.token();
    app.anonymous().post("/email/verify", json!({"token": token})).await.status(204);
    assert_eq!(bob.get("/me").await.ok()["email"], "free@example.com");
}

#[tokio::test]
async fn everybody_who_registers_an_address_has_a_link_of_their_own() {
    let mailbox = Mailbox::start().await;
    let app = start(&mailbox).await;
    let register = async |password: &str| {
        let new = json!({"email": ALICE, "password": password});
        app.anonymous().post("/users", new).await.status(202);
        app.deliver().await;
    };
    // Somebody else asks again after she has; her own link stands.
    register(PASSWORD).await;
    register("the password of somebody else").await;
    let (hers, theirs) = (mailbox.next_to(ALICE, 1).await, mailbox.next_to(ALICE, 2).await);
    let mut tries = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (client, given) = (app.anonymous(), json!({"token": hers.token()}));
        tries.spawn(async move { client.post("/email/verify", given).await.code });
    }
    let codes = tries.join_all().await;
    assert_eq!(codes.iter().filter(|code| **code == 204).count(), 1, "{codes:?}");
    let late = app.anonymous().post("/email/verify", json!({"token": theirs.token()})).await;
    late.problem(409, "email_taken");
    let login = json!({"identifier": ALICE, "password": PASSWORD});
    app.anonymous().post("/login", login).await.ok();
    assert_eq!(app.count("users").await, 1);
}

#[tokio::test]
async fn links_of_mails_that_came_twice_are_used_at_once_and_one_makes_the_account() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |config| {
        config.registration_privacy = Switch::On;
        config.throttle = Switch::Off;
    });
    let (app, addresses) = (app.await, 20);
    for n in 0..addresses {
        let new = json!({"email": format!("user-{n}@example.com"), "password": PASSWORD});
        app.anonymous().post("/users", new).await.status(202);
    }
    for _ in 0..2 {
        mailbox.fail(Failure::CutAfterData, addresses);
        app.deliver().await;
        app.sql("update outbox set due_at = now()").await;
    }
    app.deliver().await;
    let mails = mailbox.wait(3 * addresses).await;
    let mut uses = tokio::task::JoinSet::new();
    for mail in mails {
        let (client, given) = (app.anonymous(), json!({"token": mail.token()}));
        uses.spawn(async move { client.post("/email/verify", given).await.code });
    }
    let codes = uses.join_all().await;
    assert_eq!(codes.iter().filter(|code| **code == 204).count(), addresses, "{codes:?}");
    assert!(codes.iter().all(|code| matches!(code, 204 | 422)), "{codes:?}");
    assert_eq!(app.count("users").await, i64::try_from(addresses).unwrap());
    assert_eq!((app.count("registrations").await, app.count("one_time_tokens").await), (0, 0));
}

#[tokio::test]
async fn an_admin_and_who_gives_no_address_are_answered_as_ever() {
    let mailbox = Mailbox::start().await;
    let app = start(&mailbox).await;
    app.user().await;
    let admin = app.admin().await;
    let new = json!({"email": ALICE, "password": PASSWORD});
    admin.post("/users", new.clone()).await.status(201);
    admin.post("/users", new).await.problem(409, "email_taken");
}
