//! `portcullis user import`.

use std::fs;

use serde_json::json;

use crate::TestApp;
use crate::app::PASSWORD;
use crate::user_command::portcullis;

/// A file that goes with the test.
struct Lines(std::path::PathBuf);

impl Lines {
    fn new(text: impl AsRef<[u8]>) -> Self {
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
    let file = Lines::new(format!("{text}\n"));
    for expected in
        ["created 1203 accounts, 0 existed already\n", "created 0 accounts, 1203 existed already\n"]
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
    let file = Lines::new(lines.join("\n"));
    let output = portcullis(&app, &["user", "import", file.path()], "").await;
    assert!(!output.status.success());
    let told = String::from_utf8(output.stderr).unwrap();
    for (line, reason) in [
        (2, "a JSON object is expected"),
        (3, "username must have at least 3 characters"),
        (4, "username or email"),
        (5, "password_hash is neither bcrypt"),
        (6, "shoe_size is not known here"),
        (7, "another account has this username"),
        (8, "created_at must be a time such as 2027-12-31T00:00:00Z"),
        (10, "object"),
        (11, "is not known here"),
    ] {
        let start = format!("{}:{line}: ", file.path());
        let found = told
            .lines()
            .find(|text| text.starts_with(&start))
            .unwrap_or_else(|| panic!("{line}: {told}"));
        assert!(found.contains(reason), "{found}");
    }
    assert!(told.contains("created 2 accounts, 0 existed already, rejected 9 lines"), "{told}");
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

#[tokio::test]
async fn a_rejected_line_names_the_field_and_the_reason_and_never_line_1() {
    let app = TestApp::start().await;
    let hash = bcrypt::hash(PASSWORD, 4).unwrap();
    app.user_at("taken@example.com").await;
    app.sql("update users set username = 'taken'").await;
    let with = |field: &str, value: serde_json::Value| {
        let mut row = json!({"username": "alice", "password_hash": hash});
        row[field] = value;
        row.to_string()
    };
    let costly = |cost| hash.replace("$04$", cost);
    let too_long = format!("{{\"username\": \"{}\"}}", "x".repeat(70_000));
    for (line, reason) in [
        (
            with("created_at", json!("yesterday")),
            "created_at must be a time such as 2027-12-31T00:00:00Z",
        ),
        (with("created_at", json!(5)), "created_at must be a string"),
        (with("email", json!(["a@example.com"])), "email must be a string"),
        (with("email_verified", json!("yes")), "email_verified must be a boolean"),
        (with("is_active", json!(0)), "is_active must be a boolean"),
        (with("role", json!("king")), "role must be user or admin"),
        (with("role", json!(1)), "role must be another kind of value"),
        (with("email", json!("nonsense")), "email must be an email address"),
        (with("name", json!("\u{7}")), "name must not have control characters"),
        (with("password_hash", json!(null)), "password_hash must be a string"),
        (
            with("password_hash", json!(costly("$17$"))),
            "password_hash has the bcrypt cost 17; a cost from 4 to 16 is accepted",
        ),
        (
            with("password_hash", json!(costly("$31$"))),
            "password_hash has the bcrypt cost 31; a cost from 4 to 16 is accepted",
        ),
        (with("password_hash", json!(&hash[..50])), "password_hash is a damaged bcrypt hash"),
        (
            with("password_hash", json!("$bcrypt-sha256$2b,12$x$y")),
            "password_hash is passlib's bcrypt_sha256, but not version 2",
        ),
        (with("username", json!("taken")), "another account has this username"),
        (with("email", json!("taken@example.com")), "another account has this email address"),
        (json!({"username": "alice"}).to_string(), "password_hash is required"),
        (r#"{"username": "alice", "username": "bob"}"#.to_owned(), "username is given twice"),
        (r#"{"username": "alice",}"#.to_owned(), "the line is not valid JSON: column 22"),
        (r#"{"username": "alice"#.to_owned(), "the line is not valid JSON: column 19"),
        (format!("{0} {0}", with("name", json!("A"))), "the line is not valid JSON: column"),
        (too_long, "the line is longer than 64 KiB"),
    ] {
        let file = Lines::new(format!("\n\n\n{line}\n"));
        let output = portcullis(&app, &["user", "import", file.path()], "").await;
        let told = String::from_utf8(output.stderr).unwrap();
        let expected = format!("{}:4: {reason}", file.path());
        assert!(told.starts_with(&expected), "{expected}: {told}");
        assert!(!told.contains("line 1"), "{told}");
    }
    assert_eq!(app.count("users").await, 1);
}

#[tokio::test]
async fn a_file_from_windows_is_imported_in_utf_8_and_rejected_in_utf_16() {
    let app = TestApp::start().await;
    let hash = bcrypt::hash(PASSWORD, 4).unwrap();
    let line = |name: &str| json!({"username": name, "password_hash": hash}).to_string();
    // Two such files in one: each has a byte order mark at its start.
    let text =
        format!("\u{feff}{}\r\n{}\r\n\u{feff}{}\r\n", line("alice"), line("bob"), line("carol"));
    let file = Lines::new(text);
    let output = portcullis(&app, &["user", "import", file.path()], "").await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(app.count("users").await, 3);

    let units: Vec<u16> = format!("\u{feff}{}\r\n", line("dave")).encode_utf16().collect();
    let little: Vec<u8> = units.iter().copied().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = units.iter().copied().flat_map(u16::to_be_bytes).collect();
    for bytes in [little, big] {
        let file = Lines::new(bytes);
        let output = portcullis(&app, &["user", "import", file.path()], "").await;
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains("UTF-16: save it as UTF-8") && told.lines().count() == 1, "{told}");
    }
    let latin = b"{\"username\": \"dave\", \"name\": \"Ren\xe9\"}";
    let file = Lines::new(latin);
    let output = portcullis(&app, &["user", "import", file.path()], "").await;
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains(":1: the line is not UTF-8"), "{told}");
    assert_eq!(app.count("users").await, 3);
}
