//! Where mails are handed over, as it is written in the settings.

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

/// What is allowed, as the end of the sentence "it must be …".
const ALLOWED: &str = "smtp+starttls://, smtps:// or smtp:// with user:password@host:port, or with \
     host:port alone; special characters in the user and the password percent-encoded";

/// A server that takes mails, perhaps with a login.
#[derive(Clone)]
pub struct SmtpUrl {
    /// Where and how, for people; without the login.
    place: String,
    /// The form that lettre reads.
    connection: SecretString,
    /// Whether a password would be sent where it can be read on the way.
    pub exposes_password: bool,
}

impl SmtpUrl {
    /// Takes `smtps://` (TLS from the start, RFC 8314), `smtp+starttls://` (TLS required, RFC 3207) and
    /// `smtp://` (no TLS), with a login or without.
    ///
    /// # Errors
    /// What is allowed; never what was given.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text.trim()).map_err(|_| ALLOWED.to_owned())?;
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(ALLOWED)?;
        let has_login = !url.username().is_empty();
        let is_whole = has_login == url.password().is_some()
            && matches!(url.path(), "" | "/")
            && url.query().is_none()
            && url.fragment().is_none();
        if !is_whole {
            return Err(ALLOWED.to_owned());
        }
        let connection = match url.scheme() {
            "smtps" | "smtp" => url.to_string(),
            "smtp+starttls" => {
                let rest = url.as_str().trim_start_matches("smtp+starttls");
                format!("smtp{}?tls=required", rest.trim_end_matches('/'))
            }
            _ => return Err(ALLOWED.to_owned()),
        };
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let is_local = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
        Ok(Self {
            place: format!("{}://{host}{port}", url.scheme()),
            connection: connection.into(),
            exposes_password: has_login && url.scheme() == "smtp" && !is_local,
        })
    }

    /// What lettre connects by.
    #[must_use]
    pub fn connection(&self) -> &str {
        self.connection.expose_secret()
    }
}

impl fmt::Display for SmtpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)
    }
}

impl fmt::Debug for SmtpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SmtpUrl({})", self.place)
    }
}

#[cfg(test)]
mod tests {
    use lettre::{AsyncSmtpTransport, Tokio1Executor};

    use super::*;

    #[test]
    fn the_login_is_never_shown_and_lettre_takes_every_form() {
        for (text, place, exposes) in [
            ("smtp://localhost:1025", "smtp://localhost:1025", false),
            ("smtp://a:hunter2@localhost", "smtp://localhost", false),
            ("smtp://a:hunter2@mail.example.com", "smtp://mail.example.com", true),
            ("smtps://a%40b:hunter2@mail.example.com/", "smtps://mail.example.com", false),
            (
                "smtp+starttls://a:hunter2@mail.example.com:587",
                "smtp+starttls://mail.example.com:587",
                false,
            ),
            (" smtp+starttls://[::1]/ ", "smtp+starttls://[::1]", false),
        ] {
            let url = SmtpUrl::parse(text).expect(text);
            assert_eq!((url.to_string().as_str(), url.exposes_password), (place, exposes));
            assert!(!format!("{url} {url:?}").contains("hunter2"));
            AsyncSmtpTransport::<Tokio1Executor>::from_url(url.connection()).expect(text);
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_without_showing_it() {
        for text in [
            "mail.example.com",
            "http://mail.example.com",
            "smtp://",
            "smtp:mail.example.com",
            "smtp://hunter2@mail.example.com",
            "smtp://:hunter2@mail.example.com",
            "smtp://a:hunter2@mail.example.com/path",
            "smtp://a:hunter2@mail.example.com?tls=none",
            "smtps://a:hunter2@mail.example.com#x",
        ] {
            assert!(!SmtpUrl::parse(text).expect_err(text).contains("hunter2"));
        }
    }
}
