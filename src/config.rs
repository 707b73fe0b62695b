//! Every setting, its default and its limits. `--help` prints this file.

mod check;
mod choices;
mod load;
mod secrets;
mod smtp_url;
mod values;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ipnet::IpNet;
use lettre::message::Mailbox;
use secrecy::SecretString;
use url::Url;

pub use choices::{Hsts, LogFormat, Registration, SameSite, SessionProtection, Switch};
pub use load::{explain, prepare, superuser_url};
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

    /// The address and port to serve GET /metrics on, for Prometheus; unset, nobody is told
    #[arg(long, env = "PORTCULLIS_METRICS_LISTEN", value_name = "ADDRESS", value_parser = values::listen)]
    pub metrics_listen: Option<SocketAddr>,

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

    /// Strict-Transport-Security behind https: on, subdomains (adds includeSubDomains) or off
    #[arg(long, env = "PORTCULLIS_HSTS", value_name = "MODE", default_value = "on")]
    pub hsts: Hsts,

    /// Whether to serve Swagger UI at /swagger-ui and the OpenAPI document at /openapi.json
    #[arg(long, env = "PORTCULLIS_SWAGGER_UI", value_name = "SWITCH", default_value = "on")]
    pub swagger_ui: Switch,

    /// Who may make an account: anyone, or admins only
    #[arg(long, env = "PORTCULLIS_REGISTRATION", value_name = "POLICY", default_value = "open")]
    pub registration: Registration,

    /// bcrypt's cost, 4 to 16; below 10 is for tests
    #[arg(long, env = "PORTCULLIS_BCRYPT_COST", value_name = "COST", default_value = "12", value_parser = values::bcrypt_cost)]
    pub bcrypt_cost: u32,

    /// How long a login waits for its turn to hash at most, and no longer than a third of the request timeout; a longer wait is 503 busy at once
    #[arg(long, env = "PORTCULLIS_PASSWORD_QUEUE_WAIT", value_name = "DURATION", default_value = "10s", value_parser = values::duration)]
    pub password_queue_wait: Duration,

    /// How long a session that is not remembered stands without being used
    #[arg(long, env = "PORTCULLIS_SESSION_IDLE", value_name = "DURATION", default_value = "12h", value_parser = values::duration)]
    pub session_idle: Duration,

    /// How long a session that is not remembered stands at most
    #[arg(long, env = "PORTCULLIS_SESSION_LIFETIME", value_name = "DURATION", default_value = "7d", value_parser = values::duration)]
    pub session_lifetime: Duration,

    /// How long a remembered session lasts; a login by token is remembered by default
    #[arg(long, env = "PORTCULLIS_REMEMBER_FOR", value_name = "DURATION", default_value = "30d", value_parser = values::duration)]
    pub remember_for: Duration,

    /// Live sessions of one account, 1 to 10000; one more revokes the one unused longest
    #[arg(long, env = "PORTCULLIS_SESSIONS_PER_USER", value_name = "NUMBER", default_value = "100", value_parser = values::sessions_per_user)]
    pub sessions_per_user: u16,

    /// How long a session is fresh after the password was given
    #[arg(long, env = "PORTCULLIS_FRESH_FOR", value_name = "DURATION", default_value = "15m", value_parser = values::duration)]
    pub fresh_for: Duration,

    /// Whether activity extends a remembered session
    #[arg(long, env = "PORTCULLIS_REMEMBER_REFRESH", value_name = "SWITCH", default_value = "off")]
    pub remember_refresh: Switch,

    /// How long after its login a remembered session ends, however much PORTCULLIS_REMEMBER_REFRESH extends it
    #[arg(long, env = "PORTCULLIS_REMEMBER_MAX", value_name = "DURATION", default_value = "365d", value_parser = values::duration)]
    pub remember_max: Duration,

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

    /// Whether rate limits apply; off for load tests, and behind another limiter
    #[arg(long, env = "PORTCULLIS_THROTTLE", value_name = "SWITCH", default_value = "on")]
    pub throttle: Switch,

    /// Wrong passwords for one name, wrong codes for one request for a login code or one address, and both from one client that the account knows
    #[arg(long, env = "PORTCULLIS_THROTTLE_ACCOUNT", value_name = "RATE", default_value = "10/10m", value_parser = Rate::parse)]
    pub throttle_account: Rate,

    /// How many wrong passwords are taken from one network (/24, /56); four times as many from an IPv6 /48
    #[arg(long, env = "PORTCULLIS_THROTTLE_NETWORK", value_name = "RATE", default_value = "100/15m", value_parser = Rate::parse)]
    pub throttle_network: Rate,

    /// How many changes one account may make to itself; revoking and new passwords are not limited
    #[arg(long, env = "PORTCULLIS_THROTTLE_WRITES", value_name = "RATE", default_value = "60/1m", value_parser = Rate::parse)]
    pub throttle_writes: Rate,

    /// How many tries to take a name, by registering or renaming, are taken from one network; four times as many from an IPv6 /48
    #[arg(long, env = "PORTCULLIS_THROTTLE_REGISTRATION", value_name = "RATE", default_value = "50/1h", value_parser = Rate::parse)]
    pub throttle_registration: Rate,

    /// Correct passwords that one account accepts at login, from all unknown clients and from each known one; by Basic, twenty times as many
    #[arg(long, env = "PORTCULLIS_THROTTLE_LOGINS", value_name = "RATE", default_value = "30/10m", value_parser = Rate::parse)]
    pub throttle_logins: Rate,

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

    /// The frontend's page to log in; reverse proxies redirect unauthenticated users there with ?return_to=
    #[arg(long, env = "PORTCULLIS_LOGIN_URL", value_name = "URL", value_parser = values::page)]
    pub login_url: Option<Url>,

    /// Emails of one kind that may be requested to one address, and notices of one kind to one account
    #[arg(long, env = "PORTCULLIS_THROTTLE_MAIL", value_name = "RATE", default_value = "5/1h", value_parser = Rate::parse)]
    pub throttle_mail: Rate,

    /// How many mails may be asked for from one network; four times as many from an IPv6 /48
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

    /// Proxies whose X-Forwarded-* and X-Original-* are believed, as networks separated by commas
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
  PORTCULLIS_ADMIN_PASSWORD  The password of the first admin; unset, the start generates one and shows it once
  PORTCULLIS_SMTP_URL        The server that takes mails: smtp+starttls://, smtps:// or, without TLS, smtp://, each
                             user:password@host:port; unset, mails go to mail/*.eml in the data directory (not with https)
  PORTCULLIS_SUPERUSER_URL   A PostgreSQL superuser, for `portcullis migrate --own` alone; the service does not read it

Each secret may be in a file instead, such as a Docker or Kubernetes secret. Its path is then in:
  DATABASE_URL_FILE
  PORTCULLIS_ADMIN_PASSWORD_FILE
  PORTCULLIS_SMTP_URL_FILE
  PORTCULLIS_SUPERUSER_URL_FILE

Traces go by OTLP to the collector of OTEL_EXPORTER_OTLP_ENDPOINT, as OpenTelemetry's other variables say.

Durations are written 30s, 15m, 12h, 7d, and rates 10/15m: ten at once, and ten a quarter-hour. An empty variable counts as unset. A .env file in the
working directory is read; the real environment wins over it.";
