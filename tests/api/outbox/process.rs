//! The same of the whole service, as a process that is killed and stopped.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::{claimed, fill, hurry, lost_and_duplicated};
use crate::TestApp;
use crate::app::PASSWORD;
use crate::serve::{Directory, Service};
use crate::smtp::{Failure, Mail, Mailbox, Options, Tls};

async fn until_empty(app: &TestApp) {
    let start = Instant::now();
    while app.count("outbox").await > 0 {
        assert!(start.elapsed() < Duration::from_secs(30), "mails are left");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Stops a service while the mailbox goes on.
async fn stop(service: Service) {
    tokio::task::spawn_blocking(move || service.stop(Signal::TERM)).await.unwrap();
}

fn settings<'a>(app_url: &'a str, smtp_url: &'a str) -> [(&'a str, &'a str); 3] {
    [
        ("DATABASE_URL", app_url),
        ("PORTCULLIS_SMTP_URL", smtp_url),
        ("PORTCULLIS_MAIL_FROM", "Example <auth@example.com>"),
    ]
}

#[tokio::test]
async fn no_mail_is_lost_when_the_service_is_killed_in_the_middle() {
    const MAILS: usize = 300;
    let mailbox = Mailbox::start().await;
    let app = TestApp::start().await;
    let (database, smtp, directory) = (app.database_url(), mailbox.url(), Directory::new());
    let (mut killed, mut in_the_middle) = (0, 0);
    fill(&app, MAILS).await;
    while app.count("outbox").await > 0 {
        let mut service = Service::start(&directory.0, &settings(&database, &smtp));
        let goal = mailbox.received().len() + 50;
        let start = Instant::now();
        while mailbox.received().len() < goal && app.count("outbox").await > 0 {
            assert!(start.elapsed() < Duration::from_secs(30), "nothing is sent");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        service.signal(Signal::KILL);
        service.child.wait().unwrap();
        killed += 1;
        in_the_middle += claimed(&app).await;
        // Claims of the dead end by themselves; nobody waits for that here.
        let late = "select count(*) from outbox where due_at > now() + interval '1 minute'";
        let late: i64 = sqlx::query_scalar(late).fetch_one(&app.pool).await.unwrap();
        assert_eq!(late, 0, "a claim lasts a minute");
        hurry(&app).await;
    }
    let (lost, duplicated) = lost_and_duplicated(&mailbox, MAILS);
    println!(
        "{MAILS} mails, killed {killed} times with {in_the_middle} on their way: {lost} lost, \
         {duplicated} sent twice"
    );
    assert!(killed > 2 && in_the_middle > 0, "{killed} {in_the_middle}");
    assert_eq!(lost, 0);
    // At most what was under way each time.
    assert!(duplicated <= killed * 16, "{duplicated} of {killed}");
}

#[tokio::test]
async fn a_stop_finishes_what_it_has_begun() {
    const MAILS: usize = 200;
    let mailbox = Mailbox::start().await;
    let app = TestApp::start().await;
    let (database, smtp, directory) = (app.database_url(), mailbox.url(), Directory::new());
    fill(&app, MAILS).await;
    let mut stopped = 0;
    while app.count("outbox").await > 0 {
        let service = Service::start(&directory.0, &settings(&database, &smtp));
        let goal = mailbox.received().len() + 50;
        while mailbox.received().len() < goal && app.count("outbox").await > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stop(service).await;
        stopped += 1;
        assert_eq!(claimed(&app).await, 0, "a stop leaves nothing claimed");
    }
    println!("{MAILS} mails, stopped {stopped} times: {:?}", lost_and_duplicated(&mailbox, MAILS));
    assert_eq!(lost_and_duplicated(&mailbox, MAILS), (0, 0));
}

#[tokio::test]
async fn a_server_that_falls_silent_holds_up_no_other_mail() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::start().await;
    let (database, smtp, directory) = (app.database_url(), mailbox.url(), Directory::new());
    fill(&app, 40).await;
    mailbox.fail(Failure::Hang, 4);
    let service = Service::start(&directory.0, &settings(&database, &smtp));
    let start = Instant::now();
    mailbox.wait(36).await;
    println!("36 mails beside 4 that hang: {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(10));
    // The silent ones are given up, and sent again.
    let late =
        "select count(*) from outbox where attempts = 1 and due_at < now() + interval '13 seconds'";
    while sqlx::query_scalar::<_, i64>(late).fetch_one(&app.pool).await.unwrap() < 4 {
        assert!(start.elapsed() < Duration::from_secs(30), "a connection still hangs");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    hurry(&app).await;
    until_empty(&app).await;
    assert_eq!(lost_and_duplicated(&mailbox, 40), (0, 0));
    stop(service).await;
}

#[tokio::test]
async fn tls_and_a_login_are_as_the_url_has_them() {
    let app = TestApp::start().await;
    let database = app.database_url();
    let login = Some(("auth@example.com", "pa:ss/w@rd"));
    for tls in [Tls::Starttls, Tls::Wrapped] {
        let directory = Directory::new();
        let mailbox = Mailbox::with(Options { tls, login, ..Options::default() }).await;
        let trusted = directory.0.join("ca.pem");
        std::fs::write(&trusted, mailbox.certificate()).unwrap();
        let url = mailbox.url();
        let with = |certificates| {
            let [database, smtp, from] = settings(&database, &url);
            [database, smtp, from, ("SSL_CERT_FILE", certificates)]
        };
        // A certificate that nobody vouches for is not taken, and no mail is lost by that.
        fill(&app, 3).await;
        let stranger = Mailbox::start().await;
        let untrusted = directory.0.join("other.pem");
        std::fs::write(&untrusted, stranger.certificate()).unwrap();
        let service = Service::start(&directory.0, &with(untrusted.to_str().unwrap()));
        let start = Instant::now();
        let put_off = "select count(*) from outbox where attempts = 1 and due_at < now() + interval '1 minute'";
        while sqlx::query_scalar::<_, i64>(put_off).fetch_one(&app.pool).await.unwrap() < 3 {
            assert!(start.elapsed() < Duration::from_secs(30));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stop(service).await;
        assert_eq!((mailbox.received().len(), mailbox.logins()), (0, 0));
        let log = std::fs::read_to_string(directory.0.join("log")).unwrap();
        assert!(
            log.contains("ertificate") && !log.contains("pa:ss") && !log.contains("pa%3A"),
            "{log}"
        );

        hurry(&app).await;
        let service = Service::start(&directory.0, &with(trusted.to_str().unwrap()));
        until_empty(&app).await;
        stop(service).await;
        assert_eq!(lost_and_duplicated(&mailbox, 3), (0, 0));
        assert!(mailbox.logins() >= 1);
    }
}

#[tokio::test]
async fn in_development_mails_are_in_files_and_the_log_names_the_file_but_no_secret() {
    let app = TestApp::start().await;
    let (directory, database) = (Directory::new(), app.database_url());
    let settings = [
        ("DATABASE_URL", &*database),
        ("PORTCULLIS_LOGIN_CODE", "on"),
        ("PORTCULLIS_LOG", "trace"),
    ];
    let service = Service::start(&directory.0, &settings);
    let place = "./.portcullis/mail/*.eml (no PORTCULLIS_SMTP_URL)";
    let line = service.banner().lines().find(|line| line.trim().starts_with("Mail")).unwrap();
    assert_eq!(line.trim().strip_prefix("Mail").unwrap().trim(), place);
    let client = reqwest::Client::new();
    let post = async |path: &str, body: serde_json::Value| {
        client.post(format!("{}{path}", service.base)).json(&body).send().await.unwrap()
    };
    post("/users", json!({"email": "alice@example.com", "password": PASSWORD})).await;
    until_empty(&app).await;
    for path in ["/password/forgot", "/login/code"] {
        post(path, json!({"email": "alice@example.com"})).await;
        until_empty(&app).await;
    }
    let files = std::fs::read_dir(directory.0.join(".portcullis/mail")).unwrap();
    let files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 3);
    let log = std::fs::read_to_string(directory.0.join("log")).unwrap();
    let (mut verification, mut links) = (None, 0);
    for file in &files {
        let mail = Mail::parse(String::new(), vec![], std::fs::read(file).unwrap());
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(log.contains(&format!("file=./.portcullis/mail/{name}")), "{name}: {log}");
        let code = mail.code();
        for secret in [format!("{}-{}", &code[..4], &code[4..]), code] {
            assert!(!log.contains(&secret), "{secret} of {:?}: {log}", mail.subject);
        }
        let permissions = file.metadata().unwrap().permissions();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&permissions) & 0o777, 0o600);
        if mail.text.contains("http") {
            links += 1;
            assert!(!log.contains(&mail.token()), "{:?}: {log}", mail.subject);
        }
        if mail.subject == "Confirm your email address" {
            verification = Some(mail);
        }
    }
    assert!(links == 2 && !log.contains("pco_"), "{log}");
    let token = json!({"token": verification.unwrap().token()});
    assert_eq!(post("/email/verify", token).await.status(), 204);
    stop(service).await;
}

#[tokio::test]
async fn mails_that_cannot_be_written_to_files_wait_and_the_log_says_why_without_secrets() {
    let app = TestApp::start().await;
    let (directory, database) = (Directory::new(), app.database_url());
    // As in a container that has a read-only file system.
    let data = directory.0.join("data");
    std::fs::write(&data, "a file where the data directory should be").unwrap();
    let data = data.to_str().unwrap();
    let settings = [("DATABASE_URL", &*database), ("PORTCULLIS_DATA_DIR", data)];
    let service = Service::start(&directory.0, &settings);
    let new = json!({"email": "alice@example.com", "password": PASSWORD});
    reqwest::Client::new().post(format!("{}/users", service.base)).json(&new).send().await.unwrap();
    let start = Instant::now();
    while claimed(&app).await == 0 || !log_of(&directory).contains("a mail is put off") {
        assert!(start.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop(service).await;
    assert_eq!(app.count("outbox").await, 1);
    let log = log_of(&directory);
    assert_eq!(log.matches("set PORTCULLIS_SMTP_URL").count(), 2, "at the start, and then: {log}");
    assert!(!log.contains("pco_") && !log.contains("email/verify?"), "{log}");
}

#[tokio::test]
async fn the_log_redacts_a_mail_that_the_server_quotes_when_it_rejects_it() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::start().await;
    let (database, smtp, directory) = (app.database_url(), mailbox.url(), Directory::new());
    mailbox.fail(Failure::QuoteMessage, 1);
    let service = Service::start(&directory.0, &settings(&database, &smtp));
    let new = json!({"email": "alice@example.com", "password": PASSWORD});
    reqwest::Client::new().post(format!("{}/users", service.base)).json(&new).send().await.unwrap();
    let start = Instant::now();
    while !log_of(&directory).contains("a mail is put off") {
        assert!(start.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop(service).await;
    let log = log_of(&directory);
    assert!(log.contains("Spam: ") && log.contains("?token=[redacted]"), "{log}");
    assert_eq!(log.matches("[redacted]").count(), 2, "the token and the code: {log}");
    assert!(!log.contains("pco_"), "{log}");
}

fn log_of(directory: &Directory) -> String {
    std::fs::read_to_string(directory.0.join("log")).unwrap()
}

#[tokio::test]
async fn with_https_and_no_server_nothing_is_logged_and_mails_are_left_to_others() {
    let app = TestApp::start().await;
    let directory = Directory::new();
    let database = app.database_url();
    let settings =
        [("DATABASE_URL", &*database), ("PORTCULLIS_PUBLIC_URL", "https://auth.example.com")];
    let service = Service::start(&directory.0, &settings);
    let new = json!({"email": "alice@example.com", "password": PASSWORD});
    reqwest::Client::new().post(format!("{}/users", service.base)).json(&new).send().await.unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    stop(service).await;
    assert_eq!((app.count("outbox").await, claimed(&app).await), (1, 0));
    // What nobody sends is forgotten, but not while somebody might.
    app.sweep().await;
    assert_eq!(app.count("outbox").await, 1);
    app.sql("update outbox set created_at = now() - interval '51 hours'").await;
    app.sweep().await;
    assert_eq!(app.count("outbox").await, 0);
    let log = std::fs::read_to_string(directory.0.join("log")).unwrap();
    assert!(log.contains("no mail is sent") && !log.contains("pco_"), "{log}");
    assert!(!directory.0.join(".portcullis").exists());
}

#[tokio::test]
async fn the_log_says_why_an_email_failed_permanently() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::start().await;
    let (database, smtp, directory) = (app.database_url(), mailbox.url(), Directory::new());
    app.sql("insert into outbox (kind, email) values ('password_changed', 'bob@example.com')")
        .await;
    mailbox.fail(Failure::UnknownRecipient, 1);
    let service = Service::start(&directory.0, &settings(&database, &smtp));
    until_empty(&app).await;
    app.sql("insert into outbox (kind, email) values ('password_changed', 'josé@example.com')")
        .await;
    until_empty(&app).await;
    stop(service).await;
    let log = std::fs::read_to_string(directory.0.join("log")).unwrap();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("a mail is given up")).collect();
    assert_eq!(lines.len(), 2, "{log}");
    assert!(lines[0].contains("WARN") && lines[0].contains("Nobody of that name"), "{log}");
    assert!(lines[1].contains("WARN") && lines[1].contains("SMTPUTF8"), "{log}");
}
