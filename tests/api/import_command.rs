//! `portcullis user import`.

use std::fs;

use serde_json::json;

use crate::TestApp;
use crate::app::PASSWORD;
use crate::user_command::portcullis;

/// A file that goes with the test.
struct Lines(std::path::PathBuf);

impl Lines {
    fn new(text: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("portcullis-import-{:016x}", rand::random::<u64>()));
        fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn accounts_come_over_with_their_passwords_and_again_changes_nothing() {
    let app = TestApp::start().await;
    let plain = bcrypt::hash(PASSWORD, 4).unwrap();
    let passlib =
        "$bcrypt-sha256$v=2,t=2b,r=5$G5bXpAkzXphU6PJLcX7wTO$yO04G2.3QzOiEkeNwCD71zprvNPLzzu";
    let mut lines = vec![
        json!({"username": "Alice", "email": "Alice@Example.com", "name": "Alice", "password_hash": plain, "created_at": "2020-02-29T12:00:00+01:00", "role": "admin"}),
        json!({"email": "bob@example.com", "password_hash": passlib, "is_active": true}),
        json!({"username": "carol", "password_hash": plain, "is_active": false}),
    ];
    lines.extend(
        (0..1200).map(|n| json!({"username": format!("user-{n}"), "password_hash": plain})),
    );
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let file = Lines::new(&format!("{text}\n"));
    for expected in
        ["1203 accounts made, 0 were there already\n", "0 accounts made, 1203 were there already\n"]
    {
        let output = portcullis(&app, &["user", "import", file.path()], "").await;
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    }
    assert_eq!((app.count("users").await, app.count("audit_events").await), (1203, 1203));
    // Whoever brings accounts over knows whose verified addresses are: nothing is left to prove.
    assert_eq!(app.count("users where email_verified <> password_proven").await, 0);
    let alice = app
        .anonymous()
        .post("/login", json!({"identifier": "alice", "password": PASSWORD}))
        .await
        .ok();
    assert_eq!(alice["user"]["role"], "admin");
    assert_eq!(alice["user"]["created_at"], "2020-02-29T11:00:00Z");
    app.anonymous()
        .post("/login", json!({"identifier": "bob@example.com", "password": PASSWORD}))
        .await
        .ok();
    let carol = json!({"identifier": "carol", "password": PASSWORD});
    app.anonymous().post("/login", carol).await.problem(403, "account_disabled");
}

#[tokio::test]
async fn refused_lines_are_told_with_their_number_and_reason_and_the_others_come_over() {
    let app = TestApp::start().await;
    let hash = bcrypt::hash(PASSWORD, 4).unwrap();
    let lines = [
        json!({"username": "alice", "email": "alice@example.com", "password_hash": hash})
            .to_string(),
        "nonsense".to_owned(),
        json!({"username": "x", "password_hash": hash}).to_string(),
        json!({"password_hash": hash}).to_string(),
        json!({"username": "bob", "password_hash": "pbkdf2:sha256:1$salt$hash"}).to_string(),
        json!({"username": "bob", "password_hash": hash, "shoe_size": 43}).to_string(),
        json!({"username": "alice", "email": "other@example.com", "password_hash": hash})
            .to_string(),
        json!({"username": "bob", "created_at": "yesterday", "password_hash": hash}).to_string(),
        json!({"username": "carol", "password_hash": hash}).to_string(),
        json!(["dave", null, null, hash, true, null, null]).to_string(),
        r#"{"username": "dave", "\u001b[2J": 1}"#.to_owned(),
    ];
    let file = Lines::new(&lines.join("\n"));
    let output = portcullis(&app, &["user", "import", file.path()], "").await;
    assert!(!output.status.success());
    let told = String::from_utf8(output.stderr).unwrap();
    for (line, reason) in [
        (2, "expected"),
        (3, "at least 3 characters"),
        (4, "username or email"),
        (5, "bcrypt"),
        (6, "shoe_size"),
        (7, "another account"),
        (8, "2027-12-31T00:00:00Z"),
        (10, "object"),
        (11, "unknown field"),
    ] {
        let start = format!("{}:{line}: ", file.path());
        let found = told
            .lines()
            .find(|text| text.starts_with(&start))
            .unwrap_or_else(|| panic!("{line}: {told}"));
        assert!(found.contains(reason), "{found}");
    }
    assert!(told.contains("2 accounts made, 0 were there already, 9 lines were refused"), "{told}");
    assert!(!told.contains(&hash) && !told.contains('\u{1b}'), "{told}");
    assert_eq!(app.count("users").await, 2);
}

#[tokio::test]
async fn long_passwords_of_flask_bcrypt_come_over_by_a_flag() {
    let app = TestApp::start().await;
    let password = "long ".repeat(30);
    let digest = <sha2::Sha256 as sha2::Digest>::digest(&password);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let line =
        json!({"username": "alice", "password_hash": bcrypt::hash(hex, 4).unwrap()}).to_string();
    let file = Lines::new(&line);
    let output = portcullis(&app, &["user", "import", "--long-passwords", file.path()], "").await;
    assert!(output.status.success(), "{output:?}");
    let login = json!({"identifier": "alice", "password": password});
    app.anonymous().post("/login", login.clone()).await.ok();
    let hash: String =
        sqlx::query_scalar("select password_hash from users").fetch_one(&app.pool).await.unwrap();
    assert!(hash.starts_with("$bcrypt-sha256$v=2"), "{hash}");
    app.anonymous().post("/login", login).await.ok();
}

#[tokio::test]
async fn a_file_that_is_not_there_is_told() {
    let app = TestApp::start().await;
    let output = portcullis(&app, &["user", "import", "/nonexistent.jsonl"], "").await;
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("/nonexistent.jsonl") && told.lines().count() == 1, "{told}");
}
