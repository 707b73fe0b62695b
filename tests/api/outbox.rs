//! How mails leave the outbox: none is lost, whatever the server does.

mod process;

use std::collections::BTreeMap;

use serde_json::json;

use crate::TestApp;
use crate::app::PASSWORD;
use crate::smtp::{Failure, Mailbox};

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
    app.sql("insert into outbox (kind, email) values ('password_changed', 'bob@example.com')")
        .await;
    mailbox.fail(Failure::UnknownRecipient, 1);
    // A kind that only a newer replica knows is left to it.
    app.sql("insert into outbox (kind, email) values ('birthday', 'bob@example.com')").await;
    app.deliver().await;
    assert_eq!((app.count("outbox").await, claimed(&app).await), (1, 0));
    let failed = "select count(*) from audit_events where kind = 'mail_failed'";
    let failed: i64 = sqlx::query_scalar(failed).fetch_one(&app.pool).await.unwrap();
    assert_eq!((failed, mailbox.received().len()), (3, 0));
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
