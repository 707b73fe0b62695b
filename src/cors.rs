//! Which pages of other origins may read answers (CORS).

use std::time::Duration;

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderValue, Method, header};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::rate_limit;
use crate::request_id::X_REQUEST_ID;

/// How long browsers may remember a preflight's answer.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_secs(600);

/// The rules: pages of allowed origins, with credentials.
pub(crate) fn rules(config: &Config) -> CorsLayer {
    let origins = config.allowed_origins.iter();
    let origins = origins.filter_map(|origin| HeaderValue::from_str(origin.as_str()).ok());
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_credentials(true)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        // Tools for tracing and monitoring add headers of their own to a page's calls.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([
            X_REQUEST_ID,
            header::RETRY_AFTER,
            header::WWW_AUTHENTICATE,
            rate_limit::STATE,
            rate_limit::POLICY,
            header::LOCATION,
        ])
        .max_age(PREFLIGHT_MAX_AGE)
}

/// Readies a request for the rules. They answer every OPTIONS request with 200, so one to a path that does not
/// exist is rejected here.
pub(crate) fn prepare(request: &mut Request) -> Result<()> {
    let is_known = request.extensions().get::<MatchedPath>().is_some();
    if request.method() == Method::OPTIONS && !is_known {
        return Err(Error::NotFound);
    }
    // The rules repeat the origin in the answer. A copy, or it keeps all of the head in memory until then.
    if let Some(origin) = request.headers_mut().get_mut(header::ORIGIN) {
        *origin =
            HeaderValue::from_bytes(origin.as_bytes()).unwrap_or(HeaderValue::from_static("null"));
    }
    Ok(())
}
