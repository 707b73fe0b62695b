//! What is left of a limit, as the client is told.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::config::Rate;

/// The limit in force (draft-ietf-httpapi-ratelimit-headers-10 §3).
pub const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// What is left of it (§4).
pub const STATE: HeaderName = HeaderName::from_static("ratelimit");

/// A limit, and what is left of it.
#[derive(Clone, Copy, Debug)]
pub struct RateLimit {
    /// What is limited.
    pub policy: &'static str,
    /// How much is allowed.
    pub rate: Rate,
    /// How many attempts are left.
    pub left: u32,
    /// When there is one more.
    pub wait: Duration,
}

impl RateLimit {
    /// Adds the headers of a 429, which count in seconds.
    pub(crate) fn refuse(&self, headers: &mut HeaderMap) {
        let wait = HeaderValue::try_from(self.wait.as_secs_f64().ceil().to_string());
        headers.extend(wait.ok().map(|value| (header::RETRY_AFTER, value)));
        self.describe(headers);
    }

    /// Adds the headers that tell the limit and what is left of it.
    pub(crate) fn describe(&self, headers: &mut HeaderMap) {
        let (policy, left, wait) = (self.policy, self.left, self.wait.as_secs_f64().ceil());
        let (quota, window) = (self.rate.burst, self.rate.window().as_secs());
        let lines = [
            (POLICY, format!(r#""{policy}";q={quota};w={window}"#)),
            (STATE, format!(r#""{policy}";r={left};t={wait}"#)),
        ];
        for (name, text) in lines {
            headers.extend(HeaderValue::try_from(text).ok().map(|value| (name, value)));
        }
    }
}
