//! Somebody who registers with the address of another keeps no access once the owner of the address logs
//! in by a code.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portcullis::config::{Config, Switch};
use serde_json::{Value, json};

use crate::app::PASSWORD;
use crate::smtp::Mailbox;
use crate::{Client, TestApp};

const ALICE: &str = "alice@example.com";
const NOTICE: &str = "All other access to your account was revoked";

async fn start(mailbox: &Mailbox, change: impl FnOnce(&mut Config)) -> TestApp {
    TestApp::with_mail(mailbox, |config| {
        config.login_code = Switch::On;
        config.basic_auth = Switch::On;
        config.throttle = Switch::Off;
        change(config);
    })
    .await
}

fn switch(on: bool) -> Switch {
    if on { Switch::On } else { Switch::Off }
}

/// The latest mail to alice with this subject.
fn latest(mailbox: &Mailbox, subject: &str) -> crate::smtp::Mail {
    let mut mails = mailbox.to(ALICE).into_iter().rev();
    mails.find(|mail| mail.subject == subject).expect(subject)
}

fn verification(mailbox: &Mailbox) -> crate::smtp::Mail {
    latest(mailbox, "Confirm your email address")
}

/// Logs in by an emailed code on a device of her own.
async fn log_in_by_code(app: &TestApp, mailbox: &Mailbox) -> Client {
    let mut owner = app.anonymous();
    owner.post("/login/code", json!({"email": ALICE})).await.status(202);
    app.deliver().await;
    let code = latest(mailbox, "Your code to log in").code();
    let given = json!({"email": ALICE, "code": code});
    owner.user = owner.post("/login/code/verify", given).await.ok()["user"].clone();
    owner
}

/// All that somebody holds who knows the password of an account.
struct Access {
    browser: Client,
    app: Client,
    api_token: Client,
    basic: Client,
    device_token: String,
    name: String,
}

impl Access {
    /// Logs in to an account by its username, everywhere.
    async fn take(app: &TestApp, browser: Client, name: &str) -> Self {
        let login = json!({"identifier": name, "password": PASSWORD, "transport": "token"});
        let phone = app.anonymous().post("/login", login).await.status(200);
        let token = browser.token(json!({"name": "t", "scopes": ["read", "write"]})).await;
        let basic = format!("Basic {}", STANDARD.encode(format!("{name}:{PASSWORD}")));
        Self {
            browser,
            app: app.with_token(&phone.token()),
            api_token: app.with_token(&token),
            basic: app.anonymous().with("authorization", &basic),
            device_token: phone.body["device_token"].as_str().unwrap().to_owned(),
            name: name.to_owned(),
        }
    }

    async fn statuses(&self, app: &TestApp) -> [u16; 5] {
        let login = json!({"identifier": self.name, "password": PASSWORD});
        [
            self.browser.get("/me").await.code,
            self.app.get("/me").await.code,
            self.api_token.get("/me").await.code,
            self.basic.get("/me").await.code,
            app.anonymous().post("/login", login).await.code,
        ]
    }

    async fn is_known(&self, app: &TestApp) -> bool {
        let device = format!("known_devices where hash = sha256('{}'::bytea)", self.device_token);
        app.count(&device).await == 1
    }
}

/// Somebody registers with the address of alice.
async fn squat(app: &TestApp) -> Access {
    let squatter = app.anonymous();
    let new = json!({"username": "squatter", "email": ALICE, "password": PASSWORD});
    squatter.post("/users", new).await.status(201);
    let access = Access::take(app, squatter, "squatter").await;
    app.deliver().await;
    access
}

/// The first login by a code revokes everything, and tells the owner; later ones revoke nothing.
async fn assert_evicted(app: &TestApp, mailbox: &Mailbox, squatter: &Access) {
    assert_eq!(squatter.statuses(app).await, [200; 5]);
    assert!(squatter.is_known(app).await);
    let owner = log_in_by_code(app, mailbox).await;
    assert_eq!(squatter.statuses(app).await, [401; 5]);
    assert!(!squatter.is_known(app).await, "the device is forgotten");
    app.deliver().await;
    let notice = latest(mailbox, NOTICE);
    assert!(notice.text.contains("API tokens") && !notice.text.contains("http"), "{notice:?}");
    let token = owner.token(json!({"name": "t"})).await;
    let again = log_in_by_code(app, mailbox).await;
    for client in [&owner, &again, &app.with_token(&token)] {
        assert_eq!(client.get("/me").await.ok()["email"], ALICE);
    }
    app.deliver().await;
    let notices = mailbox.to(ALICE).into_iter().filter(|mail| mail.subject == NOTICE);
    assert_eq!(notices.count(), 1);
}

/// A login by a code elsewhere takes nothing away.
async fn assert_kept(app: &TestApp, mailbox: &Mailbox, owner: &Access) {
    log_in_by_code(app, mailbox).await;
    assert_eq!(owner.statuses(app).await, [200; 5]);
    app.deliver().await;
    assert!(mailbox.to(ALICE).iter().all(|mail| mail.subject != NOTICE));
}

#[tokio::test]
async fn a_squatter_loses_all_access_when_the_owner_of_the_address_confirms_it_and_logs_in_by_a_code()
 {
    for by_code in [false, true] {
        let mailbox = Mailbox::start().await;
        let app = start(&mailbox, |_| {}).await;
        let squatter = squat(&app).await;
        let mail = verification(&mailbox);
        let given = match by_code {
            true => json!({"email": ALICE, "code": mail.code()}),
            false => json!({"token": mail.token()}),
        };
        app.anonymous().post("/email/verify", given).await.status(204);
        assert_evicted(&app, &mailbox, &squatter).await;
    }
}

#[tokio::test]
async fn a_squatter_loses_all_access_when_the_owner_of_the_address_logs_in_by_a_code_at_once() {
    let mailbox = Mailbox::start().await;
    let app = start(&mailbox, |_| {}).await;
    let squatter = squat(&app).await;
    assert_evicted(&app, &mailbox, &squatter).await;
}

#[tokio::test]
async fn a_squatter_who_moves_an_account_of_its_own_to_an_address_loses_it_to_the_owner_of_the_address()
 {
    let mailbox = Mailbox::start().await;
    let app = start(&mailbox, |_| {}).await;
    let squatter = app.anonymous();
    let new = json!({"username": "squatter", "email": "mallory@example.com", "password": PASSWORD});
    squatter.post("/users", new).await.status(201);
    app.deliver().await;
    // The first address is the squatter's own, and proven.
    let own = json!({"token": mailbox.next_to("mallory@example.com", 1).await.token()});
    squatter.post("/email/verify", own).await.status(204);
    let squatter = Access::take(&app, squatter, "squatter").await;
    squatter.browser.patch("/me", json!({"email": ALICE})).await.ok();
    app.deliver().await;
    let given = json!({"token": verification(&mailbox).token()});
    app.anonymous().post("/email/verify", given).await.status(204);
    assert_evicted(&app, &mailbox, &squatter).await;
}

#[tokio::test]
async fn an_address_that_an_admin_set_proves_nothing_until_the_owner_verifies_it_with_a_session() {
    let mailbox = Mailbox::start().await;
    let app = start(&mailbox, |_| {}).await;
    let squatter = app.verified_user_at("mallory@example.com").await;
    squatter.patch("/me", json!({"username": "squatter"})).await.ok();
    let squatter = Access::take(&app, squatter, "squatter").await;
    let id = squatter.browser.get("/me").await.ok()["id"].as_str().unwrap().to_owned();
    app.admin().await.patch(&format!("/users/{id}"), json!({"email": ALICE})).await.ok();
    app.deliver().await;
    let given = json!({"token": verification(&mailbox).token()});
    app.anonymous().post("/email/verify", given).await.status(204);
    assert_evicted(&app, &mailbox, &squatter).await;
}

#[tokio::test]
async fn a_squatter_whose_registration_waited_for_the_address_loses_all_access() {
    for (required, privacy) in [(true, false), (false, true), (true, true)] {
        let mailbox = Mailbox::start().await;
        let app = start(&mailbox, |config| {
            config.require_verified_email = switch(required);
            config.registration_privacy = switch(privacy);
        });
        let app = app.await;
        let squatter = app.anonymous();
        let new = json!({"username": "squatter", "email": ALICE, "password": PASSWORD});
        squatter.post("/users", new).await;
        app.deliver().await;
        let given = json!({"token": verification(&mailbox).token()});
        app.anonymous().post("/email/verify", given).await.status(204);
        let login = json!({"identifier": "squatter", "password": PASSWORD});
        let known = squatter.post("/login", login).await.status(200);
        assert_eq!(known.set_cookie("portcullis-device"), None, "the account knows its browser");
        let squatter = Access::take(&app, squatter, "squatter").await;
        assert_evicted(&app, &mailbox, &squatter).await;
    }
}

#[tokio::test]
async fn an_owner_who_verifies_the_address_with_a_session_keeps_everything() {
    for by_token in [false, true] {
        let mailbox = Mailbox::start().await;
        let app = start(&mailbox, |_| {}).await;
        let owner = squat(&app).await;
        let given = json!({"token": verification(&mailbox).token()});
        let session = if by_token { &owner.app } else { &owner.browser };
        session.post("/email/verify", given).await.status(204);
        assert_kept(&app, &mailbox, &owner).await;
        // So it is with another address.
        let other = json!({"email": "other@example.com"});
        owner.browser.patch("/me", other).await.ok();
        app.deliver().await;
        let token = mailbox.next_to("other@example.com", 1).await.token();
        session.post("/email/verify", json!({"token": token})).await.status(204);
        assert_eq!(app.count("users where password_proven").await, 1);
    }
}

#[tokio::test]
async fn an_owner_who_verifies_the_address_with_a_device_secret_keeps_everything() {
    for (required, privacy) in [(false, false), (true, false), (false, true), (true, true)] {
        for transport in ["cookie", "token"] {
            let mailbox = Mailbox::start().await;
            let app = start(&mailbox, |config| {
                config.require_verified_email = switch(required);
                config.registration_privacy = switch(privacy);
            });
            let app = app.await;
            let browser = app.anonymous();
            let new = json!({"username": "alice", "email": ALICE, "password": PASSWORD, "transport": transport});
            let registered = browser.post("/users", new).await;
            // The session is over. A logout would take the proof with it.
            app.sql("delete from sessions").await;
            app.deliver().await;
            let mut given = json!({"token": verification(&mailbox).token()});
            given["device_token"] = registered.body["device_token"].clone();
            assert_eq!(given["device_token"] == Value::Null, transport == "cookie");
            browser.post("/email/verify", given).await.status(204);
            let login = json!({"identifier": "alice", "password": PASSWORD});
            browser.post("/login", login).await.status(200);
            let owner = Access::take(&app, browser, "alice").await;
            assert_kept(&app, &mailbox, &owner).await;
        }
    }
}

#[tokio::test]
async fn no_other_credential_beside_a_verification_proves_the_password() {
    for n in 0..5 {
        let mailbox = Mailbox::start().await;
        let app = start(&mailbox, |_| {}).await;
        let squatter = squat(&app).await;
        let bob = app.user_at("bob@example.com").await;
        let client = match n {
            0 => squatter.api_token.clone(),
            1 => squatter.basic.clone(),
            2 => bob,
            // A session that was revoked, and with it the browser's secret was lost.
            3 => {
                let login = json!({"identifier": "squatter", "password": PASSWORD});
                let revoked = app.anonymous().post("/login", login).await.status(200).cookie();
                app.with_cookie(&revoked).call("/logout").await.status(204);
                app.with_cookie(&revoked)
            }
            _ => app.anonymous().with("cookie", "portcullis=nonsense; portcullis-device=nonsense"),
        };
        let given = json!({"token": verification(&mailbox).token()});
        client.post("/email/verify", given).await.status(204);
        assert_evicted(&app, &mailbox, &squatter).await;
    }
}

#[tokio::test]
async fn an_expired_session_proves_nothing() {
    let mailbox = Mailbox::start().await;
    let app = start(&mailbox, |_| {}).await;
    let squatter = app.user_at(ALICE).await;
    app.deliver().await;
    app.sql("update sessions set expires_at = now()").await;
    app.sql("delete from known_devices").await;
    let given = json!({"token": verification(&mailbox).token()});
    squatter.post("/email/verify", given).await.status(204);
    assert_eq!(app.count("users where email_verified and not password_proven").await, 1);
}

#[tokio::test]
async fn a_session_past_its_absolute_end_proves_nothing() {
    let mailbox = Mailbox::start().await;
    let app = start(&mailbox, |config| {
        config.remember_refresh = Switch::On;
        config.remember_for = std::time::Duration::from_secs(24 * 60 * 60);
        config.remember_max = std::time::Duration::from_secs(24 * 60 * 60);
    });
    let app = app.await;
    let squatter = app.user_at(ALICE).await;
    app.deliver().await;
    // As a service with a longer maximum left it.
    let begun = "update sessions set remember = true, created_at = now() - interval '2 days',
                     expires_at = now() + interval '1 day', ends_at = now() + interval '1 day'";
    app.sql(begun).await;
    app.sql("delete from known_devices").await;
    let given = json!({"token": verification(&mailbox).token()});
    squatter.post("/email/verify", given).await.status(204);
    squatter.get("/me").await.problem(401, "session_expired");
    assert_eq!(app.count("users where email_verified and not password_proven").await, 1);
}

#[tokio::test]
async fn a_session_alone_proves_nothing_by_changing_the_password() {
    let mailbox = Mailbox::start().await;
    let app = start(&mailbox, |_| {}).await;
    let squatter = squat(&app).await;
    let given = json!({"token": verification(&mailbox).token()});
    app.anonymous().post("/email/verify", given).await.status(204);
    let new = "quite another phrase";
    let change = json!({"current_password": PASSWORD, "new_password": new});
    squatter.browser.put("/me/password", change).await.status(200);
    log_in_by_code(&app, &mailbox).await;
    squatter.browser.get("/me").await.problem(401, "session_expired");
    let login = json!({"identifier": "squatter", "password": new});
    app.anonymous().post("/login", login).await.problem(401, "invalid_credentials");
}

#[tokio::test]
async fn a_reset_proves_the_password_and_forgets_the_devices_of_the_squatter() {
    let mailbox = Mailbox::start().await;
    let app = start(&mailbox, |_| {}).await;
    // Alice uses the browser in which the squatter registered.
    let squatter = squat(&app).await;
    let owner = squatter.browser.clone();
    let given = json!({"token": verification(&mailbox).token()});
    app.anonymous().post("/email/verify", given).await.status(204);
    owner.post("/password/forgot", json!({"email": ALICE})).await.status(202);
    app.deliver().await;
    let new = "a password of her own";
    let token = latest(&mailbox, "Choose a new password").token();
    owner.post("/password/reset", json!({"token": token, "password": new})).await.status(204);
    assert_eq!(squatter.statuses(&app).await, [401; 5]);
    assert_eq!(app.count("known_devices").await, 0);
    // From now on the password is hers: a login by a code keeps it.
    let login = json!({"identifier": ALICE, "password": new});
    let browser = app.anonymous();
    browser.post("/login", login.clone()).await.status(200);
    log_in_by_code(&app, &mailbox).await;
    browser.get("/me").await.ok();
    app.anonymous().post("/login", login).await.status(200);
    app.deliver().await;
    assert!(mailbox.to(ALICE).iter().all(|mail| mail.subject != NOTICE));
}

#[tokio::test]
async fn a_device_of_the_squatter_proves_nothing_after_the_owner_evicted_it() {
    let mailbox = Mailbox::start().await;
    let app = start(&mailbox, |_| {}).await;
    let squatter = squat(&app).await;
    let owner = log_in_by_code(&app, &mailbox).await;
    // She moves the account, and somebody uses the squatter's secret beside her token.
    owner.patch("/me", json!({"email": "other@example.com"})).await.ok();
    app.deliver().await;
    let mut given = json!({"token": mailbox.next_to("other@example.com", 1).await.token()});
    given["device_token"] = json!(squatter.device_token);
    app.anonymous().post("/email/verify", given).await.status(204);
    assert_eq!(app.count("users where password_proven").await, 0);
}

#[tokio::test]
async fn a_squatter_does_not_pass_for_the_owner_of_the_address_behind_a_proxy() {
    let mailbox = Mailbox::start().await;
    let app = start(&mailbox, |_| {}).await;
    let squatter = squat(&app).await;
    let link = json!({"token": verification(&mailbox).token()});
    app.anonymous().post("/email/verify", link).await.status(204);
    for client in [&squatter.browser, &squatter.app, &squatter.api_token, &squatter.basic] {
        let passed = client.get("/forward-auth").await.status(200);
        assert_eq!(passed.header("x-auth-email-verified"), Some("false"));
    }
    // An owner who confirmed the address elsewhere proves it from the session.
    let owner = squatter.browser;
    owner.call("/me/email/verify").await.status(202);
    app.deliver().await;
    let code = json!({"email": ALICE, "code": verification(&mailbox).code()});
    owner.post("/email/verify", code).await.status(204);
    let passed = owner.get("/forward-auth").await.status(200);
    assert_eq!(passed.header("x-auth-email-verified"), Some("true"));
    owner.call("/me/email/verify").await.problem(409, "nothing_to_verify");
}

/// How a squatter leaves a shared browser.
#[derive(Clone, Copy, Debug)]
enum Exit {
    Logout,
    RevokesTheSession,
    RevokesTheSessionElsewhere,
    RevokesAllSessions,
}

#[tokio::test]
async fn a_squatter_who_leaves_a_shared_browser_leaves_no_proof_behind() {
    for exit in [
        Exit::Logout,
        Exit::RevokesTheSession,
        Exit::RevokesTheSessionElsewhere,
        Exit::RevokesAllSessions,
    ] {
        let mailbox = Mailbox::start().await;
        let app = start(&mailbox, |_| {}).await;
        let shared = app.anonymous();
        let new = json!({"username": "squatter", "email": ALICE, "password": PASSWORD});
        let begun = shared.post("/users", new).await.status(201);
        let session = format!("/me/sessions/{}", begun.body["session"]["id"].as_str().unwrap());
        let login = json!({"identifier": "squatter", "password": PASSWORD});
        let elsewhere = app.anonymous();
        elsewhere.post("/login", login.clone()).await.status(200);
        match exit {
            Exit::Logout => shared.call("/logout").await,
            Exit::RevokesTheSession => shared.delete(&session).await,
            Exit::RevokesTheSessionElsewhere => elsewhere.delete(&session).await,
            Exit::RevokesAllSessions => shared.delete("/me/sessions?include=current").await,
        }
        .status(204);
        app.deliver().await;
        let link = json!({"token": verification(&mailbox).token()});
        shared.post("/email/verify", link).await.status(204);
        assert_eq!(app.count("users where password_proven").await, 0, "{exit:?}");
        let squatter = app.anonymous();
        squatter.post("/login", login).await.status(200);
        let passed = squatter.get("/forward-auth").await.status(200);
        assert_eq!(passed.header("x-auth-email-verified"), Some("false"));
        log_in_by_code(&app, &mailbox).await;
        squatter.get("/me").await.problem(401, "session_expired");
    }
}

#[tokio::test]
async fn a_logout_before_the_first_login_leaves_no_proof_behind() {
    for is_private in [false, true] {
        let mailbox = Mailbox::start().await;
        let app = start(&mailbox, |config| {
            config.require_verified_email = switch(!is_private);
            config.registration_privacy = switch(is_private);
        });
        let app = app.await;
        let shared = app.anonymous();
        let new = json!({"username": "squatter", "email": ALICE, "password": PASSWORD});
        shared.post("/users", new).await.status(if is_private { 202 } else { 201 });
        shared.call("/logout").await.status(204);
        app.deliver().await;
        let link = json!({"token": verification(&mailbox).token()});
        shared.post("/email/verify", link).await.status(204);
        assert_eq!(app.count("users where email_verified and not password_proven").await, 1);
    }
}

#[tokio::test]
async fn a_squatter_has_the_owner_of_the_address_mailed_to_within_a_limit_and_learns_nothing_of_it()
{
    let mailbox = Mailbox::start().await;
    let app = start(&mailbox, |config| config.throttle = Switch::On).await;
    let squatter = squat(&app).await;
    let link = json!({"token": verification(&mailbox).token()});
    app.anonymous()
        .with("user-agent", "alice-browser")
        .post("/email/verify", link)
        .await
        .status(204);
    let (mut old, mut new) = (PASSWORD, "a quite different password");
    for _ in 0..9 {
        let change = json!({"current_password": old, "new_password": new});
        squatter.browser.put("/me/password", change).await.ok();
        (old, new) = (new, old);
    }
    app.deliver().await;
    let notices = mailbox.to(ALICE).into_iter();
    let notices = notices.filter(|mail| mail.subject == "Your password was changed").count();
    assert_eq!(notices, 5);
    let activity = squatter.browser.get("/me/activity").await.status(200);
    assert!(activity.text.contains("email_verified"), "{}", activity.text);
    assert!(!activity.text.contains("alice-browser"), "{}", activity.text);
}
