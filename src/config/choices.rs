//! The settings that are one word out of a few.

use clap::ValueEnum;

/// `SameSite` of the session cookie (RFC 6265bis §5.6.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SameSite {
    /// Sent by requests from other sites only if the user follows a link
    Lax,
    /// Never sent by requests from other sites
    Strict,
    /// Sent by requests from every site
    None,
}

/// Who may make an account by `POST /users`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Registration {
    /// Anyone
    Open,
    /// Admins only
    Closed,
}

/// Session protection, as Flask-Login's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SessionProtection {
    /// Nothing
    Off,
    /// It no longer counts as recently authenticated
    Basic,
    /// It is revoked; a remembered one only stops counting as recently authenticated
    Strong,
}

/// `Strict-Transport-Security` behind https (RFC 6797; ASVS 3.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Hsts {
    /// For the host of the public URL
    On,
    /// For that host and its subdomains (includeSubDomains)
    Subdomains,
    /// No header, for example because a proxy sends one
    Off,
}

/// A setting that is on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// It is on.
    #[value(help = None::<&'static str>, aliases = ["true", "yes", "1"])]
    On,
    /// It is off.
    #[value(help = None::<&'static str>, aliases = ["false", "no", "0"])]
    Off,
}

impl Switch {
    /// Whether it is on.
    #[must_use]
    pub fn is_on(self) -> bool {
        self == Self::On
    }
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text for people
    Text,
    /// One JSON object a line, for programs
    Json,
}
