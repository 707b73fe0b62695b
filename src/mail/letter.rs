//! What each mail says.
//!
//! Nothing in a mail is what somebody else chose, such as a name: whoever registers with the address of
//! another could have us send them anything.

use std::fmt;
use std::time::Duration;

use askama::Template;
use serde_json::Value;
use time::OffsetDateTime;
use url::Url;

/// What a mail says, in any form.
#[derive(Default)]
pub struct Letter {
    /// The subject.
    pub subject: &'static str,
    before: Vec<String>,
    link: Option<Link>,
    code: Option<TypedCode>,
    after: Vec<String>,
}

struct Link {
    label: &'static str,
    url: Url,
}

struct TypedCode {
    label: &'static str,
    text: String,
}

/// What opens something, as the mail shows it.
pub struct Key {
    /// The link that holds the token.
    pub link: Url,
    /// The code that may be typed instead.
    pub code: String,
    /// How long they stand.
    pub lifetime: Duration,
}

#[derive(Template)]
#[template(path = "letter.txt", config = "src/mail/askama.toml")]
struct Text<'a> {
    letter: &'a Letter,
    service: &'a str,
}

#[derive(Template)]
#[template(path = "letter.html", config = "src/mail/askama.toml")]
struct Html<'a> {
    letter: &'a Letter,
    service: &'a str,
}

/// Shows neither the link nor the code.
impl fmt::Debug for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Letter").field("subject", &self.subject).finish_non_exhaustive()
    }
}

impl Letter {
    /// Replaces the letter's link and code in a text. A mail server may quote the mail that it
    /// rejects, and its answer is logged.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        let mut secrets = Vec::new();
        if let Some(link) = &self.link {
            secrets.extend(link.url.query_pairs().map(|(_, value)| value.into_owned()));
        }
        if let Some(code) = &self.code {
            secrets.extend([code.text.clone(), code.text.replace('-', "")]);
        }
        secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "[redacted]"))
    }

    /// As plain text, from a service of this name.
    ///
    /// # Errors
    /// None: it writes to memory.
    pub fn text(&self, service: &str) -> askama::Result<String> {
        Text { letter: self, service }.render()
    }

    /// As HTML, from a service of this name.
    ///
    /// # Errors
    /// None: it writes to memory.
    pub fn html(&self, service: &str) -> askama::Result<String> {
        Html { letter: self, service }.render()
    }

    /// Prove that the address is yours.
    #[must_use]
    pub fn verify_email(service: &str, at: OffsetDateTime, key: Key) -> Self {
        let asked = format!(
            "On {}, somebody, probably you, gave this email address to {service}. To confirm that it is yours, open this page:",
            moment(at)
        );
        let not_me = "If you gave it at another time, wait for the mail of that time. If it was not you at all, do nothing: confirming it would let somebody else in with your address.";
        Self::with_key("Confirm your email address", asked, "Confirm the address", key, not_me)
    }

    /// The address is taken: for whoever has it, when somebody wants an account with it.
    #[must_use]
    pub fn email_taken(service: &str) -> Self {
        Self::notice(
            "You have an account already",
            [
                format!("Somebody, probably you, wanted an account at {service} with this email address."),
                "There is one already. Log in with this address; if you have forgotten the password, ask for a new one.".to_owned(),
                "If it was not you, you need not do anything: nothing has changed.".to_owned(),
            ],
        )
    }

    /// Choose a new password.
    #[must_use]
    pub fn reset_password(service: &str, key: Key) -> Self {
        let asked = format!(
            "Somebody, probably you, asked for a new password for your account at {service}. To choose one, open this page:"
        );
        let not_me = "If it was not you, do nothing: your password stays as it is.";
        Self::with_key("Choose a new password", asked, "Choose a new password", key, not_me)
    }

    /// Log in by a code.
    #[must_use]
    pub fn log_in(service: &str, code: String, lifetime: Duration) -> Self {
        Self {
            subject: "Your code to log in",
            code: Some(TypedCode { label: "To log in, enter this code where you asked for it:", text: code }),
            after: vec![
                format!("It is for {service} alone, good for {}, and once. Give it to nobody: we never ask for it.", words(lifetime)),
                "If you did not ask for it, do nothing. Somebody may have typed your address by mistake.".to_owned(),
            ],
            ..Self::default()
        }
    }

    /// The password was changed; `details` say how many sessions and API tokens that revoked.
    #[must_use]
    pub fn password_changed(service: &str, at: OffsetDateTime, details: &Value) -> Self {
        let count = |name: &str, one: &str, many: &str| match details[name].as_i64() {
            None | Some(0) => format!("No {one} was"),
            Some(1) => format!("1 {one} was"),
            Some(count) => format!("{count} {many} were"),
        };
        let revoked = format!(
            "{} logged out. {} revoked. Links and codes from earlier emails no longer work.",
            count("sessions", "other session", "other sessions"),
            count("api_tokens", "API token", "API tokens"),
        );
        Self::notice(
            "Your password was changed",
            [
                format!("The password of your account at {service} was changed on {}.", moment(at)),
                revoked,
                "If this was not you, use \"forgot password\" where you log in. A new password set that way logs out every session and revokes every API token.".to_owned(),
            ],
        )
    }

    /// A client that the account does not know has logged in; `details` tell which.
    #[must_use]
    pub fn new_device(service: &str, at: OffsetDateTime, details: &Value) -> Self {
        let device = details["device"].as_str().unwrap_or("An unknown device");
        let from = details["ip"].as_str().map(|ip| format!(" from the address {ip}"));
        let from = from.unwrap_or_default();
        Self::notice(
            "A new device has logged in",
            [
                format!("A device that is new to your account at {service} has logged in:"),
                format!("{device}{from}, on {}.", moment(at)),
                "If this was not you, change your password at once. That logs out every other session and revokes every API token.".to_owned(),
            ],
        )
    }

    /// Another address was asked for: for whoever has the one that stands.
    #[must_use]
    pub fn email_change_requested(service: &str, at: OffsetDateTime) -> Self {
        Self::notice(
            "Another email address was asked for",
            [
                format!(
                    "On {}, somebody who is logged in asked for another email address for your account at {service}.",
                    moment(at)
                ),
                "This one stays until the other is confirmed.".to_owned(),
                "If this was not you, change your password at once. That logs out every other session, revokes every API token, and drops the other address.".to_owned(),
            ],
        )
    }

    /// The account has another address now: for whoever has the old one.
    #[must_use]
    pub fn email_changed(service: &str, at: OffsetDateTime) -> Self {
        Self::notice(
            "Your email address was changed",
            [
                format!(
                    "Your account at {service} no longer has this email address since {}.",
                    moment(at)
                ),
                "If it was not you, somebody else may have your account: turn to those who run the service.".to_owned(),
            ],
        )
    }

    /// Wrong passwords have exhausted a limit; `details` tell whether a logged-in session gave them.
    #[must_use]
    pub fn account_locked(service: &str, at: OffsetDateTime, details: &Value) -> Self {
        let subject = "Too many wrong passwords";
        let moment = moment(at);
        if details["logged_in"] == true {
            return Self::notice(
                subject,
                [
                    format!(
                        "On {moment}, wrong passwords for your account at {service} exhausted a limit. At least one came from somebody who is logged in to your account."
                    ),
                    "If it was not you, change your password and log out all other devices."
                        .to_owned(),
                ],
            );
        }
        Self::notice(subject, [
            format!("On {moment}, somebody entered a wrong password for your account at {service} many times. Unknown devices have to wait some minutes before they can log in."),
            "Devices that you have logged in with before are not affected.".to_owned(),
            "If it was not you, you need not do anything, as long as your password is hard to guess and used nowhere else.".to_owned(),
        ])
    }

    /// A login by an emailed code has revoked all other access.
    #[must_use]
    pub fn access_reset(service: &str, at: OffsetDateTime) -> Self {
        Self::notice(
            "All other access to your account was revoked",
            [
                format!("On {}, you logged in to {service} with an emailed code.", moment(at)),
                "We did not know whether you or somebody else had chosen the password of your account. So we removed the password, logged out all other sessions, and revoked all API tokens.".to_owned(),
                "To log in with a password again, request a new one where you log in.".to_owned(),
                "If you did not log in, somebody else can read your email. Change the password of your mailbox, then request a new password here.".to_owned(),
            ],
        )
    }

    /// The account has another username now; `details` say whether an admin did that.
    #[must_use]
    pub fn username_changed(service: &str, at: OffsetDateTime, details: &Value) -> Self {
        let by = if details["by_admin"] == true { " by an administrator" } else { "" };
        let not_me = match by {
            "" => {
                "If this was not you, change your password at once. That logs out every other session and revokes every API token. Then change the username back."
            }
            _ => "If you did not expect this, ask those who run the service.",
        };
        Self::notice(
            "Your username was changed",
            [
                format!("The username of your account at {service} was changed{by} on {}.", moment(at)),
                "The old username no longer works for logging in. It stays reserved for your account for 30 days.".to_owned(),
                not_me.to_owned(),
            ],
        )
    }

    /// An API token was created; `details` hold its scopes and its end. Not its name, which an intruder may have chosen.
    #[must_use]
    pub fn token_created(service: &str, at: OffsetDateTime, details: &Value) -> Self {
        let scopes = details["scopes"].as_array().map(Vec::as_slice).unwrap_or_default();
        let scopes: Vec<_> = scopes.iter().filter_map(Value::as_str).collect();
        let expires_at = details["expires_at"].as_i64();
        let end = expires_at.and_then(|end| OffsetDateTime::from_unix_timestamp(end).ok());
        let end = end.map_or_else(
            || "It does not expire.".to_owned(),
            |end| format!("It expires on {}.", moment(end)),
        );
        Self::notice(
            "An API token was created",
            [
                format!("An API token for your account at {service} was created on {}.", moment(at)),
                format!("Its scopes: {}. {end}", scopes.join(", ")),
                "If this was not you, change your password at once. That logs out every other session and revokes every API token.".to_owned(),
            ],
        )
    }

    /// To try whether mails arrive.
    #[must_use]
    pub fn test(service: &str) -> Self {
        let text = format!("{service} can send mails: this is one, sent by `portcullis doctor`.");
        Self::notice("A test", [text])
    }

    fn notice<const N: usize>(subject: &'static str, paragraphs: [String; N]) -> Self {
        Self { subject, before: paragraphs.into(), ..Self::default() }
    }

    fn with_key(
        subject: &'static str,
        asked: String,
        label: &'static str,
        key: Key,
        not_me: &str,
    ) -> Self {
        let lifetime = format!("Both are good for {}, and once.", words(key.lifetime));
        Self {
            subject,
            before: vec![asked],
            link: Some(Link { label, url: key.link }),
            code: Some(TypedCode {
                label: "Or enter this code where you are asked for it:",
                text: key.code,
            }),
            after: vec![lifetime, not_me.to_owned()],
        }
    }
}

/// A duration in words, to the minute.
fn words(duration: Duration) -> String {
    match duration.as_secs() / 60 {
        minutes if minutes > 60 && minutes % 60 == 0 => format!("{} hours", minutes / 60),
        minutes => format!("{minutes} minutes"),
    }
}

/// A time in words, to the minute.
fn moment(at: OffsetDateTime) -> String {
    let (day, month, year) = (at.day(), at.month(), at.year());
    format!("{day} {month} {year} at {:02}:{:02} UTC", at.hour(), at.minute())
}
