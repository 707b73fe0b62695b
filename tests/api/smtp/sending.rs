//! The mailbox, by what lettre sends to it.

use std::time::{Duration, Instant};

use lettre::message::{MultiPart, SinglePart};
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::Mechanism;
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, Certificate, CertificateStore, Tls as Encryption, TlsParameters,
};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use tokio::task::JoinSet;
use tokio::time::timeout;
use url::Url;

use super::{Failure, Mailbox, Options, Tls};

type Transport = AsyncSmtpTransport<Tokio1Executor>;

const LOGIN: (&str, &str) = ("portcullis@example.com", "p@ss:w/ord ü");

/// A way to send to a mailbox according to its URL, as a client that trusts this certificate.
fn transport(url: &str, certificate: &str, mechanism: Mechanism) -> Transport {
    let (scheme, rest) = url.split_once("://").unwrap();
    let trusted = || {
        let url = Url::parse(url).unwrap();
        TlsParameters::builder(url.host_str().unwrap().to_owned())
            .certificate_store(CertificateStore::None)
            .add_root_certificate(Certificate::from_pem(certificate.as_bytes()).unwrap())
            .build()
            .unwrap()
    };
    let encryption = match scheme {
        "smtp" => Encryption::None,
        "smtp+starttls" => Encryption::Required(trusted()),
        "smtps" => Encryption::Wrapper(trusted()),
        _ => panic!("{url}"),
    };
    Transport::from_url(&format!("smtp://{rest}"))
        .unwrap()
        .tls(encryption)
        .timeout(Some(Duration::from_secs(5)))
        .authentication(vec![mechanism])
        .build()
}

fn transport_to(mailbox: &Mailbox) -> Transport {
    transport(&mailbox.url(), mailbox.certificate(), Mechanism::Plain)
}

fn mail(to: &str) -> Message {
    mail_with(to, "Hello", "<p>Hello</p>")
}

fn mail_with(to: &str, text: &str, html: &str) -> Message {
    Message::builder()
        .from("Portcullis <portcullis@example.com>".parse().unwrap())
        .to(to.parse().unwrap())
        .subject("Grüße von Portcullis 🔑, and enough more for a header of two lines")
        .multipart(MultiPart::alternative_plain_html(text.to_owned(), html.to_owned()))
        .unwrap()
}

/// What the server refused with.
#[track_caller]
fn code(error: &Error) -> u16 {
    error.status().unwrap_or_else(|| panic!("{error}")).into()
}

#[tokio::test]
async fn a_mail_is_kept_as_it_was_sent() {
    let mailbox = Mailbox::start().await;
    let text = "Grüße = 100 %, ".repeat(20) + "\n.\n..two dots\nend";
    let html = "<p title=\"ü\">Grüße &amp; küsse</p>\n".repeat(5);
    let sent = mail_with("Alice <alice@example.com>", &text, &html);
    transport_to(&mailbox).send(sent.clone()).await.unwrap();
    let [mail] = mailbox.wait(1).await.try_into().unwrap();
    assert_eq!(mail.raw.trim_ascii_end(), sent.formatted().trim_ascii_end());
    assert_eq!(mail.envelope_from, "portcullis@example.com");
    assert_eq!(mail.envelope_to, ["alice@example.com"]);
    assert!(mail.subject.starts_with("Grüße von Portcullis 🔑, and"), "{}", mail.subject);
    assert_eq!(mail.text.trim_end(), text);
    assert_eq!(mail.html.trim_end(), html.trim_end());
    assert_eq!(mail.header("to").unwrap(), "Alice <alice@example.com>");
    assert_eq!(mail.header("SUBJECT"), Some(mail.subject.clone()));
    assert!(mail.header("Content-Type").unwrap().starts_with("multipart/alternative;"));
    assert_eq!(mail.header("X-None"), None);
}

#[tokio::test]
async fn a_mail_without_html_has_none() {
    let mailbox = Mailbox::start().await;
    let text = Message::builder()
        .from("portcullis@example.com".parse().unwrap())
        .to("alice@example.com".parse().unwrap())
        .singlepart(SinglePart::plain("Only text".to_owned()))
        .unwrap();
    transport_to(&mailbox).send(text).await.unwrap();
    let mail = mailbox.next_to("alice@example.com", 1).await;
    assert_eq!((mail.subject.trim(), mail.text.trim(), mail.html.trim()), ("", "Only text", ""));
}

#[tokio::test]
async fn mails_are_found_by_their_recipient() {
    let mailbox = Mailbox::start().await;
    let transport = transport_to(&mailbox);
    assert!(mailbox.received().is_empty());
    for text in ["first", "second"] {
        transport.send(mail_with("alice@example.com", text, "")).await.unwrap();
        transport.send(mail_with("bob@example.com", text, "")).await.unwrap();
    }
    assert_eq!(mailbox.received().len(), 4);
    let to_bob = mailbox.to("bob@example.com");
    assert_eq!([&*to_bob[0].text, &*to_bob[1].text].map(str::trim), ["first", "second"]);
    assert_eq!(mailbox.next_to("alice@example.com", 2).await.text.trim(), "second");
    assert!(mailbox.to("carol@example.com").is_empty());
    let (later, _) = tokio::join!(mailbox.next_to("carol@example.com", 1), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        transport.send(mail("carol@example.com")).await.unwrap();
    });
    assert!(later.is_to("carol@example.com"));
}

#[tokio::test]
async fn many_may_send_at_once() {
    let mailbox = Mailbox::start().await;
    let mut sending = JoinSet::new();
    for n in 0..30 {
        let transport = transport_to(&mailbox);
        let mail = mail(&format!("user{n}@example.com"));
        sending.spawn(async move { transport.send(mail).await.unwrap() });
    }
    assert_eq!(sending.join_all().await.len(), 30);
    assert_eq!(mailbox.received().len(), 30);
}

#[tokio::test]
async fn a_mail_may_be_sent_encrypted() {
    for (tls, scheme) in [(Tls::Starttls, "smtp+starttls"), (Tls::Wrapped, "smtps")] {
        let mailbox = Mailbox::with(Options { tls, ..Options::default() }).await;
        assert!(mailbox.url().starts_with(&format!("{scheme}://localhost:")));
        for host in ["localhost", "127.0.0.1"] {
            let url = mailbox.url().replace("localhost", host);
            let transport = transport(&url, mailbox.certificate(), Mechanism::Plain);
            transport.send(mail("alice@example.com")).await.unwrap();
            transport.send(mail("bob@example.com")).await.unwrap();
        }
        assert_eq!(mailbox.received().len(), 4);
    }
}

#[tokio::test]
async fn the_certificate_of_another_is_not_trusted() {
    let other = Mailbox::start().await;
    for tls in [Tls::Starttls, Tls::Wrapped] {
        let mailbox = Mailbox::with(Options { tls, ..Options::default() }).await;
        let transport = transport(&mailbox.url(), other.certificate(), Mechanism::Plain);
        let error = transport.send(mail("alice@example.com")).await.unwrap_err();
        assert!(format!("{error:?}").contains("InvalidCertificate"), "{error:?}");
        assert!(mailbox.received().is_empty());
    }
}

#[tokio::test]
async fn nothing_is_taken_in_plain_where_it_could_be_encrypted() {
    let mailbox = Mailbox::with(Options { tls: Tls::Starttls, ..Options::default() }).await;
    let plain = mailbox.url().replace("smtp+starttls", "smtp");
    let plain = transport(&plain, mailbox.certificate(), Mechanism::Plain);
    assert_eq!(code(&plain.send(mail("alice@example.com")).await.unwrap_err()), 530);
    assert!(mailbox.received().is_empty());
}

#[tokio::test]
async fn a_mail_is_taken_from_who_logs_in() {
    for tls in [Tls::None, Tls::Starttls, Tls::Wrapped] {
        let mailbox =
            Mailbox::with(Options { tls, login: Some(LOGIN), ..Options::default() }).await;
        for mechanism in [Mechanism::Plain, Mechanism::Login] {
            let transport = transport(&mailbox.url(), mailbox.certificate(), mechanism);
            transport.send(mail("alice@example.com")).await.unwrap();
        }
        assert_eq!((mailbox.logins(), mailbox.received().len()), (2, 2));
    }
}

#[tokio::test]
async fn a_wrong_login_or_none_is_refused() {
    let mailbox =
        Mailbox::with(Options { tls: Tls::None, login: Some(LOGIN), ..Options::default() }).await;
    let mut url = Url::parse(&mailbox.url()).unwrap();
    for (password, refusal) in [(Some("wrong"), 535), (None, 503)] {
        url.set_password(password).unwrap();
        for mechanism in [Mechanism::Plain, Mechanism::Login] {
            let transport = transport(url.as_str(), mailbox.certificate(), mechanism);
            let error = transport.send(mail("alice@example.com")).await.unwrap_err();
            assert_eq!(code(&error), refusal);
        }
    }
    assert_eq!((mailbox.logins(), mailbox.received().len()), (0, 0));
}

#[tokio::test]
async fn a_recipient_may_be_refused() {
    let mailbox = Mailbox::start().await;
    let transport = transport_to(&mailbox);
    mailbox.fail(Failure::RefuseRecipient(550), 2);
    mailbox.fail(Failure::RefuseRecipient(450), 1);
    for refusal in [550, 550, 450] {
        let error = transport.send(mail("alice@example.com")).await.unwrap_err();
        assert_eq!(code(&error), refusal);
        assert_eq!(error.is_permanent(), refusal == 550);
    }
    assert!(mailbox.received().is_empty());
    transport.send(mail("alice@example.com")).await.unwrap();
    assert_eq!(mailbox.received().len(), 1);
}

#[tokio::test]
async fn a_message_may_be_put_off() {
    let mailbox = Mailbox::start().await;
    let transport = transport_to(&mailbox);
    mailbox.fail(Failure::TemporaryAfterData, 1);
    let start = Instant::now();
    let error = transport.send(mail("alice@example.com")).await.unwrap_err();
    assert_eq!(code(&error), 451);
    assert!(start.elapsed() < Duration::from_secs(4), "the connection still answers");
    assert!(mailbox.received().is_empty());
    transport.send(mail("alice@example.com")).await.unwrap();
    assert_eq!(mailbox.received().len(), 1);
}

#[tokio::test]
async fn a_message_may_be_kept_without_an_answer() {
    for tls in [Tls::None, Tls::Starttls, Tls::Wrapped] {
        let mailbox = Mailbox::with(Options { tls, ..Options::default() }).await;
        let transport = transport_to(&mailbox);
        mailbox.fail(Failure::CutAfterData, 1);
        let error = transport.send(mail("alice@example.com")).await.unwrap_err();
        assert_eq!((error.status(), error.is_timeout()), (None, false), "{error:?}");
        assert_eq!(mailbox.received().len(), 1);
        transport.send(mail("alice@example.com")).await.unwrap();
        assert_eq!(mailbox.received().len(), 2);
    }
}

#[tokio::test]
async fn a_message_may_stay_unanswered() {
    let mailbox = Mailbox::start().await;
    mailbox.fail(Failure::Hang, 1);
    let address = mailbox.url().replace("smtp://", "");
    let client = ClientId::default();
    let connected = AsyncSmtpConnection::connect_tokio1(address, None, &client, None, None);
    let mut connection = connected.await.unwrap();
    let (mail, patience) = (mail("alice@example.com"), Duration::from_millis(500));
    let (envelope, message) = (mail.envelope(), mail.formatted());
    timeout(patience, connection.send(envelope, &message)).await.unwrap_err();
    timeout(patience, connection.test_connected()).await.unwrap_err();
    assert!(mailbox.received().is_empty());
    transport_to(&mailbox).send(mail).await.unwrap();
    assert_eq!(mailbox.wait(1).await.len(), 1);
}

#[tokio::test]
async fn a_server_may_stop_and_come_back_where_it_was() {
    for tls in [Tls::None, Tls::Wrapped] {
        let mailbox = Mailbox::with(Options { tls, ..Options::default() }).await;
        let url = mailbox.url();
        let transport = transport_to(&mailbox);
        for round in 1..4 {
            transport.send(mail("alice@example.com")).await.unwrap();
            mailbox.fail(Failure::Hang, 1);
            let (cut, ()) = tokio::join!(transport.send(mail("bob@example.com")), async {
                tokio::time::sleep(Duration::from_millis(200)).await;
                mailbox.stop().await;
            });
            assert!(!cut.unwrap_err().is_timeout());
            let refused = transport.send(mail("alice@example.com")).await.unwrap_err();
            assert!(format!("{refused:?}").contains("refused"), "{refused:?}");
            mailbox.restart().await;
            assert_eq!((mailbox.url(), mailbox.received().len()), (url.clone(), round));
        }
        transport.send(mail("alice@example.com")).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_ends_with_its_mailbox() {
    let mailbox = Mailbox::start().await;
    let transport = transport_to(&mailbox);
    transport.send(mail("alice@example.com")).await.unwrap();
    drop(mailbox);
    transport.send(mail("alice@example.com")).await.unwrap_err();
}

#[tokio::test]
async fn the_link_and_its_token_and_the_code_are_found() {
    let mailbox = Mailbox::start().await;
    let link = "https://example.com/verify?next=%2Fhome&token=ABCD-EFGH_0123-4567abcdefghijklm\
                nopqrstuvwxyz0123456789-_abcdefghijklmnopqrstuvwxyz";
    let text = format!("Follow <{link}>\nor enter the code:\n\n0AZ9-HJKM.\n\nBye, AAAA-UUUU");
    let href = link.replace('&', "&#38;");
    let html = format!(
        "<table><tr><td>Code</td><td><b>0AZ9-HJKM</b></td></tr></table>
         <a href=\"{href}\">{href}</a><a href=\"mailto:bob@example.com\">Bob</a>"
    );
    transport_to(&mailbox).send(mail_with("alice@example.com", &text, &html)).await.unwrap();
    let mail = mailbox.next_to("alice@example.com", 1).await;
    assert_eq!(mail.link(), link);
    assert_eq!(mail.token(), link.split_once("token=").unwrap().1);
    assert_eq!(mail.code(), "0AZ9HJKM");
}

#[tokio::test]
#[should_panic(expected = "assertion")]
async fn a_link_must_be_the_same_in_both_parts() {
    let mailbox = Mailbox::start().await;
    let html = "<a href=\"https://example.com/?token=b\">";
    let mail = mail_with("alice@example.com", "https://example.com/?token=a", html);
    transport_to(&mailbox).send(mail).await.unwrap();
    mailbox.next_to("alice@example.com", 1).await.link();
}

#[tokio::test]
#[should_panic(expected = "assertion")]
async fn a_code_must_be_the_same_in_both_parts() {
    let mailbox = Mailbox::start().await;
    let mail = mail_with("alice@example.com", "0000-0001", "<p>0000-0002</p>");
    transport_to(&mailbox).send(mail).await.unwrap();
    mailbox.next_to("alice@example.com", 1).await.code();
}
