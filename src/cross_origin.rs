//! Which pages may make a browser change something here (ASVS 3.5.1, CSRF).

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use url::Url;

use crate::config::Config;
use crate::credential;
use crate::error::Error;
use crate::state::App;

/// The layer that rejects unsafe requests from pages of origins that are not allowed.
pub async fn layer(State(app): State<App>, request: Request, next: Next) -> Response {
    if request.method().is_safe() || allows(&app.config, request.headers(), request.uri()) {
        return next.run(request).await;
    }
    let origin = request.headers().get(header::ORIGIN).map(|value| value.to_str().unwrap_or("?"));
    let origin = origin.unwrap_or("(not named)").chars().take(200).collect::<String>();
    tracing::warn!(origin, "cross-origin request rejected; see PORTCULLIS_ALLOWED_ORIGINS");
    Error::CrossOriginRejected(origin).into_response()
}

fn allows(config: &Config, headers: &HeaderMap, uri: &Uri) -> bool {
    // No page can make a browser send these without asking by a preflight first.
    if credential::is_explicit(headers) {
        return true;
    }
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let origin = match (origins.next(), origins.next()) {
        (None, _) => None,
        (Some(origin), None) => Some(origin.to_str().unwrap_or("null")),
        (Some(_), Some(_)) => return false,
    };
    if let Some(origin) = origin
        && (origin == config.public_url.origin().as_str()
            || config.allowed_origins.iter().any(|allowed| allowed.as_str() == origin))
    {
        return true;
    }
    match headers.get("sec-fetch-site").map(|site| site.as_bytes()) {
        Some(site) => site == b"same-origin" || site == b"none",
        None => origin.is_none_or(|origin| is_host(origin, headers, uri)),
    }
}

/// Whether the origin's host and port are those that the request was sent to.
fn is_host(origin: &str, headers: &HeaderMap, uri: &Uri) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let Some(host) = host.or_else(|| uri.authority().map(|authority| authority.as_str())) else {
        return false;
    };
    let Ok(origin) = Url::parse(origin) else { return false };
    // Read with the origin's scheme, so that a default port may be written or not.
    let Ok(host) = Url::parse(&format!("{}://{host}", origin.scheme())) else { return false };
    matches!(origin.scheme(), "http" | "https")
        && origin.host().is_some()
        && origin.host() == host.host()
        && origin.port_or_known_default() == host.port_or_known_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(given: &[(&'static str, &str)]) -> bool {
        let mut config = Config::defaults().unwrap();
        config.public_url = crate::config::PublicUrl::parse("https://auth.example.com").unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(*name, value.parse().unwrap());
        }
        allows(&config, &headers, &Uri::from_static("/login"))
    }

    #[test]
    fn programs_that_are_no_browsers_pass() {
        assert!(allowed(&[]));
        assert!(allowed(&[("host", "auth.example.com")]));
    }

    #[test]
    fn our_own_pages_pass() {
        assert!(allowed(&[
            ("origin", "https://auth.example.com"),
            ("sec-fetch-site", "same-origin")
        ]));
        assert!(allowed(&[("origin", "http://127.0.0.1:8080"), ("sec-fetch-site", "same-origin")]));
        assert!(allowed(&[("origin", "http://127.0.0.1:8080"), ("host", "127.0.0.1:8080")]));
        assert!(allowed(&[("origin", "http://box"), ("host", "box:80")]));
        assert!(allowed(&[("sec-fetch-site", "none")]));
    }

    #[test]
    fn pages_of_others_do_not() {
        assert!(!allowed(&[
            ("origin", "https://app.example.com"),
            ("sec-fetch-site", "same-site")
        ]));
        assert!(!allowed(&[("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")]));
        assert!(!allowed(&[("origin", "https://evil.example"), ("host", "auth.example.com")]));
        assert!(!allowed(&[("origin", "null"), ("host", "auth.example.com")]));
        assert!(!allowed(&[("origin", "http://box:81"), ("host", "box:80")]));
        assert!(!allowed(&[("origin", "file://box"), ("host", "box")]));
        assert!(!allowed(&[("origin", "chrome-extension://box"), ("host", "box")]));
        assert!(!allowed(&[("sec-fetch-site", "same-site")]));
        assert!(!allowed(&[("sec-fetch-site", "")]));
        assert!(!allowed(&[
            ("origin", "https://auth.example.com"),
            ("origin", "https://evil.example")
        ]));
    }

    /// Every combination of what a browser says of a page, of the host that it asked, and of what comes
    /// along: `+` passes, `-` does not, `h` does when the origin's host is the one that was asked.
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
            (Some("https://app.example.com:8443"), "h + + - - -"),
            (Some("http://app.example.com"), "h + + - - -"),
            (Some("https://box.internal"), "h + + - - -"),
            (Some("https://evil.example"), "h + + - - -"),
            (Some("https://auth.example.com.evil.example"), "h + + - - -"),
            (Some("https://evil.example/https://auth.example.com"), "h + + - - -"),
            (Some("HTTPS://AUTH.EXAMPLE.COM"), "h + + - - -"),
            (Some("null"), "- + + - - -"),
            (Some(""), "- + + - - -"),
        ];
        let hosts =
            [None, Some("auth.example.com"), Some("box.internal"), Some("app.example.com:8443")];
        let cookie = ("cookie", "portcullis=x");
        // A browser adds the first three by itself; the others need a preflight.
        let credentials = [
            (None, false),
            (Some(cookie), false),
            (Some(("authorization", "Basic YTpi")), false),
            (Some(("authorization", "Bearer pcs_x")), true),
            (Some(("x-api-key", "pct_x")), true),
        ];
        let config = || {
            let mut config = Config::defaults().unwrap();
            config.public_url =
                crate::config::PublicUrl::parse("https://auth.example.com").unwrap();
            config.allowed_origins =
                vec![crate::config::Origin::parse("https://app.example.com").unwrap()];
            config
        };
        let (config, mut decided) = (config(), 0);
        for (origin, row) in table {
            for (site, cell) in sites.iter().zip(row.split(' ')) {
                for host in hosts {
                    for (credential, is_explicit) in credentials {
                        let same_host = host.is_some_and(|host| {
                            origin.is_some_and(|origin| {
                                origin.to_ascii_lowercase().split('/').nth(2) == Some(host)
                            })
                        });
                        let expected = is_explicit || cell == "+" || cell == "h" && same_host;
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
        assert_eq!(decided, 12 * 6 * 4 * 5);
    }

    #[test]
    fn a_header_that_needs_a_preflight_exempts_and_basic_does_not() {
        let hostile = ("origin", "https://evil.example");
        assert!(allowed(&[hostile, ("authorization", "Bearer pcs_x")]));
        assert!(allowed(&[hostile, ("x-api-key", "pct_x")]));
        assert!(!allowed(&[hostile, ("authorization", "Basic YTpi")]));
    }
}
