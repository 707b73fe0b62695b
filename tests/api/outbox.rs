//! How mails leave the outbox: none is lost, whatever dies or stays away.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::TestApp;
use crate::app::PASSWORD;
use crate::serve::{Directory, Service};
use crate::smtp::{Failure, Mailbox, Options, Tls};

/// Puts so many mails into the outbox, to as many addresses.
async fn fill(app: &TestApp, mails: usize) {
    let fill = "insert into outbox (kind, email, created_at)
                select 'password_changed', 'user-' || n || '@example.com', now()
                from generate_series(1, $1) n";
    sqlx::query(fill).bind(i32::try_from(mails).unwrap()).execute(&app.pool).await.unwrap();
}

/// How many addresses were never mailed to, and how many mails there are beyond one for each.
fn lost_and_duplicated(mailbox: &Mailbox, mails: usize) -> (usize, usize) {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let received = mailbox.received();
    for mail in &received {
        *counts.entry(mail.envelope_to[0].clone()).or_default() += 1;
    }
    (mails - counts.len(), received.len() - counts.len())
}

/// Makes every mail due that was put off or claimed.
async fn hurry(app: &TestApp) {
    app.sql("update outbox set due_at = now()").await;
}

/// How many mails somebody has begun to send.
async fn claimed(app: &TestApp) -> i64 {
    let claimed = "select count(*) from outbox where attempts > 0";
    sqlx::query_scalar(claimed).fetch_one(&app.pool).await.unwrap()
}

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
async fn many_replicas_send_each_mail_once() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |_| {}).await;
    let (second, third) = (app.replica().await, app.replica().await);
    fill(&app, 100).await;
    tokio::join!(app.deliver(), second.deliver(), third.deliver());
    assert_eq!(lost_and_duplicated(&mailbox, 100), (0, 0));
    assert_eq!(app.count("outbox").await, 0);
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
async fn mails_wait_while_the_server_is_away_and_requests_do_not() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |_| {}).await;
    mailbox.stop().await;
    let alice = app.user_at("alice@example.com").await;
    for n in 0..20 {
        app.user_at(&format!("user-{n}@example.com")).await;
    }
    for longest in [13.0, 25.0, 50.0] {
        app.deliver().await;
        assert_eq!(app.count("outbox").await, 21);
        // Each is put off for longer.
        let due = "select array[min(extract(epoch from due_at - now())),
                                max(extract(epoch from due_at - now()))]::float8[] from outbox";
        let due: Vec<f64> = sqlx::query_scalar(due).fetch_one(&app.pool).await.unwrap();
        assert!(due[0] > longest / 2.0 && due[1] < longest, "{due:?}");
        hurry(&app).await;
    }
    let longest = "select max(attempts) from outbox";
    let attempts: i32 = sqlx::query_scalar(longest).fetch_one(&app.pool).await.unwrap();
    assert_eq!(attempts, 3);
    mailbox.restart().await;
    // What a mail holds counts from when it is sent.
    app.sql("update outbox set created_at = now() - interval '23 hours'").await;
    app.deliver().await;
    assert_eq!(lost_and_duplicated(&mailbox, 21), (0, 0));
    app.sql("update one_time_tokens set expires_at = expires_at - interval '23 hours'").await;
    let token = mailbox.next_to("alice@example.com", 1).await.token();
    alice.post("/email/verify", json!({"token": token})).await.status(204);
}

#[tokio::test]
async fn a_mail_is_given_up_after_a_day_and_that_is_written_down() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |_| {}).await;
    let alice = app.user_at("alice@example.com").await;
    mailbox.fail(Failure::RefuseRecipient(550), 2);
    app.deliver().await;
    assert_eq!(app.count("outbox").await, 1);
    // A refusal for good is not asked about every minute.
    let late = "update outbox set due_at = now() where due_at > now() + interval '50 minutes'";
    assert_eq!(app.sql(late).await, 1);
    app.sql("update outbox set created_at = now() - interval '25 hours'").await;
    app.deliver().await;
    assert_eq!((app.count("outbox").await, mailbox.received().len()), (0, 0));
    let events = app.admin().await.get("/audit?kind=mail_failed").await.ok();
    let event = &events["items"][0];
    assert_eq!(
        (&event["outcome"], &event["user_id"], &event["details"]["mail"]),
        (&json!("failure"), &json!(alice.id()), &json!("verify_email"))
    );
    assert!(!event.to_string().contains("alice@example.com"), "{event}");
}

#[tokio::test]
async fn an_address_that_can_never_be_mailed_to_is_given_up_at_once() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |_| {}).await;
    // The server takes no other characters (SMTPUTF8), and the second is none at all.
    app.user_at("älice@example.com").await;
    app.sql("insert into outbox (kind, email) values ('password_changed', 'a b@example.com')")
        .await;
    // A kind that only a newer replica knows is left to it.
    app.sql("insert into outbox (kind, email) values ('birthday', 'bob@example.com')").await;
    app.deliver().await;
    assert_eq!((app.count("outbox").await, claimed(&app).await), (1, 0));
    let failed = "select count(*) from audit_events where kind = 'mail_failed'";
    let failed: i64 = sqlx::query_scalar(failed).fetch_one(&app.pool).await.unwrap();
    assert_eq!((failed, mailbox.received().len()), (2, 0));
}

#[tokio::test]
async fn mails_that_somebody_waits_for_go_first() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |_| {}).await;
    app.verified_user_at("alice@example.com").await;
    fill(&app, 300).await;
    app.anonymous()
        .post("/password/forgot", json!({"email": "alice@example.com"}))
        .await
        .status(202);
    app.deliver().await;
    let received = mailbox.received();
    let place = received.iter().position(|mail| mail.is_to("alice@example.com")).unwrap();
    assert!(received.len() == 301 && place < 20, "{place} of {}", received.len());
}

#[tokio::test]
async fn a_server_that_fails_gets_the_mail_again() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |_| {}).await;
    fill(&app, 8).await;
    mailbox.fail(Failure::TemporaryAfterData, 3);
    mailbox.fail(Failure::CutAfterData, 2);
    mailbox.fail(Failure::RefuseRecipient(450), 1);
    app.deliver().await;
    assert_eq!(app.count("outbox").await, 6);
    hurry(&app).await;
    app.deliver().await;
    // Two had arrived, and could not be known to have.
    assert_eq!((app.count("outbox").await, lost_and_duplicated(&mailbox, 8)), (0, (0, 2)));
    let second: Vec<_> = mailbox.received().iter().map(|mail| mail.header("message-id")).collect();
    let different: std::collections::BTreeSet<_> = second.iter().collect();
    assert_eq!(different.len(), 8, "a copy has the id of the first");
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
async fn a_mail_and_what_it_tells_are_written_together_or_not_at_all() {
    let app = TestApp::start().await;
    let alice = app.verified_user_at("alice@example.com").await;
    // Whatever is committed fails at the very end.
    app.sql("create function fail() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$").await;
    app.sql(
        "create constraint trigger fails after insert or update on users
         deferrable initially deferred for each row execute function fail()",
    )
    .await;
    let change = json!({"current_password": PASSWORD, "new_password": "quite another phrase"});
    alice.put("/me/password", change).await.problem(500, "internal");
    alice.patch("/me", json!({"email": "other@example.com"})).await.problem(500, "internal");
    let new = json!({"email": "bob@example.com", "password": PASSWORD});
    app.anonymous().post("/users", new).await.problem(500, "internal");
    assert_eq!(app.count("outbox").await, 0);
    app.sql("drop trigger fails on users").await;
    alice.patch("/me", json!({"email": "other@example.com"})).await.ok();
    assert_eq!(app.count("outbox").await, 2);
}

#[tokio::test]
async fn of_a_mail_that_came_twice_both_links_stand_until_one_is_used() {
    let mailbox = Mailbox::start().await;
    let app = TestApp::with_mail(&mailbox, |_| {}).await;
    for (email, first) in [("alice@example.com", 0), ("bob@example.com", 1)] {
        app.verified_user_at(email).await;
        app.anonymous().post("/password/forgot", json!({"email": email})).await.status(202);
        mailbox.fail(Failure::CutAfterData, 1);
        app.deliver().await;
        hurry(&app).await;
        app.deliver().await;
        let mails = [mailbox.next_to(email, 1).await, mailbox.next_to(email, 2).await];
        for (n, code) in [(first, 204), (1 - first, 422)] {
            let given = json!({"token": mails[n].token(), "password": "quite another phrase"});
            app.anonymous().post("/password/reset", given).await.status(code);
        }
    }
}

#[tokio::test]
async fn a_mail_that_waits_holds_no_secret_and_goes_with_its_account() {
    let app = TestApp::start().await;
    let alice = app.verified_user_at("alice@example.com").await;
    app.anonymous()
        .post("/password/forgot", json!({"email": "alice@example.com"}))
        .await
        .status(202);
    alice.patch("/me", json!({"email": "other@example.com"})).await.ok();
    let rows: Vec<String> =
        sqlx::query_scalar("select o::text from outbox o").fetch_all(&app.pool).await.unwrap();
    assert!(rows.len() == 3 && rows.iter().all(|row| !row.contains("pco_")), "{rows:?}");
    alice.delete("/me").await.status(204);
    app.deliver().await;
    assert_eq!((app.count("outbox").await, app.count("one_time_tokens").await), (0, 0));
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
    let mail = crate::smtp::Mail::parse(String::new(), vec![], std::fs::read(&files[0]).unwrap());
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
    portcullis::sweep::once(&app.pool, Duration::from_secs(1)).await.unwrap();
    assert_eq!(app.count("outbox").await, 1);
    app.sql("update outbox set created_at = now() - interval '51 hours'").await;
    portcullis::sweep::once(&app.pool, Duration::from_secs(1)).await.unwrap();
    assert_eq!(app.count("outbox").await, 0);
    let log = std::fs::read_to_string(directory.0.join("log")).unwrap();
    assert!(log.contains("no mail is sent") && !log.contains("pco_"), "{log}");
    assert!(!directory.0.join(".portcullis").exists());
}
