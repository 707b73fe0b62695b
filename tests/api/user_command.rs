//! `portcullis user …`.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

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

/// What a command that must succeed prints.
async fn printed(app: &TestApp, arguments: &[&str]) -> String {
    let output = portcullis(app, arguments, PASSWORD).await;
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn user_list_prints_what_the_api_lists() {
    let app = TestApp::start().await;
    let (admin, user) = (app.admin().await, app.user().await);
    let named = json!({"username": "carol", "name": "Carol Ünal", "password": PASSWORD});
    admin.post("/users", named).await.status(201);
    app.user_at("dave@example.com").await;
    app.sql("update users set is_active = false where username = 'carol'").await;
    let api = admin.get("/users").await.ok()["items"].clone();
    let lines = json_lines(&printed(&app, &["user", "list", "--json"]).await);
    assert_eq!(Value::from(lines), api);
    for (arguments, query) in [
        (&["--role", "admin"][..], "role=admin"),
        (&["--disabled"], "is_active=false"),
        (&["--active"], "is_active=true"),
        (&["--search", "ünal"], "q=%C3%BCnal"),
        (&["--search", "example.com", "--active"], "q=example.com&is_active=true"),
        (&["--search", "nobody"], "q=nobody"),
    ] {
        let arguments = [&["user", "list", "--json"], arguments].concat();
        let expected = admin.get(&format!("/users?{query}")).await.ok()["items"].clone();
        assert_eq!(Value::from(json_lines(&printed(&app, &arguments).await)), expected, "{query}");
    }
    let text = printed(&app, &["user", "list"]).await;
    let lines: Vec<Vec<_>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0][..4], ["USERNAME", "EMAIL", "ROLE", "STATUS"], "{text}");
    assert_eq!(lines[1][..4], ["-", "dave@example.com", "user", "active"], "{text}");
    assert_eq!(lines[2][..5], ["carol", "-", "user", "disabled", "-"], "{text}");
    assert_eq!((lines[3][0], lines[4][2]), (user.username(), "admin"), "{text}");
    assert_eq!(lines[4].last(), Some(&admin.id()), "{text}");
}

#[tokio::test]
async fn user_list_prints_every_account_however_many_there_are() {
    let app = TestApp::start().await;
    let fill = "insert into users (id, username, password_hash)
                select gen_random_uuid(), 'user-' || n, 'x' from generate_series(1, 1234) n";
    app.sql(fill).await;
    let lines = json_lines(&printed(&app, &["user", "list", "--json"]).await);
    let ids: std::collections::BTreeSet<_> =
        lines.iter().map(|user| user["id"].to_string()).collect();
    assert_eq!((lines.len(), ids.len()), (1234, 1234));
    let text = printed(&app, &["user", "list"]).await;
    assert_eq!(text.lines().count(), 1235);
    assert_eq!(text.matches("USERNAME").count(), 1);
}

#[tokio::test]
async fn user_set_role_promotes_and_demotes_like_the_api() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let set = |name: String, role: &'static str| {
        let app = &app;
        async move { portcullis(app, &["user", "set-role", &name, role], "").await }
    };
    let name = user.username().to_owned();
    assert!(set(name.clone(), "admin").await.status.success());
    // A session from before the promotion does not become an admin's.
    user.get("/me").await.problem(401, "session_expired");
    assert_eq!(user.login().await.ok()["user"]["role"], "admin");
    let token = user.token(json!({"name": "t", "scopes": ["admin"]})).await;
    let last = told(&set(name.clone(), "user").await);
    assert!(last.contains("This is the last active admin"), "{last}");
    app.admin().await;
    assert!(set(name.clone(), "user").await.status.success());
    app.with_token(&token).get("/me").await.problem(401, "invalid_token");
    assert_eq!(user.login().await.ok()["user"]["role"], "user");
    let again = set(name.clone(), "user").await;
    assert!(String::from_utf8(again.stdout).unwrap().contains("already has the role user"));
    user.get("/me").await.ok();
    let roles = "select count(*) from audit_events where kind = 'user_updated' and actor_id is null
                 and details->'fields' = '[\"role\"]'::jsonb";
    let roles: i64 = sqlx::query_scalar(roles).fetch_one(&app.pool).await.unwrap();
    assert_eq!(roles, 2);
    assert!(told(&set(name, "king").await).contains("user, admin"));
    assert!(told(&set("nobody".to_owned(), "admin").await).contains("no account nobody"));
}

#[tokio::test]
async fn user_create_prints_the_account_as_json_for_scripts() {
    let app = TestApp::start().await;
    let create = ["user", "create", "--username", "alice", "--password-stdin", "--json"];
    let user: Value = serde_json::from_str(&printed(&app, &create).await).unwrap();
    let login = json!({"identifier": "alice", "password": PASSWORD});
    assert_eq!(app.anonymous().post("/login", login).await.ok()["user"]["id"], user["id"]);
}

#[tokio::test]
async fn token_create_prints_a_secret_that_a_script_can_use() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let create = ["token", "create", user.username(), "--name", "backup script"];
    // Alone on standard output, for TOKEN=$(portcullis token create …).
    let output = portcullis(&app, &create, "").await;
    assert!(output.status.success(), "{output:?}");
    let secret = String::from_utf8(output.stdout).unwrap();
    let explained = String::from_utf8(output.stderr).unwrap();
    assert!(
        explained.contains("scopes read, expires at ") && !explained.contains("pct_"),
        "{explained}"
    );
    let token = app.with_token(secret.strip_suffix('\n').unwrap());
    assert_eq!(token.get("/me").await.ok()["id"], user.id());
    token.patch("/me", json!({"name": "x"})).await.problem(403, "insufficient_scope");

    let more = ["--scope", "write", "--scope", "read", "--scope", "read", "--no-expiry", "--json"];
    let body: Value =
        serde_json::from_str(&printed(&app, &[&create[..], &more].concat()).await).unwrap();
    assert_eq!(body["api_token"]["scopes"], json!(["read", "write"]));
    assert_eq!(body["api_token"]["expires_at"], Value::Null);
    let listed = user.get("/me/tokens").await.ok()["items"].clone();
    assert_eq!(listed[0]["id"], body["api_token"]["id"]);
    assert_eq!(listed[1]["name"], "backup script");
    app.with_token(body["token"].as_str().unwrap()).patch("/me", json!({"name": "x"})).await.ok();
    let short = [&create[..], &["--expires-in", "90d", "--json"]].concat();
    let body: Value = serde_json::from_str(&printed(&app, &short).await).unwrap();
    let soon = "select expires_at between now() + interval '89 days' and now() + interval '90 days'
                from api_tokens where id = $1::text::uuid";
    let id = body["api_token"]["id"].as_str().unwrap();
    assert!(sqlx::query_scalar::<_, bool>(soon).bind(id).fetch_one(&app.pool).await.unwrap());
    let events = "audit_events where kind = 'token_created' and actor_id is null";
    assert_eq!(app.count(events).await, 3);
}

#[tokio::test]
async fn token_create_has_the_rules_of_the_api() {
    let app = TestApp::start().await;
    let user = app.user().await;
    for (arguments, expected) in [
        (&[user.username(), "--name", "t", "--scope", "admin"][..], "only tokens of admins"),
        (
            &[user.username(), "--name", "\u{200b}"],
            "--name must have at least one visible character",
        ),
        (&[user.username(), "--name", "t", "--scope", "everything"], "read, write, admin"),
        (&[user.username(), "--name", "t", "--expires-in", "0s"], "from 1s"),
        (&[user.username(), "--name", "t", "--expires-in", "1d", "--no-expiry"], "--no-expiry"),
        (&["nobody", "--name", "t"], "no account nobody"),
        (&[user.username()], "--name"),
    ] {
        let arguments = [&["token", "create"], arguments].concat();
        let line = told(&portcullis(&app, &arguments, "").await);
        assert!(line.contains(expected), "{line}");
    }
    app.sql("update users set is_active = false").await;
    let create = ["token", "create", user.username(), "--name", "t"];
    let line = told(&portcullis(&app, &create, "").await);
    assert!(line.contains("disabled"), "{line}");
    app.sql("update users set is_active = true").await;
    app.sql(
        "insert into api_tokens (id, user_id, name, hash, scopes)
         select gen_random_uuid(), id, 't', sha256(n::text::bytea), '{read}' from users, generate_series(1, 50) n",
    )
    .await;
    let line = told(&portcullis(&app, &create, "").await);
    assert!(line.contains("50"), "{line}");
    assert_eq!(app.count("api_tokens").await, 50);
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
    assert!(output.stdout == portcullis::openapi::json().unwrap().into_bytes());
}

#[tokio::test]
async fn the_help_of_every_command_is_short_and_plain() {
    let app = TestApp::start().await;
    for command in [
        "",
        "serve",
        "migrate",
        "doctor",
        "openapi",
        "health",
        "user",
        "user list",
        "user create",
        "user import",
        "user set-role",
        "user set-password",
        "user disable",
        "user enable",
        "token",
        "token create",
    ] {
        let arguments: Vec<_> = command.split_whitespace().chain(["--help"]).collect();
        let help = printed(&app, &arguments).await;
        let help: String = help.lines().map(|line| format!("{}\n", line.trim_end())).collect();
        for word in ["As it says", "hoever", "hatever", "is told", "stands", "believed", " mails"] {
            assert!(!help.contains(word), "{command}: {word}: {help}");
        }
        // The options have a paragraph each.
        let options = help.split("Options:").nth(1).unwrap().split("Secrets are").next().unwrap();
        for sentence in options.split("\n\n").flat_map(|text| text.split([';', '.', '['])) {
            let words = sentence.split_whitespace().filter(|word| !word.starts_with('-')).count();
            assert!(words <= 25 || sentence.contains("Possible values"), "{command}: {sentence}");
        }
    }
}
