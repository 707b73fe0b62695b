//! Which pages may make a browser change something here (ASVS 3.5.1, CSRF and DNS rebinding).

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::http::{HeaderMap, Uri, header};
use url::{Host, Url};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::{credential, host, telemetry};

/// What to do about a page that this service serves under a name that it does not know.
const OPENED_BY_ANOTHER_NAME: &str =
    "set PORTCULLIS_PUBLIC_URL to it, or add it to PORTCULLIS_ALLOWED_ORIGINS";
/// What to do about a page of another origin.
pub(crate) const ANOTHER_ORIGIN: &str = "add it to PORTCULLIS_ALLOWED_ORIGINS";
/// How often the log tells of pages that cannot read an answer.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// When it last did.
static TOLD: Mutex<Option<Instant>> = Mutex::new(None);
/// Characters of an origin that are reported.
const ORIGIN_MAX: usize = 200;

/// Rejects unsafe requests from pages of origins that are not allowed.
pub(crate) fn check(request: &Request, config: &Config) -> Result<()> {
    let (headers, uri) = (request.headers(), request.uri());
    if request.method().is_safe() {
        tell_unreadable(request, config);
        return Ok(());
    }
    if allows(config, headers, uri) {
        return Ok(());
    }
    let origin = headers.get(header::ORIGIN).map(|value| value.to_str().unwrap_or("?"));
    let is_same_host = origin.is_some_and(|origin| is_same(origin, host::of(headers, uri)));
    let origin = origin.unwrap_or("(not named)").chars().take(ORIGIN_MAX).collect::<String>();
    let remedy = if is_same_host { OPENED_BY_ANOTHER_NAME } else { ANOTHER_ORIGIN };
    let host = host::of(headers, uri).map(telemetry::start_of);
    tracing::warn!(origin, host, "cross-origin request rejected; if the origin is yours, {remedy}");
    Err(Error::CrossOriginRejected { origin, remedy })
}

/// Logs, at most once a minute, that a page of another origin cannot read an answer: its developer sees only an error
/// of CORS in the browser.
fn tell_unreadable(request: &Request, config: &Config) {
    let (headers, uri) = (request.headers(), request.uri());
    let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    let Some(origin) = origin.filter(|origin| !is_allowed(config, origin)) else { return };
    if is_same(origin, host::of(headers, uri)) {
        return;
    }
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
        *told = Some(Instant::now());
        let origin = origin.chars().take(ORIGIN_MAX).collect::<String>();
        tracing::warn!(
            origin,
            "a page of another origin cannot read the answer; if the origin is yours, {ANOTHER_ORIGIN}"
        );
    }
}

/// Whether a browser could not have been made to send this request by a page of an origin that is not allowed.
///
/// `Host` proves nothing by itself: an attacker's name may resolve to our address (DNS rebinding). The page is
/// then of the same origin for the browser, which asks for no preflight.
fn allows(config: &Config, headers: &HeaderMap, uri: &Uri) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let origin = match (origins.next(), origins.next()) {
        (None, _) => None,
        (Some(origin), None) => Some(origin.to_str().unwrap_or("null")),
        // No browser sends two, and a program that sends a token needs no protection.
        (Some(_), Some(_)) => return credential::is_explicit(headers),
    };
    if origin.is_some_and(|origin| is_allowed(config, origin)) {
        return true;
    }
    let host = host::of(headers, uri);
    if credential::is_explicit(headers) {
        // A page needs a preflight to send these, unless it is of the same origin. Such a page hides its
        // origin as "null" if it likes.
        let is_rebound = |origin| origin == "null" || is_same(origin, host);
        return !origin.is_some_and(is_rebound) || is_ours(config, host);
    }
    if origin.is_some() && !host.and_then(parse).as_ref().is_some_and(cannot_be_rebound) {
        return false;
    }
    match headers.get("sec-fetch-site").map(|site| site.as_bytes()) {
        Some(site) => site == b"same-origin" || site == b"none",
        None => origin.is_none_or(|origin| is_same(origin, host)),
    }
}

/// Whether the origin is the public one or an allowed one.
fn is_allowed(config: &Config, origin: &str) -> bool {
    origin == config.public_url.origin().as_str()
        || config.allowed_origins.iter().any(|allowed| allowed.as_str() == origin)
}

/// Whether a host cannot be an attacker's: no attacker controls its DNS, or it needs none.
fn is_ours(config: &Config, host: Option<&str>) -> bool {
    let Some(host) = host.and_then(parse) else { return false };
    let allowed = config.allowed_origins.iter().any(|origin| origin.host().as_ref() == Some(&host));
    allowed || config.public_url.origin().host().as_ref() == Some(&host) || cannot_be_rebound(&host)
}

/// Whether browsers do not look the host up in DNS.
fn cannot_be_rebound(host: &Host) -> bool {
    match host {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(_) | Host::Ipv6(_) => true,
    }
}

/// The host without its port, as browsers read it.
fn parse(host: &str) -> Option<Host> {
    Url::parse(&format!("http://{host}")).ok()?.host().map(|host| host.to_owned())
}

/// Whether the origin's host and port are those that the request was sent to.
fn is_same(origin: &str, host: Option<&str>) -> bool {
    let Ok(origin) = Url::parse(origin) else { return false };
    // Read with the origin's scheme, so that a default port may be written or not.
    let host = host.and_then(|host| Url::parse(&format!("{}://{host}", origin.scheme())).ok());
    host.is_some_and(|host| {
        matches!(origin.scheme(), "http" | "https")
            && origin.host().is_some()
            && origin.host() == host.host()
            && origin.port_or_known_default() == host.port_or_known_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPLICIT: (&str, &str) = ("x-api-key", "pct_x");
    /// A gateway may add its own key to every request.
    const OF_GATEWAY: (&str, &str) = ("x-api-key", "gateway-key");

    fn config() -> Config {
        let mut config = Config::defaults().unwrap();
        config.public_url = crate::config::PublicUrl::parse("https://auth.example.com").unwrap();
        config.allowed_origins =
            vec![crate::config::Origin::parse("https://app.example.com").unwrap()];
        config
    }

    fn decide(target: &'static str, given: &[(&'static str, &str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(*name, value.parse().unwrap());
        }
        allows(&config(), &headers, &Uri::from_static(target))
    }

    fn allowed(given: &[(&'static str, &str)]) -> bool {
        decide("/login", given)
    }

    #[test]
    fn programs_that_are_no_browsers_pass() {
        assert!(allowed(&[]));
        assert!(allowed(&[("host", "auth.example.com")]));
        // A proxy that calls by an internal name.
        assert!(allowed(&[("host", "portcullis:8080")]));
        assert!(allowed(&[("host", "portcullis:8080"), ("sec-fetch-site", "same-origin")]));
    }

    #[test]
    fn our_own_pages_pass() {
        let origin = ("origin", "https://auth.example.com");
        assert!(allowed(&[origin, ("sec-fetch-site", "same-origin")]));
        assert!(allowed(&[origin, ("host", "portcullis:8080")]));
        assert!(allowed(&[("sec-fetch-site", "none")]));
        for host in
            ["127.0.0.1:8080", "localhost:8080", "LOCALHOST:8080", "[::1]:8080", "192.0.2.1:8080"]
        {
            let origin = format!("http://{}", host.to_lowercase());
            assert!(allowed(&[("origin", &origin), ("host", host)]), "{host}");
            let given = [("origin", &*origin), ("host", host), ("sec-fetch-site", "same-origin")];
            assert!(allowed(&given), "{host}");
        }
        assert!(allowed(&[("origin", "http://192.0.2.1"), ("host", "192.0.2.1:80")]));
    }

    #[test]
    fn pages_of_others_do_not() {
        let ours = ("host", "127.0.0.1:8080");
        assert!(!allowed(&[("origin", "https://evil.example"), ours]));
        assert!(!allowed(&[("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")]));
        assert!(!allowed(&[("origin", "null"), ours]));
        assert!(!allowed(&[("origin", "http://127.0.0.1:8081"), ours]));
        assert!(!allowed(&[("origin", "file://127.0.0.1:8080"), ours]));
        assert!(!allowed(&[("origin", "chrome-extension://127.0.0.1:8080"), ours]));
        assert!(!allowed(&[("sec-fetch-site", "same-site")]));
        assert!(!allowed(&[("sec-fetch-site", "")]));
        let two = [("origin", "https://auth.example.com"), ("origin", "https://evil.example")];
        assert!(!allowed(&two));
    }

    #[test]
    fn a_page_whose_name_was_rebound_to_our_address_does_not_pass() {
        for host in
            ["evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "xlocalhost"]
        {
            let origin = format!("http://{host}");
            for credential in
                [("cookie", "portcullis=x"), ("authorization", "Basic YTpi"), EXPLICIT]
            {
                for origin in [&*origin, "null"] {
                    for site in [None, Some("same-origin"), Some("none")] {
                        let mut given = vec![("origin", origin), ("host", host), credential];
                        given.extend(site.map(|site| ("sec-fetch-site", site)));
                        assert!(!allowed(&given), "{given:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_host_of_the_target_overrides_the_header() {
        let target = "http://evil.example:8080/login";
        let given = [("origin", "http://evil.example:8080"), ("host", "localhost:8080")];
        assert!(!decide(target, &given));
        assert!(!decide(target, &[given[0], given[1], EXPLICIT]));
        let given = [("origin", "http://localhost:8080"), ("host", "evil.example:8080")];
        assert!(decide("http://localhost:8080/login", &given));
    }

    /// Every combination of what a browser says of a page, of the host that it asked, and of what comes
    /// along: `+` passes, `-` does not, `h` passes if the origin's host is the one that was asked and needs no
    /// DNS, `i` passes if the host that was asked needs no DNS.
    #[test]
    fn every_combination_is_decided() {
        let sites = [
            None,
            Some("same-origin"),
            Some("none"),
            Some("same-site"),
            Some("cross-site"),
            Some("?"),
        ];
        let table = [
            // No such header: a program, or a browser that does not tell.
            (None, "+ + + - - -"),
            (Some("https://auth.example.com"), "+ + + + + +"),
            (Some("https://app.example.com"), "+ + + + + +"),
            (Some("https://app.example.com:8443"), "h i i - - -"),
            (Some("http://app.example.com"), "h i i - - -"),
            (Some("https://box.internal"), "h i i - - -"),
            (Some("http://localhost:8080"), "h i i - - -"),
            (Some("http://192.0.2.1:8080"), "h i i - - -"),
            (Some("http://[2001:db8::1]:8080"), "h i i - - -"),
            (Some("https://evil.example"), "h i i - - -"),
            (Some("https://auth.example.com.evil.example"), "h i i - - -"),
            (Some("https://evil.example/https://auth.example.com"), "h i i - - -"),
            (Some("HTTPS://AUTH.EXAMPLE.COM"), "h i i - - -"),
            (Some("null"), "- i i - - -"),
            (Some(""), "- i i - - -"),
        ];
        // Whether the host needs no DNS, and whether it is known by its name.
        let hosts = [
            (None, false, false),
            (Some("auth.example.com"), false, true),
            (Some("box.internal"), false, false),
            (Some("app.example.com:8443"), false, true),
            (Some("evil.example"), false, false),
            (Some("localhost:8080"), true, false),
            (Some("192.0.2.1:8080"), true, false),
            (Some("[2001:db8::1]:8080"), true, false),
        ];
        let cookie = ("cookie", "portcullis=x");
        // A browser adds the first three by itself; a page of another origin needs a preflight for the others.
        let credentials = [
            (None, false),
            (Some(cookie), false),
            (Some(("authorization", "Basic YTpi")), false),
            (Some(("authorization", "Bearer pcs_x")), true),
            (Some(EXPLICIT), true),
            (Some(OF_GATEWAY), false),
        ];
        let (config, mut decided) = (config(), 0);
        for (origin, row) in table {
            for (site, cell) in sites.iter().zip(row.split(' ')) {
                for (host, needs_no_dns, is_known) in hosts {
                    for (credential, is_explicit) in credentials {
                        let is_same = host.is_some_and(|host| {
                            origin.is_some_and(|origin| {
                                origin.to_ascii_lowercase().split('/').nth(2) == Some(host)
                            })
                        });
                        let is_rebound =
                            !needs_no_dns && !is_known && (is_same || origin == Some("null"));
                        let expected = match cell {
                            _ if is_explicit && !is_rebound => true,
                            "+" => true,
                            "h" => needs_no_dns && is_same,
                            "i" => needs_no_dns,
                            _ => false,
                        };
                        let given = [
                            origin.map(|origin| ("origin", origin)),
                            site.map(|site| ("sec-fetch-site", site)),
                            host.map(|host| ("host", host)),
                            credential,
                        ];
                        let mut headers = HeaderMap::new();
                        for (name, value) in given.into_iter().flatten() {
                            headers.append(name, value.parse().unwrap());
                        }
                        let allowed = allows(&config, &headers, &Uri::from_static("/login"));
                        assert_eq!(allowed, expected, "{headers:?}");
                        decided += 1;
                    }
                }
            }
        }
        assert_eq!(decided, 15 * 6 * 8 * 6);
    }

    #[test]
    fn a_header_that_needs_a_preflight_exempts_and_basic_does_not() {
        let hostile = ("origin", "https://evil.example");
        assert!(allowed(&[hostile, ("authorization", "Bearer pcs_x")]));
        assert!(allowed(&[hostile, EXPLICIT]));
        assert!(!allowed(&[hostile, ("authorization", "Basic YTpi")]));
        // Two origins are no browser's.
        assert!(allowed(&[hostile, hostile, EXPLICIT]));
    }
}
