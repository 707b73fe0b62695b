//! Usernames that were given up: who may claim them, and how the owner is notified.

use portcullis::config::{Rate, Switch};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::app::PASSWORD;
use crate::smtp::Mailbox;
use crate::user_command::portcullis;
use crate::{Client, TestApp};

const ALICE: &str = "alice@example.com";

/// Somebody who registers with this username.
async fn register(app: &TestApp, username: &str) -> Client {
    let mut client = app.anonymous();
    let new = json!({"username": username, "password": PASSWORD});
    client.user = client.post("/users", new).await.status(201).body["user"].clone();
    client
}

async fn rename(client: &Client, username: &str) -> Value {
    client.patch("/me", json!({"username": username})).await.ok()
}

/// A stranger and another owner are refused the username.
async fn refused(app: &TestApp, username: &str) {
    let new = json!({"username": username, "password": PASSWORD});
    app.anonymous().post("/users", new).await.problem(409, "username_taken");
    let bob = app.user().await;
    let claimed = bob.patch("/me", json!({"username": username})).await;
    claimed.problem(409, "username_taken");
    assert_eq!(bob.get("/me").await.ok()["username"], bob.username());
}

#[tokio::test]
async fn a_former_username_is_reserved_for_its_owner_for_30_days() {
    let app = TestApp::start().await;
    let replica = app.replica().await;
    let alice = register(&app, "alice").await;
    rename(&alice, "alicia").await;
    refused(&app, "alice").await;
    refused(&replica, "alice").await;
    assert_eq!(rename(&alice, "alice").await["username"], "alice");
    refused(&app, "alicia").await;
    app.sql(
        "update former_usernames set reserved_until = reserved_until - interval '29 days 23 hours'",
    )
    .await;
    refused(&app, "alicia").await;
    app.sql("update former_usernames set reserved_until = reserved_until - interval '1 hour'")
        .await;
    let new = json!({"username": "alicia", "password": PASSWORD});
    app.anonymous().post("/users", new).await.status(201);
}

#[tokio::test]
async fn a_username_that_is_removed_or_whose_account_is_deleted_stays_reserved() {
    let app = TestApp::start().await;
    let alice = register(&app, "alice").await;
    alice.patch("/me", json!({"email": ALICE})).await.ok();
    app.sql(
        "update users set email = pending_email, pending_email = null where username = 'alice'",
    )
    .await;
    alice.patch("/me", json!({"username": null})).await.ok();
    refused(&app, "alice").await;
    // The one that it has, and the former one.
    rename(&alice, "alicia").await;
    alice.delete("/me").await.status(204);
    refused(&app, "alice").await;
    refused(&app, "alicia").await;
    let owners = "select from former_usernames where user_id is not null";
    assert_eq!(app.sql(owners).await, 0);
}

#[tokio::test]
async fn an_admin_may_reassign_a_reserved_username_and_its_new_owner_keeps_it() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let (alice, bob) = (register(&app, "alice").await, register(&app, "bob").await);
    rename(&alice, "alicia").await;
    let path = format!("/users/{}", bob.id());
    admin.patch(&path, json!({"username": "alice"})).await.ok();
    alice.patch("/me", json!({"username": "alice"})).await.problem(409, "username_taken");
    refused(&app, "bob").await;
    // Another change than that of the username does not ask again.
    bob.patch("/me", json!({"name": "Bob"})).await.ok();
    rename(&bob, "robert").await;
    alice.patch("/me", json!({"username": "alice"})).await.problem(409, "username_taken");
    rename(&bob, "alice").await;
    // An admin creates accounts with it as well.
    bob.delete("/me").await.status(204);
    let new = json!({"username": "alice", "password": PASSWORD});
    admin.post("/users", new).await.status(201);
}

#[tokio::test]
async fn the_command_line_may_assign_reserved_usernames() {
    let app = TestApp::start().await;
    for name in ["alice", "bob"] {
        register(&app, name).await.delete("/me").await.status(204);
    }
    let create = ["user", "create", "--username", "alice", "--password-stdin"];
    let created = portcullis(&app, &create, PASSWORD).await;
    assert!(created.status.success(), "{created:?}");
    let hash = bcrypt::hash(PASSWORD, 4).unwrap();
    let lines = json!({"username": "bob", "password_hash": hash}).to_string();
    let path = std::env::temp_dir().join(format!("portcullis-{:016x}", rand::random::<u64>()));
    std::fs::write(&path, lines).unwrap();
    let imported = portcullis(&app, &["user", "import", path.to_str().unwrap()], "").await;
    std::fs::remove_file(&path).unwrap();
    assert!(imported.status.success(), "{imported:?}");
    assert_eq!(app.count("users").await, 2);
}

#[tokio::test]
async fn an_admin_may_not_claim_a_reserved_username_as_the_owner_of_an_account() {
    let app = TestApp::start().await;
    let (admin, alice) = (app.admin().await, register(&app, "alice").await);
    rename(&alice, "alicia").await;
    let claimed = admin.patch("/me", json!({"username": "alice"})).await;
    claimed.problem(409, "username_taken");
}

#[tokio::test]
async fn a_former_username_does_not_log_in() {
    let app = TestApp::with(|config| config.basic_auth = Switch::On).await;
    let alice = register(&app, "alice").await;
    rename(&alice, "alicia").await;
    let login = |name: &str| json!({"identifier": name, "password": PASSWORD});
    let refused = app.anonymous().post("/login", login("alice")).await;
    let unknown = app.anonymous().post("/login", login("nobody")).await;
    let shape = |answer: crate::Answer| {
        let mut body = answer.problem(401, "invalid_credentials").body;
        body["request_id"] = Value::Null;
        body
    };
    assert_eq!(shape(refused), shape(unknown));
    app.anonymous().post("/login", login("alicia")).await.status(200);
}

#[tokio::test]
async fn a_pending_registration_does_not_get_a_reserved_username() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |config| config.registration_privacy = Switch::On).await;
    let alice = register(&app, "alice").await;
    let new = |email: &str, username: &str| json!({"username": username, "email": email, "password": PASSWORD});
    let bob = app.anonymous();
    bob.post("/users", new("bob@example.com", "alicia")).await.status(202);
    app.deliver().await;
    let token = mailbox.wait(1).await[0].token();
    // Taken and given up while the registration waits.
    rename(&alice, "alicia").await;
    rename(&alice, "alice").await;
    bob.post("/users", new("carol@example.com", "alicia")).await.problem(409, "username_taken");
    bob.post("/email/verify", json!({"token": token})).await.problem(409, "username_taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_username_that_is_given_up_is_claimed_by_nobody_at_the_same_moment() {
    let app = TestApp::with(|config| {
        config.throttle_registration = Rate::parse("100000/1h").unwrap();
        config.throttle_writes = Rate::parse("100000/1h").unwrap();
    });
    let app = app.await;
    let replica = app.replica().await;
    let (mut refused, rounds) = (0, 12);
    for round in 0..rounds {
        let name = format!("alice-{round}");
        let (alice, bob) = (register(&app, &name).await, app.user().await);
        let mut claims = JoinSet::new();
        for i in 0..6 {
            let service = if i % 2 == 0 { &app } else { &replica };
            let (stranger, bob, name) = (service.anonymous(), bob.to(service), name.clone());
            claims.spawn(async move {
                match i % 3 {
                    0 => bob.patch("/me", json!({"username": name})).await,
                    _ => {
                        let new = json!({"username": name, "password": PASSWORD});
                        stranger.post("/users", new).await
                    }
                }
            });
        }
        match round % 2 {
            0 => drop(rename(&alice.to(&replica), &format!("alicia-{round}")).await),
            _ => drop(alice.to(&replica).delete("/me").await.status(204)),
        }
        for answer in claims.join_all().await {
            answer.problem(409, "username_taken");
            refused += 1;
        }
    }
    assert_eq!(refused, rounds * 6);
}

#[tokio::test]
async fn the_owner_is_notified_of_another_username_whoever_changed_it() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |_| {}).await;
    let (admin, alice) = (app.admin().await, app.verified_user_at(ALICE).await);
    rename(&alice, "win.evil.example").await;
    rename(&alice, "win.evil.example").await;
    app.deliver().await;
    let mails = mailbox.wait(1).await;
    assert_eq!((mails.len(), mails[0].subject.as_str()), (1, "Your username was changed"));
    assert!(mails[0].text.contains("30 days") && !mails[0].text.contains("administrator"));
    // Also if the same change takes the address away.
    let change = json!({"username": "alice", "email": "elsewhere@example.com"});
    admin.patch(&format!("/users/{}", alice.id()), change).await.ok();
    app.deliver().await;
    let told = mailbox.to(ALICE);
    let told = told.iter().filter(|mail| mail.subject == "Your username was changed");
    let told: Vec<_> = told.collect();
    assert_eq!(told.len(), 2);
    assert!(told[1].text.contains("by an administrator"), "{}", told[1].text);
    for mail in &told {
        let whole = format!("{} {}", mail.text, mail.html);
        assert!(!whole.contains("evil"), "{whole}");
    }
}

#[tokio::test]
async fn the_owner_is_notified_of_a_refused_username_by_no_email() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |_| {}).await;
    register(&app, "bob").await;
    let alice = app.verified_user_at(ALICE).await;
    let claimed = alice.patch("/me", json!({"username": "bob"})).await;
    claimed.problem(409, "username_taken");
    assert_eq!(app.count("outbox").await, 0);
}

#[tokio::test]
async fn the_owner_is_notified_of_a_new_api_token() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |_| {}).await;
    let alice = app.verified_user_at(ALICE).await;
    let new = json!({"name": "win.evil.example", "scopes": ["read", "write"], "expires_at": "2999-01-01T00:00:00Z"});
    alice.token(new).await;
    alice.token(json!({"name": "win.evil.example", "expires_at": null})).await;
    app.deliver().await;
    let mails = mailbox.wait(2).await;
    let texts: Vec<_> = mails.iter().map(|mail| mail.text.clone()).collect();
    let all = texts.join("\n");
    for part in ["read, write", "1 January 2999 at 00:00 UTC", "It does not expire."] {
        assert!(all.contains(part), "{all}");
    }
    assert!(mails.iter().all(|mail| mail.subject == "An API token was created"));
    assert!(!all.contains("evil"), "{all}");
    // However many follow, the owner is not flooded.
    for _ in 0..8 {
        alice.token(json!({"name": "t"})).await;
    }
    app.deliver().await;
    assert_eq!(mailbox.received().len(), 5);
}

#[tokio::test]
async fn reservations_that_are_over_are_swept() {
    let app = TestApp::start().await;
    let alice = register(&app, "alice").await;
    rename(&alice, "alicia").await;
    rename(&alice, "alison").await;
    app.sql("update former_usernames set reserved_until = now() where username = 'alice'").await;
    assert_eq!(app.sweep().await, 1);
    assert_eq!(app.count("former_usernames").await, 1);
}
