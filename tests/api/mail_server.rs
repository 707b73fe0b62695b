//! Mail servers that ask for more, or offer less, than usual.

use portcullis::config::PublicUrl;
use portcullis::mail::Mailer;
use serde_json::json;

use crate::TestApp;
use crate::doctor::doctor;
use crate::smtp::{Hello, Mailbox, Options, Tls};

async fn mailbox(hello: Hello) -> Mailbox {
    Mailbox::with(Options { hello, ..Options::default() }).await
}

/// The environment of a service that uses a mailbox.
fn settings(url: &str) -> [(&str, &str); 2] {
    [("PORTCULLIS_SMTP_URL", url), ("PORTCULLIS_MAIL_FROM", "Example <auth@mail.example.org>")]
}

#[tokio::test]
async fn a_server_that_demands_a_domain_in_ehlo_gets_its_email() {
    for (public_url, greeting) in [
        ("https://auth.example.com", "auth.example.com"),
        // The name of a container or a machine has no dot: the sender's domain has one.
        ("http://localhost:8080", "example.com"),
        ("http://portcullis:8080", "example.com"),
        ("http://127.0.0.1:8080", "example.com"),
    ] {
        let mailbox = mailbox(Hello::FullyQualified).await;
        let configure = |config: &mut portcullis::config::Config| {
            config.public_url = PublicUrl::parse(public_url).unwrap();
        };
        let app = TestApp::with_mail(&mailbox, configure).await;
        let queue =
            "insert into outbox (kind, email) values ('password_changed', 'bob@example.com')";
        app.sql(queue).await;
        app.deliver().await;
        assert_eq!(mailbox.to("bob@example.com").len(), 1, "{public_url}");
        assert_eq!(mailbox.greetings(), [greeting]);
    }
}

#[tokio::test]
async fn a_server_that_supports_only_helo_gets_its_email() {
    let mailbox = mailbox(Hello::HeloOnly).await;
    let app = TestApp::with_mail(&mailbox, |_| {}).await;
    let alice = app.user_at("alice@example.com").await;
    app.deliver().await;
    let token = mailbox.next_to("alice@example.com", 1).await.token();
    alice.post("/email/verify", json!({"token": token})).await.status(204);
    assert_eq!(
        (mailbox.greetings(), mailbox.received().len()),
        (vec!["example.com".to_owned()], 1)
    );
    let url = mailbox.url();
    let send = ["--send-test-mail", "bob@example.com"];
    let (text, _) = doctor(&settings(&url), &send).await;
    assert!(text.contains("took a test mail to bob@example.com"), "{text}");
}

#[tokio::test]
async fn a_server_that_supports_only_helo_gets_no_password_and_nothing_that_must_be_encrypted() {
    let login = Options { login: Some(("auth", "hunter2")), ..Options::default() };
    let starttls = Options { tls: Tls::Starttls, ..Options::default() };
    for options in [login, starttls] {
        let mailbox = Mailbox::with(Options { hello: Hello::HeloOnly, ..options }).await;
        let app = TestApp::with_mail(&mailbox, |_| {}).await;
        let error = Mailer::new(&app.config).unwrap().try_connection().await.unwrap_err();
        assert!(error.to_string().contains("permanent"), "{error}");
        assert!(mailbox.greetings().is_empty() && mailbox.logins() == 0);
    }
}

#[tokio::test]
async fn doctor_says_what_to_change_when_the_server_rejects_the_greeting() {
    let mailbox = mailbox(Hello::Rejected).await;
    let (text, healthy) = doctor(&settings(&mailbox.url()), &[]).await;
    assert!(!healthy, "{text}");
    for part in [
        "the mail server cannot be used",
        "need fully-qualified hostname",
        "greets the server as mail.example.org",
        "PORTCULLIS_PUBLIC_URL",
        "PORTCULLIS_MAIL_FROM",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test]
async fn an_address_beyond_ascii_gets_its_email_from_a_server_with_smtputf8() {
    let mailbox = Mailbox::with(Options { smtputf8: true, ..Options::default() }).await;
    let app = TestApp::with_mail(&mailbox, |_| {}).await;
    for address in ["josé@example.com", "संपर्क@example.com", "தமிழ்@xn--bcher-kva.example"]
    {
        let user = app.user_at(address).await;
        app.deliver().await;
        let mail = mailbox.next_to(address, 1).await;
        assert!(String::from_utf8_lossy(&mail.raw).contains(&format!("To: {address}")), "{mail:?}");
        user.post("/email/verify", json!({"token": mail.token()})).await.status(204);
    }
}

#[tokio::test]
async fn doctor_says_whether_the_server_supports_smtputf8() {
    let without = Mailbox::start().await;
    let with = Mailbox::with(Options { smtputf8: true, ..Options::default() }).await;
    let lacks = "warning  the mail server does not support SMTPUTF8";
    let (text, _) = doctor(&settings(&without.url()), &[]).await;
    assert!(text.contains(lacks) && text.contains("josé@example.com"), "{text}");
    let send = ["--send-test-mail", "josé@example.com"];
    let (text, healthy) = doctor(&settings(&without.url()), &send).await;
    assert!(!healthy && text.contains("accepts only ASCII addresses"), "{text}");
    let (text, _) = doctor(&settings(&with.url()), &send).await;
    assert!(!text.contains("SMTPUTF8") && text.contains("took a test mail to josé@"), "{text}");

    let url = without.url();
    let sender = [("PORTCULLIS_SMTP_URL", &*url), ("PORTCULLIS_MAIL_FROM", "josé@example.com")];
    let (text, healthy) = doctor(&sender, &[]).await;
    assert!(
        !healthy && text.contains("does not support the address of PORTCULLIS_MAIL_FROM"),
        "{text}"
    );
    // The domain is sent in ASCII.
    let sender = [("PORTCULLIS_SMTP_URL", &*url), ("PORTCULLIS_MAIL_FROM", "auth@bücher.example")];
    let (text, _) = doctor(&sender, &["--send-test-mail", "bob@example.com"]).await;
    assert!(text.contains("took a test mail"), "{text}");
    assert_eq!(without.to("bob@example.com")[0].envelope_from, "auth@xn--bcher-kva.example");
}
