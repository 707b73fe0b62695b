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

    #[test]
    fn a_header_that_needs_a_preflight_exempts_and_basic_does_not() {
        let hostile = ("origin", "https://evil.example");
        assert!(allowed(&[hostile, ("authorization", "Bearer pcs_x")]));
        assert!(allowed(&[hostile, ("x-api-key", "pct_x")]));
        assert!(!allowed(&[hostile, ("authorization", "Basic YTpi")]));
    }
}
