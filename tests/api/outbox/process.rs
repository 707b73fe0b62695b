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
        let mailbox = Mailbox::with(Options { tls, login }).await;
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
async fn in_development_mails_are_in_the_log_and_in_files() {
    let app = TestApp::start().await;
    let directory = Directory::new();
    let service = Service::start(&directory.0, &[("DATABASE_URL", &*app.database_url())]);
    assert!(service.banner().contains("Mail") && service.banner().contains("mail/*.eml"));
    let new = json!({"email": "alice@example.com", "password": PASSWORD});
    reqwest::Client::new().post(format!("{}/users", service.base)).json(&new).send().await.unwrap();
    until_empty(&app).await;
    let files = std::fs::read_dir(directory.0.join(".portcullis/mail")).unwrap();
    let files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 1);
    let mail = Mail::parse(String::new(), vec![], std::fs::read(&files[0]).unwrap());
    let log = std::fs::read_to_string(directory.0.join("log")).unwrap();
    assert!(log.contains(&mail.link()) && log.contains(&mail.code()[..4]), "{log}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&files[0].metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let token = json!({"token": mail.token()});
    let verify = reqwest::Client::new().post(format!("{}/email/verify", service.base)).json(&token);
    assert_eq!(verify.send().await.unwrap().status(), 204);
    stop(service).await;
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
