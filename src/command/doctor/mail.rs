//! Whether mail can be sent.

use std::time::Duration;

use tokio::time::timeout;
use url::Url;

use super::Finding;
use crate::config::{Config, SmtpUrl};
use crate::mail::{self, BoxError, Letter, Mailer, Outgoing};
use crate::names;

/// How long the server may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Connects to the server, and sends one mail to the address, if there is one.
pub(super) async fn check(config: &Config, send_to: Option<&str>) -> Vec<Finding> {
    let mailer = match Mailer::new(config) {
        Ok(mailer) => mailer,
        Err(line) => return vec![Finding::problem(line, "The service does not start with this.")],
    };
    let mut findings = pages(config);
    let Some(url) = &config.smtp_url else {
        findings.push(without_server(config, &mailer).await);
        if send_to.is_some() {
            findings.push(Finding::problem(
                "no test mail was sent",
                "There is no server to hand it to. Set PORTCULLIS_SMTP_URL and PORTCULLIS_MAIL_FROM.",
            ));
        }
        return findings;
    };
    if url.exposes_password {
        findings.push(Finding::warning(
            format!("PORTCULLIS_SMTP_URL, {url}, sends its password unencrypted"),
            "Whoever is between this machine and the server can read it, and the mails, too, with which \
             accounts are opened. Write smtp+starttls:// (usually port 587) or smtps:// (465).",
        ));
    }
    let support = match within(mailer.try_connection()).await {
        Ok(support) => support,
        Err(error) => {
            findings.push(unreachable(config, url, &error));
            return findings;
        }
    };
    findings.push(Finding::ok(format!("the mail server answers: {url}")));
    if !support.smtputf8 {
        findings.push(without_smtputf8(config));
    }
    if let Some(to) = send_to {
        findings.push(send(config, &mailer, to).await);
    }
    findings
}

/// The server accepts only ASCII in addresses.
fn without_smtputf8(config: &Config) -> Finding {
    if config.mail_from.as_ref().is_some_and(|from| !from.email.to_string().is_ascii()) {
        return Finding::problem(
            "the mail server does not support the address of PORTCULLIS_MAIL_FROM",
            "The address has characters that need the extension SMTPUTF8, which the server lacks. No email can \
             be sent. Use an ASCII address, or another server.",
        );
    }
    Finding::warning(
        "the mail server does not support SMTPUTF8",
        "People can register with an address such as josé@example.com, but no email can be sent to it. The log \
         shows each email that fails. Enable SMTPUTF8 in the server, or use another one.",
    )
}

async fn without_server(config: &Config, mailer: &Mailer) -> Finding {
    if config.has_mail() {
        return match mailer.try_connection().await {
            Ok(_) => Finding::note(
                format!("mails go to {}", mailer.place()),
                "This is for development: anybody who can read the files can open accounts. Set \
                 PORTCULLIS_SMTP_URL and PORTCULLIS_MAIL_FROM before others use the service.",
            ),
            Err(error) => Finding::warning(
                "mails go nowhere",
                format!(
                    "{error}. With compose, COMPOSE_PROFILES=mail starts a mailbox. Until then mails wait \
                     in the database, for a day at most."
                ),
            ),
        };
    }
    Finding::warning(
        "no mail is sent: PORTCULLIS_SMTP_URL is not set",
        "Who forgets a password needs an admin, no address can be verified, and nobody is told of a \
         new device or a changed password. Set PORTCULLIS_SMTP_URL and PORTCULLIS_MAIL_FROM.",
    )
}

/// Where the links in mails lead.
fn pages(config: &Config) -> Vec<Finding> {
    let pages = [
        ("PORTCULLIS_RESET_URL", &config.reset_url, "who wants a new password"),
        ("PORTCULLIS_VERIFY_URL", &config.verify_url, "who verifies an address"),
    ];
    let pages = pages.into_iter().filter_map(|(name, page, who)| match page {
        None if config.smtp_url.is_some() => Some(Finding::warning(
            format!("{name} is not set"),
            format!(
                "The link in the mail leads {who} to a bare page of the service, which asks for the code \
                 to be entered in the app. Set {name} to the page of your app that takes ?token=."
            ),
        )),
        Some(page) if config.public_url.is_https() && !is_safe(page) => Some(Finding::warning(
            format!("{name} is {page}, not https"),
            format!("What opens the account of {who} crosses the network in clear. Serve it by https."),
        )),
        _ => None,
    });
    pages.collect()
}

fn is_safe(page: &Url) -> bool {
    page.scheme() == "https" || page.host_str() == Some("localhost")
}

async fn send(config: &Config, mailer: &Mailer, to: &str) -> Finding {
    let to = match names::email("--send-test-mail", to) {
        Ok(to) => to,
        Err(fault) => return Finding::problem("no test mail was sent", fault.to_string()),
    };
    let id = format!("doctor-{:016x}", rand::random::<u64>());
    let mail = Outgoing { to: &to, id: &id, letter: &Letter::test(&mailer.service) };
    match within(mailer.send(&mail)).await {
        Ok(()) => Finding::note(
            format!("the mail server took a test mail to {to}"),
            "Whether it arrives is another matter: look into the mailbox, also where spam goes. A domain \
             that mails are from should name its servers (SPF) and sign (DKIM), or others refuse them.",
        ),
        Err(error) => {
            let text = chain(&error);
            let why = match rejected_greeting(config, &text) {
                Some(why) => why,
                None if text.contains("SMTPUTF8") => {
                    "The server accepts only ASCII addresses: it lacks the extension SMTPUTF8."
                        .to_owned()
                }
                None => "It may not let this login send from PORTCULLIS_MAIL_FROM.".to_owned(),
            };
            Finding::problem(
                format!("the mail server did not take a test mail to {to}"),
                format!("{text}. {why}"),
            )
        }
    }
}

/// What helps if the server rejects the name in EHLO or HELO.
fn rejected_greeting(config: &Config, text: &str) -> Option<String> {
    let lower = text.to_lowercase();
    let is_rejected =
        ["helo", "ehlo", "fully-qualified", "fqdn"].iter().any(|word| lower.contains(word));
    is_rejected.then(|| {
        format!(
            "The service greets the server as {}: by the host of PORTCULLIS_PUBLIC_URL or, if that is no domain \
             with a dot, by the domain of PORTCULLIS_MAIL_FROM. Set one of them to a domain that the server accepts.",
            mail::greeting(config)
        )
    })
}

fn unreachable(config: &Config, url: &SmtpUrl, error: &BoxError) -> Finding {
    let text = chain(error);
    let lower = text.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let greeting = rejected_greeting(config, &text);
    let why = if let Some(why) = &greeting {
        why
    } else if has(&["certificate", "unknownissuer", "notvalidforname"]) {
        "Its certificate is not one that this machine trusts for that host. Name the host that the \
         certificate is for, or, for a certificate of your own, name its file in SSL_CERT_FILE."
    } else if has(&["authentic", "535", "credential", "username"]) {
        "It does not take the login of PORTCULLIS_SMTP_URL. Special characters in the user and the \
         password must be percent-encoded there: @ is %40, : is %3A, / is %2F."
    } else if has(&["refused"]) {
        "Nothing listens there. Ports are usually 587 for smtp+starttls://, 465 for smtps:// and 25 for \
         smtp://; inside a container localhost is the container itself."
    } else if has(&["resolve", "lookup", "name or service"]) {
        "The name is not known here. Look for a typing error in PORTCULLIS_SMTP_URL."
    } else if has(&["tls", "corrupt", "handshake", "incomplete", "eof"]) {
        "It does not speak TLS in the way of the URL: smtps:// has it from the start (465), \
         smtp+starttls:// asks for it first (587)."
    } else if has(&["too long", "timed out"]) {
        "A firewall may be in the way: many providers block port 25, and 587 is open with most."
    } else {
        "Mails wait, and are tried for a day."
    };
    Finding::problem(format!("the mail server cannot be used: {url}"), format!("{text}. {why}"))
}

async fn within<T>(work: impl Future<Output = Result<T, BoxError>>) -> Result<T, BoxError> {
    timeout(PATIENCE, work).await.unwrap_or_else(|_| Err("it took too long".into()))
}

/// An error with what caused it.
fn chain(error: &BoxError) -> String {
    let first: &dyn std::error::Error = error.as_ref();
    let causes = std::iter::successors(Some(first), |error| error.source());
    let mut texts: Vec<String> = Vec::new();
    for text in causes.map(ToString::to_string) {
        if !texts.iter().any(|known| known.contains(&text)) {
            texts.push(text);
        }
    }
    texts.join(": ")
}
