//! Email addresses and display names, wherever they are given.

use portcullis::config::PublicUrl;
use serde_json::{Value, json};

use crate::TestApp;
use crate::app::PASSWORD;
use crate::serve::{Directory, refusal};
use crate::user_command::{portcullis, portcullis_with};

/// Addresses that lead to the machine of the service, or into its network.
const LOCAL: [&str; 9] = [
    "bob@127.0.0.1",
    "bob@0x7f000001",
    "bob@1",
    "bob@127.1",
    "bob@10.0.0.5",
    "bob@localhost",
    "bob@app.localhost",
    "bob@mailhost",
    "bob@LOCALHOST",
];

fn invalid(field: &str) -> Vec<(String, String)> {
    vec![(field.to_owned(), "invalid".to_owned())]
}

#[tokio::test]
async fn addresses_of_this_machine_are_rejected_wherever_an_account_gets_an_address() {
    let public_url = "https://auth.example.com";
    let app = TestApp::with(|config| {
        config.public_url = PublicUrl::parse(public_url).unwrap();
    })
    .await;
    let new = json!({"username": "alice", "password": PASSWORD, "transport": "token"});
    let token = app.anonymous().post("/users", new).await.status(201).token();
    app.sql("update users set role = 'admin'").await;
    let admin = app.with_token(&token);
    let create = json!({"username": "carol", "password": PASSWORD});
    let carol = admin.post("/users", create).await.status(201).body["user"]["id"].clone();
    let settings = [("PORTCULLIS_PUBLIC_URL", public_url)];
    for email in LOCAL {
        let new = json!({"email": email, "password": PASSWORD});
        for client in [&app.anonymous(), &admin] {
            assert_eq!(
                client.post("/users", new.clone()).await.faults(),
                invalid("email"),
                "{email}"
            );
        }
        let change = json!({"email": email});
        assert_eq!(admin.patch("/me", change.clone()).await.faults(), invalid("email"));
        let path = format!("/users/{}", carol.as_str().unwrap());
        assert_eq!(admin.patch(&path, change).await.faults(), invalid("email"));
        let create = ["user", "create", "--email", email, "--password-stdin"];
        let output = portcullis_with(&app, &settings, &create, PASSWORD).await;
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains("--email must have a domain such as example.com"), "{told}");
    }
    let directory = Directory::new();
    let line = refusal(
        &directory.0,
        &[settings[0], ("PORTCULLIS_ADMIN_EMAIL", LOCAL[0]), ("DATABASE_URL", &app.database_url())],
        &[],
    );
    assert!(line.contains("PORTCULLIS_ADMIN_EMAIL") && line.contains("example.com"), "{line}");
    let users = directory.0.join("users.jsonl");
    let hash = bcrypt::hash(PASSWORD, 4).unwrap();
    std::fs::write(&users, json!({"email": LOCAL[1], "password_hash": hash}).to_string()).unwrap();
    let import = ["user", "import", users.to_str().unwrap()];
    let told = portcullis_with(&app, &settings, &import, "").await.stderr;
    let told = String::from_utf8(told).unwrap();
    assert!(told.contains(":1: email must have a domain such as example.com"), "{told}");
    assert_eq!(app.count("users").await, 2);
}

#[tokio::test]
async fn in_development_addresses_of_this_machine_are_accepted() {
    for public_url in ["http://localhost:8080", "http://127.0.0.1:3000", "http://[::1]"] {
        let app = TestApp::with(|config| {
            config.public_url = PublicUrl::parse(public_url).unwrap();
        })
        .await;
        for email in ["bob@localhost", "bob@127.0.0.1"] {
            let new = json!({"email": email, "password": PASSWORD});
            app.anonymous().post("/users", new).await.status(201);
        }
    }
    // By http, but for others.
    let app = TestApp::with(|config| {
        config.public_url = PublicUrl::parse("http://auth.example.com").unwrap();
    })
    .await;
    let new = json!({"email": "bob@localhost", "password": PASSWORD});
    assert_eq!(app.anonymous().post("/users", new).await.faults(), invalid("email"));
}

#[tokio::test]
async fn an_account_with_an_address_of_this_machine_can_still_log_in() {
    let app = TestApp::start().await;
    let new = json!({"email": "bob@localhost", "password": PASSWORD});
    app.anonymous().post("/users", new).await.status(201);
    let mut config = app.config.clone();
    config.public_url = PublicUrl::parse("http://auth.example.com").unwrap();
    let public = app.replica_with(config).await;
    let login = json!({"email": "bob@localhost", "password": PASSWORD});
    public.anonymous().post("/login", login).await.ok();
    let forgot = json!({"email": "bob@localhost"});
    public.anonymous().post("/password/forgot", forgot).await.status(202);
}

#[tokio::test]
async fn people_register_and_log_in_with_an_address_in_their_own_script() {
    let app = TestApp::start().await;
    for address in [
        "почта@example.com",
        "用户@example.com",
        "संपर्क@example.com",
        "ผู้ใช้@example.com",
        "தமிழ்@example.com",
        "이메일@example.com",
        "بريد@example.com",
    ] {
        let new = json!({"email": address, "password": PASSWORD});
        let body = app.anonymous().post("/users", new.clone()).await.status(201).body;
        assert_eq!(body["user"]["email"], address);
        app.anonymous().post("/users", new).await.problem(409, "email_taken");
        let login = json!({"identifier": address, "password": PASSWORD});
        app.anonymous().post("/login", login).await.ok();
    }
    // A keyboard of macOS composes no characters.
    let decomposed = json!({"email": "A\u{301}lice@example.com", "password": PASSWORD});
    let body = app.anonymous().post("/users", decomposed).await.status(201).body;
    assert_eq!(body["user"]["email"], "álice@example.com");
    for identifier in ["álice@example.com", "a\u{301}lice@EXAMPLE.com", "ÁLICE@example.com"] {
        let login = json!({"identifier": identifier, "password": PASSWORD});
        app.anonymous().post("/login", login).await.ok();
        let new = json!({"email": identifier, "password": PASSWORD});
        app.anonymous().post("/users", new).await.problem(409, "email_taken");
    }
    for invisible in ["a\u{200b}b@example.com", "a\u{202e}b@example.com", "\u{3164}@example.com"] {
        let new = json!({"email": invisible, "password": PASSWORD});
        assert_eq!(app.anonymous().post("/users", new).await.faults(), invalid("email"));
    }
}

#[tokio::test]
async fn a_name_that_displays_as_nothing_is_rejected_wherever_a_name_is_given() {
    let app = TestApp::start().await;
    let (admin, user) = (app.admin().await, app.user().await);
    let hash = bcrypt::hash(PASSWORD, 4).unwrap();
    let directory = Directory::new();
    for (name, code, reason) in [
        ("\u{200b}", "too_short", "must have at least one visible character"),
        ("\u{200d}\u{2060}\u{feff}", "too_short", "must have at least one visible character"),
        ("\u{3164}", "too_short", "must have at least one visible character"),
        ("\u{2800}", "too_short", "must have at least one visible character"),
        ("", "too_short", "must have at least one visible character"),
        ("Alice\u{202e}nimda", "invalid", "must not have characters that change the direction"),
        ("Alice\u{2066}", "invalid", "must not have characters that change the direction"),
        ("Alice\u{2028}admin", "invalid", "must not have control characters"),
    ] {
        let fault = vec![("name".to_owned(), code.to_owned())];
        let with_name = |mut body: Value| {
            body["name"] = json!(name);
            body
        };
        let new = with_name(json!({"username": "bob", "password": PASSWORD}));
        assert_eq!(app.anonymous().post("/users", new.clone()).await.faults(), fault, "{name:?}");
        assert_eq!(admin.post("/users", new).await.faults(), fault);
        assert_eq!(user.patch("/me", with_name(json!({}))).await.faults(), fault);
        let path = format!("/users/{}", user.id());
        assert_eq!(admin.patch(&path, with_name(json!({}))).await.faults(), fault);
        assert_eq!(user.post("/me/tokens", with_name(json!({}))).await.faults(), fault);
        for username in [name, &format!("bob{name}")] {
            let new = json!({"username": username, "password": PASSWORD});
            if username != "bob" {
                app.anonymous().post("/users", new).await.faults();
            }
        }
        let create = ["user", "create", "--username", "bob", "--name", name, "--password-stdin"];
        let told = portcullis(&app, &create, PASSWORD).await.stderr;
        let told = String::from_utf8(told).unwrap();
        assert!(told.contains(&format!("--name {reason}")), "{told}");
        let users = directory.0.join("users.jsonl");
        let line = with_name(json!({"username": "bob", "password_hash": hash}));
        std::fs::write(&users, line.to_string()).unwrap();
        let import = ["user", "import", users.to_str().unwrap()];
        let told = String::from_utf8(portcullis(&app, &import, "").await.stderr).unwrap();
        assert!(told.contains(&format!(":1: name {reason}")), "{told}");
    }
    assert_eq!(app.count("users").await, 2);
    for name in
        ["👩\u{200d}👩\u{200d}👧", "❤\u{fe0f}", "می\u{200c}خواهم", "\u{200f}שלום", "e\u{301}"]
    {
        assert_eq!(user.patch("/me", json!({"name": name})).await.ok()["name"], name);
        user.post("/me/tokens", json!({"name": name})).await.status(201);
    }
    let settings = [
        ("PORTCULLIS_SMTP_URL", "smtp://localhost:1"),
        ("PORTCULLIS_MAIL_FROM", "\u{3164} <auth@example.com>"),
    ];
    let line = refusal(&directory.0, &settings, &[]);
    assert!(line.contains("PORTCULLIS_MAIL_FROM"), "{line}");
}
