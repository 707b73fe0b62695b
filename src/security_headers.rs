//! The headers by which browsers protect what we answer (ASVS 3.4).

use std::sync::Arc;

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;

use crate::config::{Config, Hsts};

/// JSON is nothing to run, to load from or to frame.
const NOTHING: &str =
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Swagger UI takes scripts and the document from us, writes styles of its own, and has pictures in
/// its style sheet.
const SWAGGER_UI: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";
/// A year, the least that ASVS 3.4.1 accepts.
const HSTS: &str = "max-age=31536000";
const HSTS_SUBDOMAINS: &str = "max-age=31536000; includeSubDomains";

/// Adds them to an answer, but for those that it has.
pub fn of(config: &Config) -> impl Fn(Response) -> Response + Clone + Send + Sync + 'static {
    let headers = [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, NOTHING),
        (header::REFERRER_POLICY, "no-referrer"),
        // For pages that load it without asking; those that ask are CORS' affair.
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    // Browsers ignore it over http (RFC 6797 §7.2).
    let hsts = match config.hsts {
        Hsts::On => Some(HSTS),
        Hsts::Subdomains => Some(HSTS_SUBDOMAINS),
        Hsts::Off => None,
    };
    let hsts = hsts.filter(|_| config.public_url.is_https());
    let hsts = hsts.map(|value| (header::STRICT_TRANSPORT_SECURITY, value));
    add(headers.into_iter().chain(hsts).collect())
}

/// Lets Swagger UI work.
pub fn of_swagger_ui() -> impl Fn(Response) -> Response + Clone + Send + Sync + 'static {
    add(vec![(header::CONTENT_SECURITY_POLICY, SWAGGER_UI)])
}

fn add(
    headers: Vec<(HeaderName, &'static str)>,
) -> impl Fn(Response) -> Response + Clone + Send + Sync + 'static {
    // Shared: the layer is cloned for each request.
    let headers: Arc<[_]> = headers.into();
    move |mut response| {
        for (name, value) in headers.iter() {
            let present = response.headers_mut().entry(name);
            present.or_insert(HeaderValue::from_static(value));
        }
        response
    }
}
