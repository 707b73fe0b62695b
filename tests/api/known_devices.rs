//! Clients that have logged in before, which strangers who guess do not lock out.

use serde_json::{Value, json};

use crate::TestApp;
use crate::app::PASSWORD;
use crate::smtp::Mailbox;
use crate::throttle::{many_logins, rate, right, use_up};

#[tokio::test]
async fn a_stranger_does_not_lock_the_owner_out() {
    let app = TestApp::with(|config| config.throttle_network = rate("10/15m")).await;
    let replica = app.replica().await;
    let owner = app.user().await;
    let mut phone = right(owner.username());
    phone["transport"] = json!("token");
    let first = app.anonymous().post("/login", phone.clone()).await.status(200);
    let device_token = first.body["device_token"].as_str().expect("a device token").to_owned();
    phone["device_token"] = json!(device_token);

    use_up(&app.anonymous(), owner.username()).await;
    // Neither a new client, nor one that makes a secret up, nor one that knows another account.
    let other = app.user().await;
    app.anonymous().post("/login", right(owner.username())).await.problem(429, "rate_limited");
    other.post("/login", right(owner.username())).await.problem(429, "rate_limited");
    let mut forged = phone.clone();
    forged["device_token"] = json!(portcullis::token::DeviceSecret::generate().expose());
    app.anonymous().post("/login", forged).await.problem(429, "rate_limited");
    // But the browser that registered, and the app, on either instance.
    owner.to(&replica).post("/login", right(owner.username())).await.ok();
    let again = replica.anonymous().post("/login", phone.clone()).await.ok();
    assert_eq!(again["device_token"], Value::Null, "the one it has stands");
    // By which a stranger does not see that the owner is there.
    app.anonymous().post("/login", right(owner.username())).await.problem(429, "rate_limited");
}

#[tokio::test]
async fn a_known_client_has_a_limit_of_its_own() {
    let app = TestApp::start().await;
    let owner = app.user().await;
    use_up(&owner, owner.username()).await;
    let refused = owner.post("/login", right(owner.username())).await.problem(429, "rate_limited");
    assert_eq!(refused.header("ratelimit-policy"), Some(r#""device";q=10;w=600"#));
    // It used up nobody else's.
    app.anonymous().post("/login", right(owner.username())).await.ok();
    // And it is a stranger to other accounts.
    let other = app.user().await;
    use_up(&app.anonymous(), other.username()).await;
    owner.post("/login", right(other.username())).await.problem(429, "rate_limited");
}

#[tokio::test]
async fn a_new_password_makes_strangers_of_all_clients_but_the_one_that_changed_it() {
    let app = TestApp::start().await;
    let (owner, thief) = (app.user().await, app.anonymous());
    thief.post("/login", right(owner.username())).await.ok();
    let new = "quite another password";
    let change = json!({"current_password": PASSWORD, "new_password": new});
    owner.put("/me/password", change).await.ok();
    let login = json!({"identifier": owner.username(), "password": new});
    use_up(&app.anonymous(), owner.username()).await;
    thief.post("/login", login.clone()).await.problem(429, "rate_limited");
    owner.post("/login", login.clone()).await.ok();
    // An admin who sets a password knows no client, and gives the account all its tries.
    let admin = app.admin().await;
    let set = json!({"password": PASSWORD});
    admin.patch(&format!("/users/{}", owner.id()), set).await.ok();
    assert_eq!(app.count(&format!("known_devices where user_id = '{}'", owner.id())).await, 0);
    app.anonymous().post("/login", right(owner.username())).await.ok();
}

#[tokio::test]
async fn an_app_that_changes_its_password_stays_known_by_another_secret() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let mut login = right(user.username());
    login["transport"] = json!("token");
    let phone = app.anonymous().post("/login", login.clone()).await.status(200);
    let new = "quite another password";
    let change = json!({"current_password": PASSWORD, "new_password": new});
    let changed = app.with_token(&phone.token()).put("/me/password", change).await.ok();
    let device_token = changed["device_token"].as_str().expect("a device token");
    assert_ne!(phone.body["device_token"], device_token);
    use_up(&app.anonymous(), user.username()).await;
    login["password"] = json!(new);
    app.anonymous().post("/login", login.clone()).await.problem(429, "rate_limited");
    login["device_token"] = json!(device_token);
    app.anonymous().post("/login", login).await.ok();
}

#[tokio::test]
async fn an_app_that_confirms_its_password_with_its_device_token_is_no_new_device() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |_| {}).await;
    let alice = app.verified_user_at("alice@example.com").await;
    let login =
        json!({"identifier": "alice@example.com", "password": PASSWORD, "transport": "token"});
    let login = app.anonymous().post("/login", login).await.status(200);
    app.deliver().await;
    let (received, devices) = (mailbox.received().len(), app.count("known_devices").await);
    let mut phone = app.with_token(&login.token());
    let device_token = login.body["device_token"].clone();
    for _ in 0..3 {
        let confirm = json!({"password": PASSWORD, "device_token": device_token});
        let confirmed = phone.post("/me/reauthenticate", confirm).await.status(200);
        assert_eq!(confirmed.body["device_token"], Value::Null, "the one it has is valid");
        phone = app.with_token(&confirmed.token());
    }
    app.deliver().await;
    assert_eq!((mailbox.received().len(), app.count("known_devices").await), (received, devices));
    let new = "quite another phrase";
    let change =
        json!({"current_password": PASSWORD, "new_password": new, "device_token": device_token});
    let changed = phone.put("/me/password", change).await.ok();
    assert_eq!(changed["device_token"], Value::Null);
    // The account still knows it, and no other.
    assert_eq!(app.count(&format!("known_devices where user_id = '{}'", alice.id())).await, 1);
    use_up(&app.anonymous(), "alice@example.com").await;
    let login =
        json!({"identifier": "alice@example.com", "password": new, "device_token": device_token});
    app.anonymous().post("/login", login).await.ok();
}

#[tokio::test]
async fn a_client_is_known_by_a_secret_that_is_ours_and_stored_hashed() {
    let app = TestApp::with(many_logins).await;
    let user = app.user().await;
    let registered = app.anonymous().post("/login", right(user.username())).await.status(200);
    let secret = registered.set_cookie("portcullis-device").expect("a cookie");
    let set = registered.headers.get_all("set-cookie").iter().map(|set| set.to_str().unwrap());
    let set = set.filter(|set| set.starts_with("portcullis-device=")).collect::<Vec<_>>();
    let attributes = "; HttpOnly; SameSite=Lax; Path=/; Max-Age=34560000";
    assert_eq!(set, [format!("portcullis-device={secret}{attributes}")]);
    let stored = format!("known_devices where hash = sha256('{secret}'::bytea)");
    assert_eq!(app.count(&stored).await, 1);
    let bring =
        |secret: &str| app.anonymous().with("cookie", &format!("portcullis-device={secret}"));
    // A secret that the service did not issue is not adopted.
    let foreign = portcullis::token::DeviceSecret::generate();
    for secret in [foreign.expose(), "nonsense", ""] {
        let login = bring(secret).post("/login", right(user.username())).await.status(200);
        let given = login.set_cookie("portcullis-device").unwrap();
        assert!(!given.split('.').next().unwrap().is_empty() && given != secret, "{given}");
        assert_eq!(
            app.count(&format!("known_devices where hash = sha256('{secret}'::bytea)")).await,
            0
        );
    }
    // A program that keeps no cookies leaves no more than some, and not instead of one that came back.
    bring(&secret).post("/login", right(user.username())).await.ok();
    for _ in 0..60 {
        app.anonymous().post("/login", right(user.username())).await.ok();
    }
    assert_eq!(app.count(&format!("known_devices where user_id = '{}'", user.id())).await, 50);
    assert_eq!(app.count(&stored).await, 1);
}

#[tokio::test]
async fn a_planted_device_secret_gives_no_hold_on_the_next_account_of_the_browser() {
    let app = TestApp::start().await;
    let bring =
        |secret: &str| app.anonymous().with("cookie", &format!("portcullis-device={secret}"));
    // Mallory copies the secret of a shared browser. Then alice logs in there.
    let mallory = app.user().await;
    let login = app.anonymous().post("/login", right(mallory.username())).await.status(200);
    let planted = login.set_cookie("portcullis-device").unwrap();
    let alice = app.user().await;
    let login = bring(&planted).post("/login", right(alice.username())).await.status(200);
    let both = login.set_cookie("portcullis-device").expect("a secret of her own");
    let (own, others) = both.split_once('.').expect("two secrets");
    assert!(own != planted && others == planted, "the newest is first: {both}");

    use_up(&app.anonymous(), alice.username()).await;
    bring(&planted).post("/login", right(alice.username())).await.problem(429, "rate_limited");
    bring(own).post("/login", right(alice.username())).await.status(200);
    // The browser that holds both is recognised by both accounts, and gets no further secret.
    use_up(&app.anonymous(), mallory.username()).await;
    for name in [alice.username(), mallory.username()] {
        let login = bring(&both).post("/login", right(name)).await.status(200);
        assert_eq!(login.set_cookie("portcullis-device"), None, "{name}");
    }
    bring(own).post("/login", right(mallory.username())).await.problem(429, "rate_limited");
}

#[tokio::test]
async fn a_planted_device_token_gives_no_hold_on_the_next_account_of_the_app() {
    let app = TestApp::start().await;
    let login = |name: &str, device_token: Option<&str>| {
        let mut login = right(name);
        login["transport"] = json!("token");
        login["device_token"] = json!(device_token);
        login
    };
    let (mallory, alice) = (app.user().await, app.user().await);
    let first = app.anonymous().post("/login", login(mallory.username(), None)).await.ok();
    let planted = first["device_token"].as_str().unwrap();
    let second = app.anonymous().post("/login", login(alice.username(), Some(planted))).await.ok();
    let own = second["device_token"].as_str().expect("a token of her own");
    assert_ne!(own, planted);
    use_up(&app.anonymous(), alice.username()).await;
    let theirs = login(alice.username(), Some(planted));
    app.anonymous().post("/login", theirs).await.problem(429, "rate_limited");
    let hers = app.anonymous().post("/login", login(alice.username(), Some(own))).await.ok();
    assert_eq!(hers["device_token"], Value::Null, "it is valid");
}

#[tokio::test]
async fn a_browser_keeps_the_secrets_of_its_newest_ten_accounts() {
    let app = TestApp::start().await;
    let browser = app.anonymous();
    let mut users = Vec::new();
    for _ in 0..11 {
        let user = app.user().await;
        browser.post("/login", right(user.username())).await.status(200);
        users.push(user);
    }
    for (n, user) in users.iter().enumerate().rev() {
        let login = browser.post("/login", right(user.username())).await.status(200);
        let is_new = login.set_cookie("portcullis-device").is_some();
        assert_eq!(is_new, n == 0, "{n}: only the oldest was dropped");
    }
}
