//! What must never be written down.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::Signal;
use serde_json::json;

use crate::TestApp;
use crate::app::{Answer, PASSWORD};
use crate::collector::{Collector, Manner};
use crate::serve::{Directory, Service};
use crate::smtp::{Mail, Mailbox, Options, Tls};

/// What opens something, in a mail with a link.
fn opened(mail: &Mail) -> [String; 3] {
    [mail.token(), mail.code(), grouped(&mail.code())]
}

/// A code as it is mailed.
fn grouped(code: &str) -> String {
    format!("{}-{}", &code[..4], &code[4..])
}

#[tokio::test]
async fn no_secret_is_in_the_log_even_at_trace_nor_in_a_trace() {
    let mut app = TestApp::start().await;
    let directory = Directory::new();
    let mailbox = Mailbox::with(Options {
        tls: Tls::None,
        login: Some(("auth", "hunter2hunter2")),
        ..Options::default()
    });
    let mailbox = mailbox.await;
    let collector = Collector::start(Manner::Takes).await;
    let (database, smtp_url) = (app.database_url(), mailbox.url());
    let settings = [
        ("DATABASE_URL", &*database),
        ("PORTCULLIS_SMTP_URL", &*smtp_url),
        ("PORTCULLIS_MAIL_FROM", "auth@example.com"),
        ("PORTCULLIS_LOGIN_CODE", "on"),
        ("PORTCULLIS_LOG", "trace"),
        ("PORTCULLIS_BASIC_AUTH", "on"),
        ("PORTCULLIS_API_KEY_QUERY", "on"),
        ("PORTCULLIS_METRICS_LISTEN", "127.0.0.1:0"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.url),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20hunter2collector"),
        ("PORTCULLIS_ADMIN_USERNAME", "root"),
        ("PORTCULLIS_ADMIN_PASSWORD", "the first password of an admin"),
    ];
    let service = Service::start(&directory.0, &settings);
    app.base.clone_from(&service.base);
    let user = app.user().await;
    let wrong = "the wrong password of somebody";
    let new = "the new password of somebody";
    let mut secrets = vec![PASSWORD.to_owned(), wrong.to_owned(), new.to_owned()];

    let account = json!({"username": "bob", "password": PASSWORD});
    for login in [user.login().await, app.anonymous().post("/users", account).await] {
        secrets.push(login.cookie());
        secrets.extend(login.set_cookie("portcullis-device"));
    }
    let registered = app
        .anonymous()
        .post(
            "/login",
            json!({"identifier": user.username(), "password": PASSWORD, "transport": "token"}),
        )
        .await
        .status(200);
    let device = registered.body["device_token"].as_str().unwrap().to_owned();
    secrets.extend([registered.token(), device.clone()]);
    let guess = json!({"identifier": user.username(), "password": wrong, "device_token": device});
    app.anonymous().post("/login", guess).await.status(401);
    let token = user.token(json!({"name": "t", "scopes": ["read", "write"]})).await;
    secrets.push(token.clone());
    app.with_token(&token).get("/me").await.ok();
    app.anonymous().get(&format!("/me?api_key={token}")).await.ok();
    app.anonymous().with("x-api-key", &token).get("/me").await.ok();
    let basic = STANDARD.encode(format!("{}:{PASSWORD}", user.username()));
    app.anonymous().with("authorization", &format!("Basic {basic}")).get("/me").await.ok();
    secrets.push(basic);
    let change = json!({"current_password": PASSWORD, "new_password": new});
    secrets.push(user.put("/me/password", change).await.status(200).cookie());
    let confirmed = user.post("/me/reauthenticate", json!({"password": new})).await.status(200);
    secrets.push(confirmed.cookie());
    // What is wrong with a request is told, and what it held is not.
    let odd = json!({"identifier": user.username(), "password": {"is": wrong}});
    user.post("/login", odd).await.faults();
    let cut = format!(r#"{{"password": "{wrong}", "#);
    let cut = app.anonymous().request(reqwest::Method::POST, "/login").body(cut);
    Answer::to(cut.header("content-type", "application/json")).await.problem(400, "malformed");
    app.sql("alter table users rename column password_hash to elsewhere").await;
    let login = json!({"identifier": user.username(), "password": new});
    app.anonymous().post("/login", login).await.problem(500, "internal");
    app.sql("alter table users rename column elsewhere to password_hash").await;
    user.call("/logout").await.status(204);

    let alice = "alice@example.com";
    app.user_at(alice).await;
    let ask = json!({"email": alice});
    secrets.extend(opened(&mailbox.next_to(alice, 1).await));
    app.anonymous().post("/password/forgot", ask.clone()).await.status(202);
    secrets.extend(opened(&mailbox.next_to(alice, 2).await));
    let asked = app.anonymous().post("/login/code", ask).await.status(202);
    let code = mailbox.next_to(alice, 3).await.code();
    let request = asked.body["request"].as_str().unwrap().to_owned();
    let given = json!({"email": alice, "code": code, "request": request});
    app.anonymous().post("/login/code/verify", given).await.status(200);
    secrets.push(request);
    secrets.extend([grouped(&code), code]);
    let token = mailbox.next_to(alice, 2).await.token();
    app.anonymous().get(&format!("/password/reset?token={token}")).await.status(200);
    let of_settings = ["hunter2hunter2", "the first password of an admin"];
    secrets.extend(of_settings.map(str::to_owned));

    let stop = move || service.stop(Signal::TERM);
    tokio::task::spawn_blocking(stop).await.unwrap();
    let log = std::fs::read_to_string(directory.0.join("log")).unwrap();
    // It is the whole log: of the service, of what it stands on, and at every level.
    for there in
        ["logged_in", "login_failed", "TRACE", "DEBUG", "portcullis::request_id", "sqlx::query"]
    {
        assert!(log.contains(there), "{there}");
    }
    // The collector itself receives this one with every request.
    assert!(!log.contains("hunter2collector"));
    let hashes: Vec<String> =
        sqlx::query_scalar("select password_hash from users").fetch_all(&app.pool).await.unwrap();
    let traces = collector.text();
    assert!(traces.contains("POST /login/code/verify") && traces.contains("db.query.text"));
    for secret in secrets.iter().chain(&hashes) {
        assert!(secret.len() >= 8);
        let line = log.lines().find(|line| line.contains(secret.as_str()));
        assert!(line.is_none(), "{secret:?} in {line:?}");
        assert!(!traces.contains(secret.as_str()), "{secret:?} in a trace");
    }
}
