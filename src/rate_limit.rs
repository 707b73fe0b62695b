//! A limit that is used up, as the client is told of it.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::config::Rate;

/// The limit in force (draft-ietf-httpapi-ratelimit-headers-10 §3).
pub const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// What is left of it (§4).
pub const STATE: HeaderName = HeaderName::from_static("ratelimit");

/// A limit that is used up.
#[derive(Clone, Copy, Debug)]
pub struct RateLimit {
    /// What is limited.
    pub policy: &'static str,
    /// How much is allowed.
    pub rate: Rate,
    /// When to try again.
    pub wait: Duration,
}

impl RateLimit {
    /// Adds the headers of a 429, which count in seconds.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        let (policy, wait) = (self.policy, self.wait.as_secs_f64().ceil());
        let (quota, window) = (self.rate.burst, self.rate.window().as_secs());
        let lines = [
            (header::RETRY_AFTER, wait.to_string()),
            (POLICY, format!(r#""{policy}";q={quota};w={window}"#)),
            (STATE, format!(r#""{policy}";r=0;t={wait}"#)),
        ];
        for (name, text) in lines {
            headers.extend(HeaderValue::try_from(text).ok().map(|value| (name, value)));
        }
    }
}
