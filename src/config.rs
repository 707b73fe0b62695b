//! Every setting, its default and its limits. `--help` prints this file.

mod choices;
mod smtp_url;
mod values;

use std::env::VarError;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Args, Command, FromArgMatches};
use ipnet::IpNet;
use lettre::message::Mailbox;
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

pub use choices::{LogFormat, Registration, SameSite, SessionProtection, Switch};
pub use smtp_url::SmtpUrl;
pub use values::{Origin, PublicUrl, Rate, duration};

/// The settings of one Portcullis. Secrets have no flag: a command line is for all to see.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// `DATABASE_URL`: the PostgreSQL to use; unset means the embedded one.
    #[arg(skip)]
    pub database_url: Option<SecretString>,

    /// Where the embedded PostgreSQL keeps its data
    #[arg(long, env = "PORTCULLIS_DATA_DIR", value_name = "DIR", default_value = "./.portcullis")]
    pub data_dir: PathBuf,

    /// The address and port to serve on
    #[arg(long, env = "PORTCULLIS_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8080", value_parser = values::listen)]
    pub listen: SocketAddr,

    /// Where clients reach the service; https makes cookies Secure
    #[arg(long, env = "PORTCULLIS_PUBLIC_URL", value_name = "URL", default_value = "http://localhost:8080", value_parser = PublicUrl::parse)]
    pub public_url: PublicUrl,

    /// Origins of single-page apps that may call with credentials, separated by commas
    #[arg(long, env = "PORTCULLIS_ALLOWED_ORIGINS", value_name = "ORIGINS", value_delimiter = ',', value_parser = Origin::parse)]
    pub allowed_origins: Vec<Origin>,

    /// SameSite of the session cookie; none needs an https public URL
    #[arg(long, env = "PORTCULLIS_COOKIE_SAMESITE", value_name = "POLICY", default_value = "lax")]
    pub cookie_samesite: SameSite,

    /// Domain of the session cookie, to share it with backends on sibling hosts; unset keeps it to one host
    #[arg(long, env = "PORTCULLIS_COOKIE_DOMAIN", value_name = "DOMAIN", value_parser = values::domain)]
    pub cookie_domain: Option<String>,

    /// Who may make an account: anyone, or admins only
    #[arg(long, env = "PORTCULLIS_REGISTRATION", value_name = "POLICY", default_value = "open")]
    pub registration: Registration,

    /// bcrypt's cost, 4 to 16; below 10 is for tests
    #[arg(long, env = "PORTCULLIS_BCRYPT_COST", value_name = "COST", default_value = "12", value_parser = values::bcrypt_cost)]
    pub bcrypt_cost: u32,

    /// How long a session that is not remembered stands without being used
    #[arg(long, env = "PORTCULLIS_SESSION_IDLE", value_name = "DURATION", default_value = "12h", value_parser = values::duration)]
    pub session_idle: Duration,

    /// How long a session that is not remembered stands at most
    #[arg(long, env = "PORTCULLIS_SESSION_LIFETIME", value_name = "DURATION", default_value = "7d", value_parser = values::duration)]
    pub session_lifetime: Duration,

    /// How long a remembered session stands
    #[arg(long, env = "PORTCULLIS_REMEMBER_FOR", value_name = "DURATION", default_value = "30d", value_parser = values::duration)]
    pub remember_for: Duration,

    /// How long a session is fresh after the password was given
    #[arg(long, env = "PORTCULLIS_FRESH_FOR", value_name = "DURATION", default_value = "15m", value_parser = values::duration)]
    pub fresh_for: Duration,

    /// Whether using a remembered session extends it
    #[arg(long, env = "PORTCULLIS_REMEMBER_REFRESH", value_name = "SWITCH", default_value = "off")]
    pub remember_refresh: Switch,

    /// What happens to a session that is used by another client than the one that gave the password
    #[arg(
        long,
        env = "PORTCULLIS_SESSION_PROTECTION",
        value_name = "MODE",
        default_value = "basic"
    )]
    pub session_protection: SessionProtection,

    /// Whether a request may carry name and password as Authorization: Basic
    #[arg(long, env = "PORTCULLIS_BASIC_AUTH", value_name = "SWITCH", default_value = "off")]
    pub basic_auth: Switch,

    /// Whether a request may carry an API token as ?api_key=; URLs end up in logs
    #[arg(long, env = "PORTCULLIS_API_KEY_QUERY", value_name = "SWITCH", default_value = "off")]
    pub api_key_query: Switch,

    /// Whether guessing is limited; off for load tests, and behind another limiter
    #[arg(long, env = "PORTCULLIS_THROTTLE", value_name = "SWITCH", default_value = "on")]
    pub throttle: Switch,

    /// How many wrong passwords are taken for one name, and from one client that its account knows
    #[arg(long, env = "PORTCULLIS_THROTTLE_ACCOUNT", value_name = "RATE", default_value = "10/10m", value_parser = Rate::parse)]
    pub throttle_account: Rate,

    /// How many wrong passwords are taken from one network (/24, /56)
    #[arg(long, env = "PORTCULLIS_THROTTLE_NETWORK", value_name = "RATE", default_value = "100/15m", value_parser = Rate::parse)]
    pub throttle_network: Rate,

    /// How many tries to take a name, by registering or renaming, are taken from one network
    #[arg(long, env = "PORTCULLIS_THROTTLE_REGISTRATION", value_name = "RATE", default_value = "50/1h", value_parser = Rate::parse)]
    pub throttle_registration: Rate,

    /// How long audit events are kept
    #[arg(long, env = "PORTCULLIS_AUDIT_KEEP", value_name = "DURATION", default_value = "365d", value_parser = values::duration)]
    pub audit_keep: Duration,

    /// Characters that a new password has at least, 8 to 64
    #[arg(long, env = "PORTCULLIS_PASSWORD_MIN_LENGTH", value_name = "LENGTH", default_value = "8", value_parser = values::password_min_length)]
    pub password_min_length: usize,

    /// Whether registration hides which addresses are taken: the account is made when its address is verified
    #[arg(
        long,
        env = "PORTCULLIS_REGISTRATION_PRIVACY",
        value_name = "SWITCH",
        default_value = "off"
    )]
    pub registration_privacy: Switch,

    /// Whether an account with an address must have verified it to log in
    #[arg(
        long,
        env = "PORTCULLIS_REQUIRE_VERIFIED_EMAIL",
        value_name = "SWITCH",
        default_value = "off"
    )]
    pub require_verified_email: Switch,

    /// Whether people may log in by a code that is mailed to them
    #[arg(long, env = "PORTCULLIS_LOGIN_CODE", value_name = "SWITCH", default_value = "off")]
    pub login_code: Switch,

    /// `PORTCULLIS_SMTP_URL`: where mails are handed over; unset, a service for development keeps them.
    #[arg(skip)]
    pub smtp_url: Option<SmtpUrl>,

    /// Whom mails are from, such as Example <auth@example.com>; the name is what they call the service
    #[arg(long, env = "PORTCULLIS_MAIL_FROM", value_name = "MAILBOX", value_parser = values::mailbox)]
    pub mail_from: Option<Mailbox>,

    /// The frontend's page for a new password; mailed links lead there with ?token=
    #[arg(long, env = "PORTCULLIS_RESET_URL", value_name = "URL", value_parser = values::page)]
    pub reset_url: Option<Url>,

    /// The frontend's page that verifies an address; mailed links lead there with ?token=
    #[arg(long, env = "PORTCULLIS_VERIFY_URL", value_name = "URL", value_parser = values::page)]
    pub verify_url: Option<Url>,

    /// How many mails of one kind may be asked for to one address
    #[arg(long, env = "PORTCULLIS_THROTTLE_MAIL", value_name = "RATE", default_value = "5/1h", value_parser = Rate::parse)]
    pub throttle_mail: Rate,

    /// How many mails may be asked for from one network
    #[arg(long, env = "PORTCULLIS_THROTTLE_MAIL_NETWORK", value_name = "RATE", default_value = "50/1h", value_parser = Rate::parse)]
    pub throttle_mail_network: Rate,

    /// How long a connection may take to send the head of a request, the wait for it included
    #[arg(long, env = "PORTCULLIS_HEADER_TIMEOUT", value_name = "DURATION", default_value = "30s", value_parser = values::duration)]
    pub header_timeout: Duration,

    /// How long a request may take, its body included
    #[arg(long, env = "PORTCULLIS_REQUEST_TIMEOUT", value_name = "DURATION", default_value = "30s", value_parser = values::duration)]
    pub request_timeout: Duration,

    /// Connections at once; more wait until one ends
    #[arg(long, env = "PORTCULLIS_MAX_CONNECTIONS", value_name = "NUMBER", default_value = "8192", value_parser = values::max_connections)]
    pub max_connections: u32,

    /// How long requests in flight have when the service is told to stop
    #[arg(long, env = "PORTCULLIS_SHUTDOWN_GRACE", value_name = "DURATION", default_value = "20s", value_parser = values::duration)]
    pub shutdown_grace: Duration,

    /// Connections to PostgreSQL at once
    #[arg(long, env = "PORTCULLIS_DATABASE_CONNECTIONS", value_name = "NUMBER", default_value = "16", value_parser = values::database_connections)]
    pub database_connections: u32,

    /// How long a request waits for a connection to PostgreSQL before it says that there is none
    #[arg(long, env = "PORTCULLIS_DATABASE_ACQUIRE_TIMEOUT", value_name = "DURATION", default_value = "1s", value_parser = values::duration)]
    pub database_acquire_timeout: Duration,

    /// How long a statement may take
    #[arg(long, env = "PORTCULLIS_DATABASE_STATEMENT_TIMEOUT", value_name = "DURATION", default_value = "10s", value_parser = values::duration)]
    pub database_statement_timeout: Duration,

    /// Proxies whose X-Forwarded-For is believed, as networks separated by commas
    #[arg(long, env = "PORTCULLIS_TRUSTED_PROXIES", value_name = "NETWORKS", value_delimiter = ',', value_parser = values::network)]
    pub trusted_proxies: Vec<IpNet>,

    /// Username of the first admin, made at start when there is none
    #[arg(long, env = "PORTCULLIS_ADMIN_USERNAME", value_name = "USERNAME")]
    pub admin_username: Option<String>,

    /// Email address of the first admin
    #[arg(long, env = "PORTCULLIS_ADMIN_EMAIL", value_name = "EMAIL")]
    pub admin_email: Option<String>,

    /// `PORTCULLIS_ADMIN_PASSWORD`: the password of the first admin.
    #[arg(skip)]
    pub admin_password: Option<SecretString>,

    /// What to log: error, warn, info, debug, trace, or tracing's filter directives
    #[arg(long, env = "PORTCULLIS_LOG", value_name = "FILTER", default_value = "info", value_parser = values::log_filter)]
    pub log: String,

    /// How to write the log
    #[arg(long, env = "PORTCULLIS_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// What `--help` says of the settings that have no flag.
pub const SECRETS_HELP: &str = "\
Secrets, as environment variables only:
  DATABASE_URL               The PostgreSQL to use; unset means the embedded one
  PORTCULLIS_ADMIN_PASSWORD  The password of the first admin
  PORTCULLIS_SMTP_URL        The server that takes mails: smtp+starttls://, smtps:// or, without TLS, smtp://, each
                             user:password@host:port; unset, mails go to the log and to files (not with https)

Durations are written 30s, 15m, 12h, 7d, and rates 10/15m: ten at once, and ten a quarter-hour. An empty variable counts as unset. A .env file in the
working directory is read; the real environment wins over it.";

impl Config {
    /// The settings of the environment, for the commands that take none as flags.
    ///
    /// # Errors
    /// One line that names the variable, its value and what is allowed.
    pub fn from_env() -> Result<Self, String> {
        let mut command = prepare(Self::augment_args(Command::new("portcullis")));
        let matches = command
            .try_get_matches_from_mut(["portcullis"])
            .map_err(|error| explain(&error, &command))?;
        Self::from_arg_matches(&matches).map_err(|error| explain(&error, &command))?.complete()
    }

    /// The settings of the environment, and a line for each whose value is not allowed: that one has
    /// its default here. How they fit each other is not looked at.
    ///
    /// # Errors
    /// One line, when the environment cannot be read at all.
    pub fn inspect() -> Result<(Self, Vec<String>), String> {
        let mut command = prepare(Self::augment_args(Command::new("portcullis")));
        let mut wrong = Vec::new();
        let matches = loop {
            let error = match command.try_get_matches_from_mut(["portcullis"]) {
                Ok(matches) => break matches,
                Err(error) => error,
            };
            let line = explain(&error, &command);
            let Some(id) = argument(&error, &command).map(|arg| arg.get_id().clone()) else {
                return Err(line);
            };
            command = command.mut_arg(id, |arg| arg.env(clap::builder::Resettable::Reset));
            wrong.push(line);
        };
        let mut config =
            Self::from_arg_matches(&matches).map_err(|error| explain(&error, &command))?;
        wrong.extend(config.read_secrets());
        Ok((config, wrong))
    }

    /// The defaults, whatever the environment says.
    ///
    /// # Errors
    /// None with the defaults as they are.
    pub fn defaults() -> Result<Self, String> {
        let command = Self::augment_args(Command::new("portcullis"))
            .mut_args(|arg| arg.env(clap::builder::Resettable::Reset));
        let matches = command.try_get_matches_from(["portcullis"]).map_err(|e| e.to_string())?;
        Self::from_arg_matches(&matches).map_err(|e| e.to_string())
    }

    /// Adds the secrets and checks the settings against each other.
    ///
    /// # Errors
    /// One line that names the variables and what is allowed.
    pub fn complete(mut self) -> Result<Self, String> {
        match self.read_secrets().into_iter().next() {
            Some(line) => Err(line),
            None => self.check().map(|()| self),
        }
    }

    /// Reads what has no flag, and returns a line for each that cannot be read.
    fn read_secrets(&mut self) -> Vec<String> {
        let secrets = [
            ("DATABASE_URL", &mut self.database_url),
            ("PORTCULLIS_ADMIN_PASSWORD", &mut self.admin_password),
        ];
        let read = secrets.into_iter().map(|(name, value)| secret(name).map(|read| *value = read));
        let smtp_url = read_smtp_url().map(|read| self.smtp_url = read);
        read.chain([smtp_url]).filter_map(Result::err).collect()
    }

    /// Checks the settings against each other.
    ///
    /// # Errors
    /// One line that names the variables and what is allowed.
    pub fn check(&self) -> Result<(), String> {
        if let Some(url) = &self.database_url
            && !["postgres://", "postgresql://"].iter().any(|s| url.expose_secret().starts_with(s))
        {
            return Err("DATABASE_URL must be a postgres:// URL (its value is not shown)".into());
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
        self.check_mail()?;
        let named = self.admin_username.is_some() || self.admin_email.is_some();
        if named != self.admin_password.is_some() {
            return Err("PORTCULLIS_ADMIN_PASSWORD and PORTCULLIS_ADMIN_USERNAME or PORTCULLIS_ADMIN_EMAIL make the first admin together: set both or neither".into());
        }
        Ok(())
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

    /// Whether mails go anywhere. Without a server only a service for development keeps them, as its
    /// log then lets in whoever reads it.
    #[must_use]
    pub fn has_mail(&self) -> bool {
        self.smtp_url.is_some() || !self.public_url.is_https()
    }
}

fn secret(name: &str) -> Result<Option<SecretString>, String> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty()).map(SecretString::from)),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => {
            Err(format!("{name} must be UTF-8 (its value is not shown)"))
        }
    }
}

fn read_smtp_url() -> Result<Option<SmtpUrl>, String> {
    let Some(url) = secret("PORTCULLIS_SMTP_URL")? else { return Ok(None) };
    SmtpUrl::parse(url.expose_secret()).map(Some).map_err(|allowed| {
        format!("PORTCULLIS_SMTP_URL must be {allowed} (its value is not shown)")
    })
}

/// Makes an empty variable count as unset (compose files write `${X:-}`), and keeps what the
/// variables hold out of `--help`.
#[must_use]
pub fn prepare(command: Command) -> Command {
    command
        .mut_args(|arg| {
            let arg = arg.hide_env_values(true);
            let empty = arg.get_env().and_then(std::env::var_os).is_some_and(|v| v.is_empty());
            if empty { arg.env(clap::builder::Resettable::Reset) } else { arg }
        })
        .mut_subcommands(prepare)
}

/// clap's error in one line that names the variable, its value and what is allowed.
pub fn explain(error: &clap::Error, command: &Command) -> String {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(", ")),
        _ => None,
    };
    if !matches!(error.kind(), ErrorKind::InvalidValue | ErrorKind::ValueValidation) {
        let text = error.to_string();
        let first = text.lines().take_while(|line| !line.is_empty()).map(str::trim);
        let line = first.collect::<Vec<_>>().join(" ");
        return format!("{} (see --help)", line.trim_start_matches("error: "));
    }
    let variable = argument(error, command).and_then(Arg::get_env).map_or_else(
        || text(ContextKind::InvalidArg).unwrap_or_default(),
        |name| name.to_string_lossy().into_owned(),
    );
    let allowed = match std::error::Error::source(error) {
        Some(source) => source.to_string(),
        None => format!("one of {}", text(ContextKind::ValidValue).unwrap_or_default()),
    };
    let value = text(ContextKind::InvalidValue).unwrap_or_default();
    format!("{variable}=\"{value}\" is not allowed: it must be {allowed}")
}

/// The argument whose value clap refused.
fn argument<'a>(error: &clap::Error, command: &'a Command) -> Option<&'a Arg> {
    let Some(ContextValue::String(shown)) = error.get(ContextKind::InvalidArg) else { return None };
    let long = shown.split_whitespace().next()?.strip_prefix("--")?;
    let commands = std::iter::once(command).chain(command.get_subcommands());
    commands.flat_map(Command::get_arguments).find(|arg| arg.get_long() == Some(long))
}
