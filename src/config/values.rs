//! How the settings are written. Each error ends the sentence "it must be …".

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use lettre::Address;
use lettre::message::Mailbox;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use url::{Host, Url};

use crate::names;

/// An origin as browsers send it in `Origin` (RFC 6454 §6.2): scheme, host and port, no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    /// Takes an http or https origin, or that of an app in a web view, such as `capacitor://localhost`.
    ///
    /// # Errors
    /// What is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Some(url) = bare(text) {
            return Ok(Self(url.origin().ascii_serialization()));
        }
        app(text).map(Self).ok_or(
            "an origin such as https://app.example.com or capacitor://localhost, without a path"
                .to_owned(),
        )
    }

    /// Whether it is the origin of an app in a web view or of an extension, which no browser sends a cookie for.
    #[must_use]
    pub fn is_app(&self) -> bool {
        !["http://", "https://"].iter().any(|scheme| self.0.starts_with(scheme))
    }

    /// The text that browsers send.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host in it.
    #[must_use]
    pub fn host(&self) -> Option<Host> {
        Url::parse(&self.0).ok()?.host().map(|host| host.to_owned())
    }
}

/// Takes a list. Empty elements, such as after a comma at the end, are skipped.
fn list<T>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    let elements = text.split(',').map(str::trim).filter(|element| !element.is_empty());
    elements
        .map(|element| {
            parse(element).map_err(|allowed| format!("{allowed} (\"{element}\" is not)"))
        })
        .collect()
}

pub(super) fn origins(text: &str) -> Result<Vec<Origin>, String> {
    list(text, Origin::parse)
}

pub(super) fn networks(text: &str) -> Result<Vec<IpNet>, String> {
    list(text, network)
}

/// The first names of the service's own paths. A prefix must not begin with one: a proxy may strip the prefix or not,
/// and then nobody could tell which path is meant.
pub(crate) const OWN_PATHS: [&str; 14] = [
    "audit",
    "email",
    "forward-auth",
    "healthz",
    "login",
    "logout",
    "me",
    "openapi.json",
    "password",
    "readyz",
    "session",
    "swagger-ui",
    "users",
    "metrics",
];

/// Where clients reach the service.
#[derive(Clone, Debug)]
pub struct PublicUrl(Url);

impl PublicUrl {
    /// Takes an http or https URL, with the path below which a proxy serves us, if there is one.
    ///
    /// # Errors
    /// What is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut url = http(text.trim()).ok_or(
            "an http or https URL, such as https://auth.example.com or https://example.com/auth",
        )?;
        let path = url.path().trim_end_matches('/').to_owned();
        let mut names = path.split('/').skip(1);
        if !path.is_empty() && !names.clone().all(is_plain_segment) {
            return Err(
                "a URL whose path has only letters, digits, \".\", \"_\", \"-\" and \"~\"".into()
            );
        }
        if let Some(own) = names.next().filter(|name| OWN_PATHS.contains(name)) {
            return Err(format!(
                "a URL whose path does not begin with /{own}, an address of the service"
            ));
        }
        url.set_path(&path);
        Ok(Self(url))
    }

    /// The URL of a service that listens there, for clients on this machine or its network.
    #[must_use]
    pub fn of(listen: &SocketAddr) -> Self {
        let host = match listen.ip() {
            ip if ip.is_loopback() || ip.is_unspecified() => "localhost".to_owned(),
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let url = Url::parse(&format!("http://{host}:{}", listen.port()));
        Self(url.unwrap_or_else(|_| unreachable!("an address and a port are a URL")))
    }

    /// The path below which clients reach the service, such as `/auth`; empty without one.
    #[must_use]
    pub fn prefix(&self) -> &str {
        self.0.path().trim_end_matches('/')
    }

    /// Whether browsers may be trusted with `Secure` cookies.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Whether it is http on this machine, as in development.
    #[must_use]
    pub fn is_local_http(&self) -> bool {
        let is_local = match self.0.host() {
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            None => false,
        };
        is_local && !self.is_https()
    }

    /// The name or address of the host.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// The URL of one of our paths, below the prefix.
    #[must_use]
    pub fn join(&self, path: &str) -> Url {
        let mut url = self.0.clone();
        url.set_path(&format!("{}{path}", self.prefix()));
        url
    }

    /// The port, written or not.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or_default()
    }

    /// Our own origin.
    #[must_use]
    pub fn origin(&self) -> Origin {
        Origin(self.0.origin().ascii_serialization())
    }

    /// Whether the host is `domain` or below it.
    pub(super) fn is_within(&self, domain: &str) -> bool {
        is_within(&self.0, domain)
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

/// Whether a URL's host is `domain` or below it.
pub(super) fn is_within(url: &Url, domain: &str) -> bool {
    match url.host() {
        Some(Host::Domain(host)) => {
            host == domain || host.strip_suffix(domain).is_some_and(|below| below.ends_with('.'))
        }
        _ => false,
    }
}

/// Schemes whose pages have no origin, or one that anybody's page may have.
const WITHOUT_ORIGIN: [&str; 11] = [
    "about",
    "blob",
    "data",
    "file",
    "filesystem",
    "ftp",
    "http",
    "https",
    "javascript",
    "ws",
    "wss",
];

/// The origin of an app in a web view, as it sends it: scheme, host and perhaps a port.
fn app(text: &str) -> Option<String> {
    let (scheme, place) = text.split_once("://")?;
    let (host, port) =
        place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port)));
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let is_host = !host.is_empty()
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok());
    let origin = text.to_ascii_lowercase();
    let is_known = WITHOUT_ORIGIN.iter().any(|known| scheme.eq_ignore_ascii_case(known));
    (is_scheme && is_host && is_port && !is_known).then_some(origin)
}

/// An http(s) URL that holds an origin and nothing else.
fn bare(text: &str) -> Option<Url> {
    http(text).filter(|url| url.path() == "/")
}

/// An http(s) URL that holds an origin and perhaps a path.
fn http(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let plain = matches!(url.scheme(), "http" | "https")
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    (plain && !text.contains('*')).then_some(url)
}

/// Whether a part of a path reads the same to every proxy, encoded or not.
fn is_plain_segment(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_plain) && !name.bytes().all(|byte| byte == b'.')
}

/// The address of a frontend's page.
pub(super) fn page(text: &str) -> Result<Url, String> {
    let url = Url::parse(text.trim()).ok();
    url.filter(|url| matches!(url.scheme(), "http" | "https") && url.username().is_empty())
        .ok_or("an http or https URL, such as https://app.example.com/reset".to_owned())
}

pub(super) fn mailbox(text: &str) -> Result<Mailbox, String> {
    let read = || {
        let Mailbox { name, email } = text.parse().ok()?;
        if name.as_deref().is_some_and(|name| names::name("name", name).is_err()) {
            return None;
        }
        // Few servers accept other characters in an address.
        let domain = match Host::parse(email.domain()) {
            Ok(Host::Domain(domain)) => domain,
            _ => email.domain().to_owned(),
        };
        Some(Mailbox::new(name, Address::new(email.user(), domain).ok()?))
    };
    read().ok_or("an address, such as auth@example.com or Example <auth@example.com>".to_owned())
}

/// Where the service listens by default.
pub(super) const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// Takes an address or a host name with a port, or a port alone, which is on all addresses.
pub(super) fn listen(text: &str) -> Result<SocketAddr, String> {
    let text = text.trim();
    if let Some(port) = text.strip_prefix(':').and_then(|port| port.parse().ok()) {
        return Ok((Ipv4Addr::UNSPECIFIED, port).into());
    }
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let allowed = "an address and a port, such as 127.0.0.1:8080, :8080 or localhost:8080";
    let is_name = text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains(['/', ':']) && port.parse::<u16>().is_ok()
    });
    if !is_name {
        return Err(allowed.to_owned());
    }
    let found = text.to_socket_addrs().map_err(|error| format!("{allowed}: {error}"))?;
    let mut found: Vec<_> = found.collect();
    // Browsers and health checks try IPv4 where only one is served.
    found.sort_by_key(SocketAddr::is_ipv6);
    found.first().copied().ok_or_else(|| allowed.to_owned())
}

pub(super) fn host(text: &str) -> Result<IpAddr, String> {
    text.trim().parse().map_err(|_| "an IP address, such as 127.0.0.1 or 0.0.0.0".to_owned())
}

pub(super) fn port(text: &str) -> Result<u16, String> {
    whole(text.trim(), 0..=65_535)
}

pub(super) fn domain(text: &str) -> Result<String, String> {
    let domain = text.trim().trim_start_matches('.').to_ascii_lowercase();
    match Host::parse(&domain) {
        Ok(Host::Domain(host)) if host == domain && domain.contains('.') => Ok(domain),
        _ => Err("a domain such as example.com".to_owned()),
    }
}

pub(super) fn bcrypt_cost(text: &str) -> Result<u32, String> {
    whole(text, 4..=16)
}

pub(super) fn password_min_length(text: &str) -> Result<usize, String> {
    whole(text, 8..=64)
}

pub(super) fn sessions_per_user(text: &str) -> Result<u16, String> {
    whole(text, 1..=10_000)
}

pub(super) fn max_connections(text: &str) -> Result<u32, String> {
    whole(text, 1..=1_000_000)
}

pub(super) fn database_connections(text: &str) -> Result<u32, String> {
    // One for who is calling, and of the others one that waits for a lock must leave one.
    whole(text, 3..=1000)
}

fn whole<T: FromStr + PartialOrd + fmt::Display>(
    text: &str,
    allowed: RangeInclusive<T>,
) -> Result<T, String> {
    let number = text.parse().ok().filter(|number| allowed.contains(number));
    number.ok_or(format!("a whole number from {} to {}", allowed.start(), allowed.end()))
}

/// A duration of whole seconds, such as `15m`.
///
/// # Errors
/// What is allowed.
pub fn duration(text: &str) -> Result<Duration, String> {
    // PostgreSQL's intervals and cookies count whole seconds; ten years is beyond every use.
    let allowed = Duration::from_secs(1)..=Duration::from_secs(3650 * 24 * 60 * 60);
    let duration = humantime::parse_duration(text).ok().filter(|d| allowed.contains(d));
    duration
        .filter(|d| d.subsec_nanos() == 0)
        .ok_or("a duration of whole seconds from 1s to 3650d, such as 15m, 12h or 30d".to_owned())
}

/// A limit: so many at once, and then one every so often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many are allowed at once.
    pub burst: u32,
    /// After how long there is one more.
    pub interval: Duration,
}

impl Rate {
    /// Takes `10/15m`: ten at once, and ten a quarter of an hour.
    ///
    /// # Errors
    /// What is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rate = || {
            let (burst, window) = text.split_once('/')?;
            let burst =
                burst.trim().parse().ok().filter(|burst| (1..=1_000_000).contains(burst))?;
            // PostgreSQL's intervals know no nanoseconds.
            let window = u64::try_from(duration(window.trim()).ok()?.as_millis()).ok()?;
            let interval = Duration::from_millis(window / u64::from(burst));
            (!interval.is_zero()).then_some(Self { burst, interval })
        };
        rate().ok_or("a number and a duration, such as 10/15m".to_owned())
    }

    /// So many times as much in the same time.
    #[must_use]
    pub fn times(self, factor: u32) -> Self {
        Self { burst: self.burst.saturating_mul(factor), interval: self.interval / factor }
    }

    /// How long it takes to fill up from nothing.
    #[must_use]
    pub fn window(self) -> Duration {
        self.interval * self.burst
    }

    /// How far ahead of an even pace a client may be and still have one more.
    #[must_use]
    pub fn slack(self) -> Duration {
        self.interval * (self.burst - 1)
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    text.parse()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| "addresses or networks, such as 10.0.0.0/8, separated by commas".to_owned())
}

pub(super) fn log_filter(text: &str) -> Result<String, String> {
    let is_known = !text.split(',').map(str::trim).any(is_no_directive);
    EnvFilter::try_new(text).ok().filter(|_| is_known).map(|_| text.to_owned()).ok_or_else(|| {
        "trace, debug, info, warn, error or off, or filter directives such as info,sqlx=debug"
            .to_owned()
    })
}

/// Whether a directive is a word that is neither a level nor the name of a module. tracing would take it for a
/// module that nobody has, and log nothing.
fn is_no_directive(directive: &str) -> bool {
    let is_word =
        directive.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    is_word && directive.parse::<LevelFilter>().is_err() && directive != env!("CARGO_PKG_NAME")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_one_that_browsers_or_apps_send() {
        let origin =
            |text: &str| Origin::parse(text).map(|it| (it.as_str().to_owned(), it.is_app()));
        for (text, sent, is_app) in [
            ("https://App.example.com/", "https://app.example.com", false),
            ("http://localhost:5173", "http://localhost:5173", false),
            ("capacitor://localhost", "capacitor://localhost", true),
            ("tauri://localhost", "tauri://localhost", true),
            ("ionic://localhost:8100", "ionic://localhost:8100", true),
            ("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop", true),
            ("app://-", "app://-", true),
        ] {
            assert_eq!(origin(text), Ok((sent.to_owned(), is_app)), "{text}");
        }
        for text in [
            "*",
            "null",
            "file://",
            "file:///x",
            "file://localhost",
            "data:text/html,x",
            "capacitor://",
            "capacitor://localhost/",
            "capacitor://*",
            "://x",
            "blob:https://x",
            "javascript://x",
            "capacitor://a@b",
            "1app://x",
            "wss://x",
            "https://*.example.com",
            "capacitor://x:99999",
        ] {
            assert!(Origin::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn empty_elements_of_a_list_are_skipped_and_a_wrong_one_is_named() {
        let list = origins("https://a.example, http://localhost:5173 ,,").unwrap();
        assert_eq!(
            list.iter().map(Origin::as_str).collect::<Vec<_>>(),
            ["https://a.example", "http://localhost:5173"]
        );
        assert!(origins("").unwrap().is_empty() && networks(" , ").unwrap().is_empty());
        assert_eq!(networks("10.0.0.0/8,").unwrap().len(), 1);
        let error = networks("10.0.0.0/8, nonsense").unwrap_err();
        assert!(error.contains("\"nonsense\""), "{error}");
    }

    #[test]
    fn a_rate_is_so_many_at_once_and_one_more_every_so_often() {
        let rate = Rate::parse("10/15m").unwrap();
        assert_eq!((rate.burst, rate.interval), (10, Duration::from_secs(90)));
        assert_eq!(
            (rate.window(), rate.slack()),
            (Duration::from_secs(900), Duration::from_secs(810))
        );
        assert_eq!(Rate::parse(" 1 / 1h ").unwrap().slack(), Duration::ZERO);
        assert_eq!(rate.times(4), Rate::parse("40/15m").unwrap());
        for text in
            ["", "10", "0/1m", "-1/1m", "1/", "/1m", "1.5/1m", "1/0s", "1000000/1s", "2000000/1d"]
        {
            assert!(Rate::parse(text).is_err(), "{text}");
        }
    }
}
