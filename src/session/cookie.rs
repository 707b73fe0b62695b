//! The one cookie: how it is named, written, read and removed (RFC 6265bis).

use std::borrow::Cow;

use axum::http::{HeaderMap, HeaderValue, header};
use cookie::Cookie;
use cookie::time::Duration;

use super::records::SessionId;
use crate::config::{Config, SameSite};
use crate::store::sessions::Session;

/// As long as browsers keep a cookie (RFC 6265bis §5.6.2).
const LONGEST: Duration = Duration::days(400);

/// How the session cookie is written and read.
#[derive(Clone, Debug)]
pub struct Cookies {
    name: &'static str,
    domain: Option<String>,
    secure: bool,
    same_site: cookie::SameSite,
    outlives: bool,
}

/// What a request brought under the cookie's name.
#[derive(Clone, Debug)]
pub enum GivenCookie {
    /// No such cookie.
    None,
    /// One, and the id in it if it reads as one.
    One(Option<SessionId>),
    /// Several, so somebody else may have set one: none of them counts.
    Several(Vec<SessionId>),
}

impl Cookies {
    /// The prefix makes browsers hold us to the attributes: `__Host-` to this host alone,
    /// `__Secure-` to https.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let secure = config.public_url.is_https();
        let name = match (secure, &config.cookie_domain) {
            (true, None) => "__Host-portcullis",
            (true, Some(_)) => "__Secure-portcullis",
            (false, _) => "portcullis",
        };
        let same_site = match config.cookie_samesite {
            SameSite::Lax => cookie::SameSite::Lax,
            SameSite::Strict => cookie::SameSite::Strict,
            SameSite::None => cookie::SameSite::None,
        };
        let (domain, outlives) = (config.cookie_domain.clone(), config.remember_refresh.is_on());
        Self { name, domain, secure, same_site, outlives }
    }

    /// What a request brought.
    #[must_use]
    pub fn read(&self, headers: &HeaderMap) -> GivenCookie {
        // Byte by byte as browsers see it (RFC 6265bis §5.4): a name that only looks like ours once
        // Unicode's white space is trimmed has no prefix to them, and anybody may set it.
        let values: Vec<_> = headers
            .get_all(header::COOKIE)
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b';'))
            .filter_map(|pair| {
                let equals = pair.iter().position(|byte| *byte == b'=')?;
                let (name, value) = pair.split_at(equals);
                (name.trim_ascii() == self.name.as_bytes()).then(|| value[1..].trim_ascii())
            })
            .map(|value| str::from_utf8(value).ok().and_then(SessionId::parse))
            .collect();
        match values[..] {
            [] => GivenCookie::None,
            [one] => GivenCookie::One(one),
            _ => GivenCookie::Several(values.into_iter().flatten().collect()),
        }
    }

    /// The `Set-Cookie` that hands out a session: until the browser closes, or, when it is
    /// remembered, until it ends.
    #[must_use]
    pub fn set(&self, id: &SessionId, session: &Session) -> HeaderValue {
        let mut cookie = self.cookie(id.expose());
        if session.remember && self.outlives {
            // Use extends the session, and the cookie cannot be written again with every use: a
            // request in flight during a renewal would bring back the old secret.
            cookie.set_max_age(LONGEST);
        } else if session.remember {
            // Both times are PostgreSQL's, and the session was seen in this very request.
            cookie.set_max_age(session.expires_at - session.last_seen_at);
        }
        header_value(&cookie)
    }

    /// The `Set-Cookie` that removes the cookie, with the attributes that it was set with.
    #[must_use]
    pub fn remove(&self) -> HeaderValue {
        let mut cookie = self.cookie(String::new());
        cookie.set_max_age(Duration::ZERO);
        header_value(&cookie)
    }

    fn cookie(&self, value: String) -> Cookie<'static> {
        let mut cookie = Cookie::build((self.name, value))
            .path("/")
            .http_only(true)
            .secure(self.secure)
            .same_site(self.same_site)
            .build();
        if let Some(domain) = &self.domain {
            cookie.set_domain(Cow::Owned(domain.clone()));
        }
        cookie
    }
}

fn header_value(cookie: &Cookie<'_>) -> HeaderValue {
    // The name, the id and the checked domain are plain ASCII.
    HeaderValue::from_str(&cookie.to_string()).unwrap_or(HeaderValue::from_static(""))
}
