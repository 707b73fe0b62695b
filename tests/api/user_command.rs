//! `portcullis user …`.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::json;

use crate::TestApp;
use crate::app::PASSWORD;

/// Runs the command with a line on its standard input.
pub async fn portcullis(app: &TestApp, arguments: &[&str], line: &str) -> Output {
    portcullis_with(app, &[], arguments, line).await
}

/// As [`portcullis`], with more settings.
pub async fn portcullis_with(
    app: &TestApp,
    settings: &[(&str, &str)],
    arguments: &[&str],
    line: &str,
) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command
        .args(arguments)
        .env_clear()
        .env("DATABASE_URL", app.database_url())
        .env("PORTCULLIS_BCRYPT_COST", "4")
        .envs(settings.iter().copied())
        .current_dir(std::env::temp_dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let line = line.to_owned();
    let run = move || {
        let mut child = command.spawn().unwrap();
        // It may end without reading.
        let _ = writeln!(child.stdin.take().unwrap(), "{line}");
        child.wait_with_output().unwrap()
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn told(output: &Output) -> String {
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

#[tokio::test]
async fn an_operator_makes_an_admin() {
    let app = TestApp::start().await;
    let create = [
        "user",
        "create",
        "--username",
        "Root",
        "--email",
        "root@example.com",
        "--role",
        "admin",
        "--password-stdin",
    ];
    let output = portcullis(&app, &create, PASSWORD).await;
    assert!(output.status.success(), "{output:?}");
    let login = json!({"identifier": "root", "password": PASSWORD});
    assert_eq!(app.anonymous().post("/login", login).await.ok()["user"]["role"], "admin");
    assert!(told(&portcullis(&app, &create, PASSWORD).await).contains("taken"));
}

#[tokio::test]
async fn what_the_api_would_refuse_the_command_refuses() {
    let app = TestApp::start().await;
    for (arguments, password, expected) in [
        (&["--username", "ab"][..], PASSWORD, "--username must have at least 3 characters"),
        (&["--email", "nonsense"], PASSWORD, "--email must be an email address"),
        (&["--username", "alice"], "short", "the password must have at least 8 characters"),
        (&["--username", "alice", "--role", "king"], PASSWORD, "user, admin"),
        (&[], PASSWORD, "--email"),
    ] {
        let arguments = [&["user", "create", "--password-stdin"], arguments].concat();
        let line = told(&portcullis(&app, &arguments, password).await);
        assert!(line.contains(expected), "{line}");
    }
    let line = told(&portcullis(&app, &["user", "create", "--username", "alice"], PASSWORD).await);
    assert!(line.contains("--password-stdin"), "{line}");
    assert_eq!(app.count("users").await, 0);
}

#[tokio::test]
async fn a_new_password_ends_the_sessions_made_with_the_old() {
    let app = TestApp::start().await;
    let (user, other) = (app.user().await, app.user().await);
    let new = "another password altogether";
    let set = ["user", "set-password", user.username(), "--password-stdin"];
    let output = portcullis(&app, &set, new).await;
    assert!(output.status.success(), "{output:?}");
    user.get("/me").await.problem(401, "session_expired");
    other.get("/me").await.ok();
    user.login().await.problem(401, "invalid_credentials");
    user.post("/login", json!({"identifier": user.username(), "password": new})).await.status(200);
}

#[tokio::test]
async fn a_password_from_powershell_has_no_byte_order_mark_and_no_line_break() {
    let app = TestApp::start().await;
    let create = ["user", "create", "--username", "alice", "--password-stdin"];
    let line = format!("\u{feff}{PASSWORD}\r");
    assert!(portcullis(&app, &create, &line).await.status.success());
    let login = json!({"identifier": "alice", "password": PASSWORD});
    app.anonymous().post("/login", login).await.ok();
}

#[tokio::test]
async fn a_disabled_account_is_out_at_once_and_back_when_enabled() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let secret = user.login().await.cookie();
    assert!(portcullis(&app, &["user", "disable", user.username()], "").await.status.success());
    app.with_cookie(&secret).get("/me").await.problem(401, "session_expired");
    user.login().await.problem(403, "account_disabled");
    assert!(portcullis(&app, &["user", "enable", user.username()], "").await.status.success());
    // What was ended stays ended.
    app.with_cookie(&secret).get("/me").await.problem(401, "session_expired");
    user.login().await.status(200);
}

#[tokio::test]
async fn an_account_that_is_not_there_is_told() {
    let app = TestApp::start().await;
    for arguments in [
        &["user", "disable", "nobody"][..],
        &["user", "set-password", "nobody", "--password-stdin"],
    ] {
        let line = told(&portcullis(&app, arguments, PASSWORD).await);
        assert!(line.contains("no account nobody"), "{line}");
    }
}

#[tokio::test]
async fn migrations_may_run_any_number_of_times_at_once() {
    let app = TestApp::start().await;
    let (a, b, c) = tokio::join!(
        portcullis(&app, &["migrate"], ""),
        portcullis(&app, &["migrate"], ""),
        portcullis(&app, &["migrate"], ""),
    );
    for output in [a, b, c] {
        assert!(output.status.success(), "{output:?}");
    }
}

#[tokio::test]
async fn the_openapi_command_prints_the_document() {
    let app = TestApp::start().await;
    let output = portcullis(&app, &["openapi"], "").await;
    assert_eq!(String::from_utf8(output.stdout).unwrap(), portcullis::openapi::json().unwrap());
}
