//! `portcullis doctor`, as a person starts it.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;

use sqlx::{ConnectOptions as _, Connection as _};

use crate::TestApp;
use crate::serve::{Directory, Service, command};
use crate::smtp::{Failure, Mailbox, Options, Tls};

/// What it prints, its explanations in one line each, and whether it found no problem.
pub async fn doctor(environment: &[(&str, &str)], arguments: &[&str]) -> (String, bool) {
    let directory = Directory::new();
    doctor_in(&directory.0, environment, arguments).await
}

async fn doctor_in(
    directory: &Path,
    environment: &[(&str, &str)],
    arguments: &[&str],
) -> (String, bool) {
    let mut command = command(directory, environment);
    command.arg("doctor").args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for line in text.lines() {
        assert!(line.chars().count() <= 100 || !line.trim().contains(' '), "{line}");
    }
    assert_eq!(output.status.code(), Some(i32::from(!text.contains("\n0 problems,"))), "{text}");
    (text.replace("\n         ", " "), output.status.success())
}

/// A server that answers every connection with an error and this code.
fn refusing(code: &'static str, message: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let fields = format!("SFATAL\0VFATAL\0C{code}\0M{message}\0\0");
            let length = u32::try_from(fields.len() + 4).unwrap().to_be_bytes();
            let _ = stream.write_all(&[b"E", &length[..], fields.as_bytes()].concat());
        }
    });
    port
}

#[tokio::test]
async fn a_healthy_setup_is_told_line_by_line() {
    let app = TestApp::start().await;
    let url = app.database_url();
    let settings = [("DATABASE_URL", &*url), ("PORTCULLIS_BCRYPT_COST", "")];
    let (text, healthy) = doctor(&settings, &[]).await;
    assert!(healthy, "{text}");
    for part in [
        "every setting has a value that is allowed",
        "the settings fit each other, and none is risky",
        "the cookie is portcullis, HttpOnly, SameSite=Lax, for localhost alone",
        "connected to PostgreSQL at ",
        "clocks of this machine and of PostgreSQL agree",
        "the schema is up to date: ",
        "\n0 problems, 0 warnings, ",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test]
async fn a_warning_is_no_failure() {
    let app = TestApp::start().await;
    let (text, healthy) = doctor(&[("DATABASE_URL", &app.database_url())], &[]).await;
    assert!(healthy && text.contains("warning  PORTCULLIS_BCRYPT_COST is 4"), "{text}");
    assert!(text.contains("0 problems, 1 warning, "), "{text}");
}

#[tokio::test]
async fn migrations_are_compared_and_not_run() {
    let app = TestApp::start().await;
    let url = app.database_url();
    let settings = [("DATABASE_URL", &*url), ("PORTCULLIS_BCRYPT_COST", "")];
    app.sql("delete from _sqlx_migrations where version = 7").await;
    let (text, healthy) = doctor(&settings, &[]).await;
    assert!(healthy && text.contains("warning  migrations are pending: 0007"), "{text}");
    assert!(text.contains("portcullis migrate"), "{text}");
    assert_eq!(app.sql("select from _sqlx_migrations where version = 7").await, 0);

    app.sql("update _sqlx_migrations set checksum = 'x' where version = 1").await;
    app.sql("update _sqlx_migrations set success = false where version = 2").await;
    app.sql("update _sqlx_migrations set version = 9999 where version = 6").await;
    let (text, healthy) = doctor(&settings, &[]).await;
    assert!(!healthy, "{text}");
    for part in [
        "problem  migration 0001 (users) was applied with another text",
        "problem  migration 0002 (sessions) was begun and not finished",
        "does not know: 9999 (throttles)",
        "pending: 0006 (throttles), 0007",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test]
async fn an_empty_database_stays_empty() {
    let app = TestApp::start().await;
    app.sql("drop schema public cascade").await;
    app.sql("create schema public").await;
    let (text, healthy) = doctor(&[("DATABASE_URL", &app.database_url())], &[]).await;
    assert!(healthy && text.contains("migrations are pending: 0001"), "{text}");
    assert_eq!(
        app.sql("select from pg_class where relnamespace = 'public'::regnamespace").await,
        0
    );
}

#[tokio::test]
async fn each_failure_to_connect_is_told_in_plain_words_and_without_the_password() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let wrong = "password authentication failed for user \"alice\"";
    for (port, parts) in [
        (closed, ["nothing listens at 127.0.0.1", "DATABASE_URL"]),
        (refusing("28P01", wrong), ["refuses the password of alice", "percent-encoded"]),
        (refusing("28000", "no pg_hba.conf entry"), ["does not let alice in", "pg_hba.conf"]),
        (refusing("3D000", "no such database"), ["has no database lock", "createdb"]),
        (refusing("53300", "too many"), ["no connection left", "PORTCULLIS_DATABASE_CONNECTIONS"]),
        (
            refusing("08P01", "unsupported startup parameter in options: lock_timeout"),
            ["the pooler at 127.0.0.1", "connect_query"],
        ),
        (refusing("42P05", "already exists"), ["loses prepared", "max_prepared_statements"]),
        (refusing("57P03", "starting up"), ["starting up", "Try again"]),
    ] {
        let url = format!("postgres://alice:hunter2@127.0.0.1:{port}/lock?sslmode=disable");
        let (text, healthy) = doctor(&[("DATABASE_URL", &url)], &[]).await;
        assert!(!healthy && text.contains("1 problem, "), "{text}");
        assert!(parts.iter().all(|part| text.contains(part)), "{parts:?}: {text}");
        assert!(!text.contains("hunter2"), "{text}");
        // The rest is told all the same.
        assert!(text.contains("the cookie is portcullis"), "{text}");
    }
    let unknown = [("DATABASE_URL", "postgres://alice:hunter2@db.invalid/lock")];
    let (text, _) = doctor(&unknown, &[]).await;
    assert!(text.contains("there is no host called db.invalid"), "{text}");
    let gone = [("DATABASE_URL", "postgres:///lock?host=/nonexistent")];
    let (text, _) = doctor(&gone, &[]).await;
    assert!(text.contains("there is no PostgreSQL socket at /nonexistent"), "{text}");
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let url = format!("postgres://alice:hunter2@127.0.0.1:{port}/lock");
    let (text, healthy) = doctor(&[("DATABASE_URL", &url)], &[]).await;
    assert!(!healthy && text.contains("does not answer within 5 s"), "{text}");
}

#[tokio::test]
async fn every_wrong_setting_is_told_at_once_and_the_database_is_still_looked_at() {
    let app = TestApp::start().await;
    let url = app.database_url();
    let settings = [
        ("DATABASE_URL", &*url),
        ("PORTCULLIS_BCRYPT_COST", "99"),
        ("PORTCULLIS_REGISTRATION", "maybe"),
        ("PORTCULLIS_COOKIE_DOMAIN", "auth.example.com"),
    ];
    let (text, healthy) = doctor(&settings, &[]).await;
    assert!(!healthy, "{text}");
    for part in [
        "problem  PORTCULLIS_BCRYPT_COST=\"99\" is not allowed: it must be a whole number from 4",
        "problem  PORTCULLIS_REGISTRATION=\"maybe\" is not allowed",
        "connected to PostgreSQL",
        "\n2 problems, ",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("SameSite"), "{text}");
}

#[tokio::test]
async fn settings_that_do_not_fit_are_told_with_the_reason() {
    for (settings, parts) in [
        (
            [("PORTCULLIS_COOKIE_SAMESITE", "none"), ("PORTCULLIS_ALLOWED_ORIGINS", "")],
            ["needs an https PORTCULLIS_PUBLIC_URL", "SameSite=None without https"],
        ),
        (
            [
                ("PORTCULLIS_COOKIE_DOMAIN", "example.com"),
                ("PORTCULLIS_PUBLIC_URL", "http://auth.example.org"),
            ],
            ["must be the host of PORTCULLIS_PUBLIC_URL", "does not cover auth.example.org"],
        ),
        (
            [
                ("PORTCULLIS_ALLOWED_ORIGINS", "http://127.0.0.1:5173"),
                ("PORTCULLIS_COOKIE_SAMESITE", "lax"),
            ],
            [
                "keep and send no cookie when pages of http://127.0.0.1:5173 call",
                "open the page at http://localhost:5173",
            ],
        ),
    ] {
        let (text, healthy) = doctor(&settings, &[]).await;
        assert!(!healthy, "{text}");
        assert!(parts.iter().all(|part| text.contains(part)), "{parts:?}: {text}");
    }
    let secret = [("DATABASE_URL", "mysql://alice:hunter2@localhost/lock")];
    let (text, healthy) = doctor(&secret, &[]).await;
    assert!(!healthy && !text.contains("hunter2"), "{text}");
    assert!(text.contains("problem  DATABASE_URL must begin with postgres://"), "{text}");
}

#[tokio::test]
async fn no_embedded_postgresql_is_made_and_that_of_a_service_is_joined() {
    let directory = Directory::new();
    let (text, healthy) = doctor_in(&directory.0, &[], &[]).await;
    assert!(healthy && text.contains("no embedded PostgreSQL has been made"), "{text}");
    assert!(!directory.0.join(".portcullis").exists());

    let service = Service::start(&directory.0, &[]);
    let (text, healthy) = doctor_in(&directory.0, &[], &[]).await;
    assert!(healthy && text.contains("the schema is up to date"), "{text}");
    service.stop(rustix::process::Signal::TERM);
    // It is started for the look, and stopped again.
    let (text, healthy) = doctor_in(&directory.0, &[], &[]).await;
    assert!(healthy && text.contains("(embedded PostgreSQL), version "), "{text}");
}

#[tokio::test]
async fn what_keeps_the_service_from_writing_is_told() {
    let app = TestApp::start().await;
    let options = app.database_options();
    let database = options.get_database().unwrap().to_owned();
    let mut connection = options.connect().await.unwrap();
    let sql = format!("alter database {database} set default_transaction_read_only = on");
    sqlx::query(&sql).execute(&mut connection).await.unwrap();
    let sql = format!("alter database {database} connection limit 12");
    sqlx::query(&sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let (text, healthy) = doctor(&[("DATABASE_URL", &app.database_url())], &[]).await;
    assert!(!healthy && text.contains("problem  this database takes no writes"), "{text}");
    assert!(text.contains("takes 12 connections of this account"), "{text}");
}

/// What it says of mail, with the login `auth:hunter2` of a server.
async fn doctor_of_mail(url: &str, certificate: &str, arguments: &[&str]) -> (String, bool) {
    let directory = Directory::new();
    let trusted = directory.0.join("ca.pem");
    std::fs::write(&trusted, certificate).unwrap();
    let settings = [
        // Nothing else is looked at for long.
        ("DATABASE_URL", "postgres://127.0.0.1:1/x"),
        ("PORTCULLIS_SMTP_URL", url),
        ("PORTCULLIS_MAIL_FROM", "Example <auth@example.com>"),
        ("PORTCULLIS_RESET_URL", "https://app.example.com/reset"),
        ("SSL_CERT_FILE", trusted.to_str().unwrap()),
    ];
    let (text, healthy) = doctor_in(&directory.0, &settings, arguments).await;
    assert!(!text.contains("hunter2"), "{text}");
    (text, healthy)
}

#[tokio::test]
async fn the_mail_server_is_asked_and_a_test_mail_is_sent() {
    for tls in [Tls::None, Tls::Starttls, Tls::Wrapped] {
        let mailbox =
            Mailbox::with(Options { tls, login: Some(("auth", "hunter2")), ..Options::default() })
                .await;
        let (url, certificate) = (mailbox.url(), mailbox.certificate().to_owned());
        let (text, _) = doctor_of_mail(&url, &certificate, &[]).await;
        assert!(text.contains("the mail server answers: smtp"), "{text}");
        assert!(text.contains("PORTCULLIS_VERIFY_URL is not set"), "{text}");
        assert!(!text.contains("PORTCULLIS_RESET_URL is not set"), "{text}");
        assert_eq!((mailbox.received().len(), mailbox.logins()), (0, 1));
        let send = ["--send-test-mail", "alice@example.com"];
        let (text, _) = doctor_of_mail(&url, &certificate, &send).await;
        assert!(text.contains("took a test mail to alice@example.com"), "{text}");
        let mail = mailbox.next_to("alice@example.com", 1).await;
        assert!(mail.text.contains("portcullis doctor"), "{mail:?}");
        mailbox.fail(Failure::RefuseRecipient(550), 1);
        let (text, healthy) = doctor_of_mail(&url, &certificate, &send).await;
        assert!(text.contains("did not take a test mail") && !healthy, "{text}");
        let (text, _) = doctor_of_mail(&url, &certificate, &["--send-test-mail", "alice"]).await;
        assert!(text.contains("must be an email address"), "{text}");
    }
}

#[tokio::test]
async fn each_way_in_which_mail_fails_is_told_in_plain_words() {
    let login = Some(("auth", "hunter2"));
    let plain = Mailbox::with(Options { tls: Tls::None, login, ..Options::default() }).await;
    let wrapped = Mailbox::with(Options { tls: Tls::Wrapped, login, ..Options::default() }).await;
    let port = |url: &str| url.rsplit(':').next().unwrap().to_owned();
    let (plain_port, wrapped_port) = (port(&plain.url()), port(&wrapped.url()));
    for (url, certificate, part) in [
        (format!("smtp://auth:hunter22@127.0.0.1:{plain_port}"), &plain, "does not take the login"),
        (wrapped.url(), &plain, "not one that this machine trusts"),
        (format!("smtps://auth:hunter2@127.0.0.1:{plain_port}"), &plain, "does not speak TLS"),
        (format!("smtp://auth:hunter2@127.0.0.1:{wrapped_port}"), &plain, "cannot be used"),
        ("smtp://auth:hunter2@127.0.0.1:1".to_owned(), &plain, "Nothing listens there"),
        ("smtps://auth:hunter2@nowhere.invalid".to_owned(), &plain, "The name is not known here"),
        (
            "smtp://auth:hunter2@nowhere.invalid".to_owned(),
            &plain,
            "sends its password unencrypted",
        ),
    ] {
        let (text, healthy) = doctor_of_mail(&url, certificate.certificate(), &[]).await;
        assert!(text.contains(part) && !healthy, "{part}: {text}");
    }
    assert!(plain.received().is_empty());
    // A wrong setting is told as such, and nothing is said of what stands in for it.
    let wrong = [("PORTCULLIS_SMTP_URL", "http://a:hunter2@localhost")];
    let (text, healthy) = doctor(&wrong, &[]).await;
    assert!(text.contains("PORTCULLIS_SMTP_URL must be") && !healthy, "{text}");
    assert!(!text.contains("hunter2") && !text.contains("mails go"), "{text}");
    let public = [("PORTCULLIS_PUBLIC_URL", "https://auth.example.com")];
    let (text, _) = doctor(&public, &["--send-test-mail", "alice@example.com"]).await;
    assert!(text.contains("no mail is sent") && text.contains("no test mail was sent"), "{text}");
}
