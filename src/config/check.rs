//! Whether the settings fit each other.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use url::Url;

use super::{Config, SameSite, database_url, values};
use crate::names;

impl Config {
    /// Checks the settings against each other.
    ///
    /// # Errors
    /// One line that names the variables and what is allowed.
    pub fn check(&self) -> Result<(), String> {
        if let Some(url) = &self.database_url {
            database_url::parse(url.expose_secret())
                .map_err(|error| format!("DATABASE_URL {error} (its value is not shown)"))?;
        }
        if self.cookie_samesite == SameSite::None && !self.public_url.is_https() {
            return Err(format!(
                "PORTCULLIS_COOKIE_SAMESITE=\"none\" needs an https PORTCULLIS_PUBLIC_URL, which is \"{}\": browsers drop such a cookie without Secure",
                self.public_url
            ));
        }
        if let Some(domain) = &self.cookie_domain
            && !self.public_url.is_within(domain)
        {
            return Err(format!(
                "PORTCULLIS_COOKIE_DOMAIN=\"{domain}\" must be the host of PORTCULLIS_PUBLIC_URL, \"{}\", or a domain above it",
                self.public_url
            ));
        }
        if let Some(max) = self.remember_limit()
            && max < self.remember_for
        {
            let time = |duration| humantime::format_duration(duration);
            return Err(format!(
                "PORTCULLIS_REMEMBER_MAX=\"{}\" must not be less than PORTCULLIS_REMEMBER_FOR, which is \"{}\"",
                time(max),
                time(self.remember_for)
            ));
        }
        self.check_mail()?;
        let named = self.admin_username.is_some() || self.admin_email.is_some();
        if self.admin_password.is_some() && !named {
            return Err("PORTCULLIS_ADMIN_PASSWORD needs PORTCULLIS_ADMIN_USERNAME or PORTCULLIS_ADMIN_EMAIL: whose password it is".into());
        }
        Ok(())
    }

    /// How long after its login a remembered session ends, if activity extends it.
    #[must_use]
    pub fn remember_limit(&self) -> Option<Duration> {
        self.remember_refresh.is_on().then_some(self.remember_max)
    }

    fn check_mail(&self) -> Result<(), String> {
        if self.smtp_url.is_some() && self.mail_from.is_none() {
            return Err("PORTCULLIS_SMTP_URL needs PORTCULLIS_MAIL_FROM, such as Example <auth@example.com>: whom mails are from".into());
        }
        let needing = [
            ("PORTCULLIS_REGISTRATION_PRIVACY", self.registration_privacy),
            ("PORTCULLIS_REQUIRE_VERIFIED_EMAIL", self.require_verified_email),
            ("PORTCULLIS_LOGIN_CODE", self.login_code),
        ];
        if let Some((name, _)) = needing.into_iter().find(|(_, switch)| switch.is_on())
            && !self.has_mail()
        {
            return Err(format!(
                "{name}=\"on\" needs mail: set PORTCULLIS_SMTP_URL and PORTCULLIS_MAIL_FROM"
            ));
        }
        Ok(())
    }

    /// Whether a page is one of ours: of the own origin, of an allowed one, or of a host that gets the
    /// cookie.
    #[must_use]
    pub fn is_ours(&self, page: &Url) -> bool {
        let origin = page.origin().ascii_serialization();
        origin == self.public_url.origin().as_str()
            || self.allowed_origins.iter().any(|allowed| allowed.as_str() == origin)
            || self.cookie_domain.as_deref().is_some_and(|domain| {
                let scheme = if self.public_url.is_https() { "https" } else { "http" };
                page.scheme() == scheme && values::is_within(page, domain)
            })
    }

    /// How the email addresses of new accounts are read.
    #[must_use]
    pub fn new_email(&self) -> names::Read {
        names::new_email(self.public_url.is_local_http())
    }

    /// Whether mails go anywhere. Without a server only a service for development keeps them, as its
    /// log then lets in whoever reads it.
    #[must_use]
    pub fn has_mail(&self) -> bool {
        self.smtp_url.is_some() || !self.public_url.is_https()
    }
}
