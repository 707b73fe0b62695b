//! Every setting, its default and its limits. `--help` prints this file.

mod check;
mod choices;
pub mod database_url;
pub mod env_file;
mod load;
mod secrets;
mod smtp_url;
mod values;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ipnet::IpNet;
use lettre::message::Mailbox;
use secrecy::SecretString;
use url::Url;

pub use choices::{Hsts, LogFormat, Registration, SameSite, SessionProtection, Switch};
pub use load::{explain, prepare, superuser_url, unknown_variables};
pub use smtp_url::SmtpUrl;
pub use values::{Origin, PublicUrl, Rate, duration};

/// The settings of one Portcullis. Secrets have no flag: a command line is for all to see.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// `DATABASE_URL`: the PostgreSQL to use; unset means the embedded one.
    #[arg(skip)]
    pub database_url: Option<SecretString>,

    /// Directory of the embedded PostgreSQL
    #[arg(long, env = "PORTCULLIS_DATA_DIR", value_name = "DIR", default_value = "./.portcullis")]
    pub data_dir: PathBuf,

    /// Where to listen: `given_listen`, or else `host` and `port`.
    #[arg(skip = values::DEFAULT_LISTEN)]
    pub listen: SocketAddr,

    /// Address and port to listen on, such as :8080 or localhost:8080 [default: PORTCULLIS_HOST and PORT]
    #[arg(long = "listen", env = "PORTCULLIS_LISTEN", value_name = "ADDRESS", value_parser = values::listen)]
    pub given_listen: Option<SocketAddr>,

    /// IP address to listen on, if PORTCULLIS_LISTEN is not set; 0.0.0.0 in the image
    #[arg(long, env = "PORTCULLIS_HOST", value_name = "IP", default_value = "127.0.0.1", value_parser = values::host)]
    pub host: IpAddr,

    /// Port to listen on, if PORTCULLIS_LISTEN is not set
    #[arg(long, env = "PORT", value_name = "PORT", default_value = "8080", value_parser = values::port)]
    pub port: u16,

    /// Address and port for GET /metrics, for Prometheus [default: no metrics]
    #[arg(long, env = "PORTCULLIS_METRICS_LISTEN", value_name = "ADDRESS", value_parser = values::listen)]
    pub metrics_listen: Option<SocketAddr>,

    /// URL of the service for clients: `given_public_url`, or else that of `listen`.
    #[arg(skip = PublicUrl::of(&values::DEFAULT_LISTEN))]
    pub public_url: PublicUrl,

    /// URL of the service for browsers and other clients; https makes cookies Secure [default: http://localhost and the port]
    #[arg(long = "public-url", env = "PORTCULLIS_PUBLIC_URL", value_name = "URL", value_parser = PublicUrl::parse)]
    pub given_public_url: Option<PublicUrl>,

    /// Origins of apps in browsers that may call the service, separated by commas
    #[arg(long, env = "PORTCULLIS_ALLOWED_ORIGINS", value_name = "ORIGINS", default_value = "", hide_default_value = true, value_parser = values::origins)]
    pub allowed_origins: ::std::vec::Vec<Origin>,

    /// SameSite attribute of the session cookie; none requires an https public URL
    #[arg(long, env = "PORTCULLIS_COOKIE_SAMESITE", value_name = "POLICY", default_value = "lax")]
    pub cookie_samesite: SameSite,

    /// Domain of the session cookie, to share it with sibling hosts [default: the host of the public URL only]
    #[arg(long, env = "PORTCULLIS_COOKIE_DOMAIN", value_name = "DOMAIN", value_parser = values::domain)]
    pub cookie_domain: Option<String>,

    /// Strict-Transport-Security header, if the public URL is https
    #[arg(long, env = "PORTCULLIS_HSTS", value_name = "MODE", default_value = "on")]
    pub hsts: Hsts,

    /// Serve Swagger UI at /swagger-ui and the OpenAPI document at /openapi.json
    #[arg(long, env = "PORTCULLIS_SWAGGER_UI", value_name = "SWITCH", default_value = "on")]
    pub swagger_ui: Switch,

    /// Who may create accounts with POST /users
    #[arg(long, env = "PORTCULLIS_REGISTRATION", value_name = "POLICY", default_value = "open")]
    pub registration: Registration,

    /// bcrypt cost of new password hashes, 4 to 16; use less than 10 in tests only
    #[arg(long, env = "PORTCULLIS_BCRYPT_COST", value_name = "COST", default_value = "12", value_parser = values::bcrypt_cost)]
    pub bcrypt_cost: u32,

    /// Longest wait of a login for its turn to hash, at most a third of the request timeout; a longer wait is rejected with 503 busy
    #[arg(long, env = "PORTCULLIS_PASSWORD_QUEUE_WAIT", value_name = "DURATION", default_value = "10s", value_parser = values::duration)]
    pub password_queue_wait: Duration,

    /// How long a session that is not remembered lasts without activity
    #[arg(long, env = "PORTCULLIS_SESSION_IDLE", value_name = "DURATION", default_value = "12h", value_parser = values::duration)]
    pub session_idle: Duration,

    /// How long a session that is not remembered lasts at most
    #[arg(long, env = "PORTCULLIS_SESSION_LIFETIME", value_name = "DURATION", default_value = "7d", value_parser = values::duration)]
    pub session_lifetime: Duration,

    /// How long a remembered session lasts; a login by token is remembered by default
    #[arg(long, env = "PORTCULLIS_REMEMBER_FOR", value_name = "DURATION", default_value = "30d", value_parser = values::duration)]
    pub remember_for: Duration,

    /// Sessions of one account, 1 to 10000; a login beyond that revokes the session that is unused longest
    #[arg(long, env = "PORTCULLIS_SESSIONS_PER_USER", value_name = "NUMBER", default_value = "100", value_parser = values::sessions_per_user)]
    pub sessions_per_user: u16,

    /// How long a session counts as recently authenticated
    #[arg(long, env = "PORTCULLIS_FRESH_FOR", value_name = "DURATION", default_value = "15m", value_parser = values::duration)]
    pub fresh_for: Duration,

    /// Extend remembered sessions by activity
    #[arg(long, env = "PORTCULLIS_REMEMBER_REFRESH", value_name = "SWITCH", default_value = "off")]
    pub remember_refresh: Switch,

    /// How long a remembered session lasts at most after its login, if PORTCULLIS_REMEMBER_REFRESH is on
    #[arg(long, env = "PORTCULLIS_REMEMBER_MAX", value_name = "DURATION", default_value = "365d", value_parser = values::duration)]
    pub remember_max: Duration,

    /// What happens to a session if another user agent or network uses it
    #[arg(
        long,
        env = "PORTCULLIS_SESSION_PROTECTION",
        value_name = "MODE",
        default_value = "basic"
    )]
    pub session_protection: SessionProtection,

    /// Accept a name and a password as Authorization: Basic
    #[arg(long, env = "PORTCULLIS_BASIC_AUTH", value_name = "SWITCH", default_value = "off")]
    pub basic_auth: Switch,

    /// Accept API tokens as ?api_key=; URLs are often logged
    #[arg(long, env = "PORTCULLIS_API_KEY_QUERY", value_name = "SWITCH", default_value = "off")]
    pub api_key_query: Switch,

    /// Apply the rate limits; off for load tests, or behind another rate limiter
    #[arg(long, env = "PORTCULLIS_THROTTLE", value_name = "SWITCH", default_value = "on")]
    pub throttle: Switch,

    /// Wrong passwords for one name, wrong login codes for one request or address, and both from one known client
    #[arg(long, env = "PORTCULLIS_THROTTLE_ACCOUNT", value_name = "RATE", default_value = "10/10m", value_parser = Rate::parse)]
    pub throttle_account: Rate,

    /// Wrong passwords from one network (/24 or /56); four times as many from an IPv6 /48
    #[arg(long, env = "PORTCULLIS_THROTTLE_NETWORK", value_name = "RATE", default_value = "100/15m", value_parser = Rate::parse)]
    pub throttle_network: Rate,

    /// Changes of an account by its owner; revoking and new passwords are not limited
    #[arg(long, env = "PORTCULLIS_THROTTLE_WRITES", value_name = "RATE", default_value = "60/1m", value_parser = Rate::parse)]
    pub throttle_writes: Rate,

    /// Attempts to claim a username or an address from one network; four times as many from an IPv6 /48
    #[arg(long, env = "PORTCULLIS_THROTTLE_REGISTRATION", value_name = "RATE", default_value = "50/1h", value_parser = Rate::parse)]
    pub throttle_registration: Rate,

    /// Correct passwords for one account, from all unknown clients together and from each known one; 20 times as many with Basic
    #[arg(long, env = "PORTCULLIS_THROTTLE_LOGINS", value_name = "RATE", default_value = "30/10m", value_parser = Rate::parse)]
    pub throttle_logins: Rate,

    /// How long audit events are kept
    #[arg(long, env = "PORTCULLIS_AUDIT_KEEP", value_name = "DURATION", default_value = "365d", value_parser = values::duration)]
    pub audit_keep: Duration,

    /// Minimum length of new passwords in characters, 8 to 64
    #[arg(long, env = "PORTCULLIS_PASSWORD_MIN_LENGTH", value_name = "LENGTH", default_value = "8", value_parser = values::password_min_length)]
    pub password_min_length: usize,

    /// Hide which email addresses have an account: create accounts when their address is verified
    #[arg(
        long,
        env = "PORTCULLIS_REGISTRATION_PRIVACY",
        value_name = "SWITCH",
        default_value = "off"
    )]
    pub registration_privacy: Switch,

    /// Reject logins of accounts with an unverified email address
    #[arg(
        long,
        env = "PORTCULLIS_REQUIRE_VERIFIED_EMAIL",
        value_name = "SWITCH",
        default_value = "off"
    )]
    pub require_verified_email: Switch,

    /// Allow logins with a code sent by email
    #[arg(long, env = "PORTCULLIS_LOGIN_CODE", value_name = "SWITCH", default_value = "off")]
    pub login_code: Switch,

    /// `PORTCULLIS_SMTP_URL`: where mails are handed over; unset, a service for development keeps them.
    #[arg(skip)]
    pub smtp_url: Option<SmtpUrl>,

    /// Sender of emails, such as Example <auth@example.com>; emails call the service by this name
    #[arg(long, env = "PORTCULLIS_MAIL_FROM", value_name = "MAILBOX", value_parser = values::mailbox)]
    pub mail_from: Option<Mailbox>,

    /// Your app's page for a new password; links in emails lead there with ?token=
    #[arg(long, env = "PORTCULLIS_RESET_URL", value_name = "URL", value_parser = values::page)]
    pub reset_url: Option<Url>,

    /// Your app's page that verifies an email address; links in emails lead there with ?token=
    #[arg(long, env = "PORTCULLIS_VERIFY_URL", value_name = "URL", value_parser = values::page)]
    pub verify_url: Option<Url>,

    /// Your app's login page; reverse proxies redirect unauthenticated users there with ?return_to=
    #[arg(long, env = "PORTCULLIS_LOGIN_URL", value_name = "URL", value_parser = values::page)]
    pub login_url: Option<Url>,

    /// Requested emails of one kind to one address, and notices of one kind to one account
    #[arg(long, env = "PORTCULLIS_THROTTLE_MAIL", value_name = "RATE", default_value = "5/1h", value_parser = Rate::parse)]
    pub throttle_mail: Rate,

    /// Requested emails from one network; four times as many from an IPv6 /48
    #[arg(long, env = "PORTCULLIS_THROTTLE_MAIL_NETWORK", value_name = "RATE", default_value = "50/1h", value_parser = Rate::parse)]
    pub throttle_mail_network: Rate,

    /// Time limit for a connection to send the head of a request, including the wait for it
    #[arg(long, env = "PORTCULLIS_HEADER_TIMEOUT", value_name = "DURATION", default_value = "30s", value_parser = values::duration)]
    pub header_timeout: Duration,

    /// Time limit for a request, including its body
    #[arg(long, env = "PORTCULLIS_REQUEST_TIMEOUT", value_name = "DURATION", default_value = "30s", value_parser = values::duration)]
    pub request_timeout: Duration,

    /// Connections at the same time; further ones wait
    #[arg(long, env = "PORTCULLIS_MAX_CONNECTIONS", value_name = "NUMBER", default_value = "8192", value_parser = values::max_connections)]
    pub max_connections: u32,

    /// Time limit for requests in progress when the service stops
    #[arg(long, env = "PORTCULLIS_SHUTDOWN_GRACE", value_name = "DURATION", default_value = "20s", value_parser = values::duration)]
    pub shutdown_grace: Duration,

    /// Connections to PostgreSQL
    #[arg(long, env = "PORTCULLIS_DATABASE_CONNECTIONS", value_name = "NUMBER", default_value = "16", value_parser = values::database_connections)]
    pub database_connections: u32,

    /// Longest wait of the start and of migrate for a PostgreSQL that is not ready
    #[arg(long, env = "PORTCULLIS_DATABASE_START_TIMEOUT", value_name = "DURATION", default_value = "30s", value_parser = values::duration)]
    pub database_start_timeout: Duration,

    /// Longest wait of a request for a connection to PostgreSQL; then it is rejected with 503 database_unavailable
    #[arg(long, env = "PORTCULLIS_DATABASE_ACQUIRE_TIMEOUT", value_name = "DURATION", default_value = "1s", value_parser = values::duration)]
    pub database_acquire_timeout: Duration,

    /// Time limit for a statement
    #[arg(long, env = "PORTCULLIS_DATABASE_STATEMENT_TIMEOUT", value_name = "DURATION", default_value = "10s", value_parser = values::duration)]
    pub database_statement_timeout: Duration,

    /// Networks of proxies whose X-Forwarded-* and X-Original-* headers are trusted, separated by commas
    #[arg(long, env = "PORTCULLIS_TRUSTED_PROXIES", value_name = "NETWORKS", default_value = "", hide_default_value = true, value_parser = values::networks)]
    pub trusted_proxies: ::std::vec::Vec<IpNet>,

    /// Username of the first admin, who is created at the start if there is no admin
    #[arg(long, env = "PORTCULLIS_ADMIN_USERNAME", value_name = "USERNAME")]
    pub admin_username: Option<String>,

    /// Email address of the first admin
    #[arg(long, env = "PORTCULLIS_ADMIN_EMAIL", value_name = "EMAIL")]
    pub admin_email: Option<String>,

    /// `PORTCULLIS_ADMIN_PASSWORD`: the password of the first admin.
    #[arg(skip)]
    pub admin_password: Option<SecretString>,

    /// Log level (error, warn, info, debug, trace) or filter directives such as info,sqlx=debug
    #[arg(long, env = "PORTCULLIS_LOG", value_name = "FILTER", default_value = "info", value_parser = values::log_filter)]
    pub log: String,

    /// Format of the log
    #[arg(long, env = "PORTCULLIS_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// What `--help` says about the settings without a flag.
pub const SECRETS_HELP: &str = "\
Secrets are environment variables only:
  DATABASE_URL               PostgreSQL to use [default: the embedded one]
  PORTCULLIS_ADMIN_PASSWORD  Password of the first admin [default: generated, and shown once]
  PORTCULLIS_SMTP_URL        Mail server: smtp+starttls://, smtps:// or, without TLS, smtp://, followed by
                             user:password@host:port [default: mail/*.eml in the data directory, or no email
                             if the public URL is https]
  PORTCULLIS_SUPERUSER_URL   PostgreSQL superuser, for `portcullis migrate --own` only

Each of them can be in a file, such as a Docker or Kubernetes secret. Set the path in:
  DATABASE_URL_FILE
  PORTCULLIS_ADMIN_PASSWORD_FILE
  PORTCULLIS_SMTP_URL_FILE
  PORTCULLIS_SUPERUSER_URL_FILE

OTEL_EXPORTER_OTLP_ENDPOINT and OpenTelemetry's other variables configure the export of traces.

Durations look like 30s, 15m, 12h or 7d. A rate of 10/15m allows 10 at once, and 10 more every 15 minutes. An empty
variable counts as unset. The file .env in the working directory is read; the environment overrides it.";
