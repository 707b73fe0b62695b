//! The settings that are one word out of a few.

use clap::ValueEnum;

/// `SameSite` of the session cookie (RFC 6265bis §5.6.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SameSite {
    /// Sent from other sites only by following a link.
    Lax,
    /// Never sent from other sites.
    Strict,
    /// Sent from every site.
    None,
}

/// Who may make an account by `POST /users`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Registration {
    /// Anyone.
    Open,
    /// Admins only.
    Closed,
}

/// Session protection, as Flask-Login's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SessionProtection {
    /// Nothing.
    Off,
    /// It is no longer fresh.
    Basic,
    /// It ends; a remembered one is only no longer fresh.
    Strong,
}

/// `Strict-Transport-Security` behind https (RFC 6797; ASVS 3.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Hsts {
    /// For the host of the public URL.
    On,
    /// For that host and all hosts below it.
    Subdomains,
    /// No header: a proxy sends its own.
    Off,
}

/// A setting that is on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// As it says.
    On,
    /// As it says.
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
    /// For people.
    Text,
    /// One JSON object a line, for machines.
    Json,
}
