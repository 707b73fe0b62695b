//! Our cookies: the session, the secrets by which accounts recognise a browser, and the browser's
//! requests for login codes. How they are named, written, read and removed (RFC 6265bis).

use std::borrow::Cow;

use axum::http::{HeaderMap, HeaderValue, header};
use cookie::Cookie;
use cookie::time::Duration;
use secrecy::{ExposeSecret as _, SecretString};

use super::records::SessionId;
use crate::config::{Config, SameSite};
use crate::store::sessions::Session;
use crate::token::HeldSecrets;

/// As long as browsers keep a cookie (RFC 6265bis §5.6.2).
const LONGEST: Duration = Duration::days(400);
/// As long as a login code is valid.
const LOGIN_REQUEST: Duration = Duration::minutes(10);

/// How the cookies are written and read.
#[derive(Clone, Debug)]
pub struct Cookies {
    name: &'static str,
    /// Only this host ever needs it, whatever the session's domain is.
    device_name: &'static str,
    login_request_name: &'static str,
    domain: Option<String>,
    secure: bool,
    same_site: cookie::SameSite,
    /// How long after its login a remembered session ends, if activity extends it.
    remember_max: Option<Duration>,
}

/// What a request brought under the cookie's name.
#[derive(Clone, Debug)]
pub enum GivenCookie {
    /// No such cookie.
    None,
    /// One, and the id in it if it reads as one.
    One(Option<SessionId>),
    /// Several with different values, and the ids in them, at most one more than [`MOST`]. Somebody else may have set
    /// one. More often one remains of another cookie domain, or belongs to another deployment.
    Several(Vec<SessionId>),
}

/// Cookies of our name that are looked at in one request. Browsers have one for each deployment above their host.
pub const MOST: usize = 4;

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
        let (device_name, login_request_name) = if secure {
            ("__Host-portcullis-device", "__Host-portcullis-login")
        } else {
            ("portcullis-device", "portcullis-login")
        };
        let same_site = match config.cookie_samesite {
            SameSite::Lax => cookie::SameSite::Lax,
            SameSite::Strict => cookie::SameSite::Strict,
            SameSite::None => cookie::SameSite::None,
        };
        let domain = config.cookie_domain.clone();
        let remember_max = config.remember_limit().and_then(|max| max.try_into().ok());
        Self { name, device_name, login_request_name, domain, secure, same_site, remember_max }
    }

    /// What the session's cookie is called.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What a request brought.
    #[must_use]
    pub fn read(&self, headers: &HeaderMap) -> GivenCookie {
        let values: Vec<_> = values(headers, self.name)
            .map(|value| str::from_utf8(value).ok().and_then(SessionId::parse))
            .collect();
        match &values[..] {
            [] => GivenCookie::None,
            [one, others @ ..] if others.iter().all(|other| other == one) => GivenCookie::One(*one),
            _ => {
                let mut ids = Vec::new();
                for id in values.into_iter().flatten() {
                    if ids.len() <= MOST && !ids.contains(&id) {
                        ids.push(id);
                    }
                }
                GivenCookie::Several(ids)
            }
        }
    }

    /// The secrets by which accounts recognise the browser.
    #[must_use]
    pub fn read_devices(&self, headers: &HeaderMap) -> HeldSecrets {
        held(headers, self.device_name)
    }

    /// The secrets of the browser's requests for login codes.
    #[must_use]
    pub fn read_login_requests(&self, headers: &HeaderMap) -> HeldSecrets {
        held(headers, self.login_request_name)
    }

    /// The `Set-Cookie`s that hand out a session: until the browser closes, or, when it is remembered, until it
    /// expires. A cookie for this host alone remains from the time before the cookie domain was set, and is removed.
    #[must_use]
    pub fn set(&self, id: &SessionId, session: &Session) -> Vec<HeaderValue> {
        let mut cookie = self.session(id.expose());
        if session.remember
            && let Some(max) = self.remember_max
        {
            // Activity extends the session up to this end. The cookie is not written again with each use:
            // a request in flight during a renewal would bring back the old secret.
            cookie.set_max_age(LONGEST.min(session.created_at + max - session.last_seen_at));
        } else if session.remember {
            // Both times are PostgreSQL's, and the session was seen in this very request.
            cookie.set_max_age(session.expires_at - session.last_seen_at);
        }
        // Some clients take both for one cookie: the last one wins.
        let host_only = self.domain.is_some().then(|| self.remove_host_only());
        host_only.into_iter().chain([header_value(&cookie)]).collect()
    }

    /// The `Set-Cookie`s that remove the session's cookie: of this host alone, and of the cookie domain.
    #[must_use]
    pub fn remove(&self) -> Vec<HeaderValue> {
        let of_domain = self.domain.is_some().then(|| removal(self.session(String::new())));
        [self.remove_host_only()].into_iter().chain(of_domain).collect()
    }

    fn remove_host_only(&self) -> HeaderValue {
        removal(self.cookie(self.name, String::new()))
    }

    /// The `Set-Cookie` by which accounts will recognise the browser.
    #[must_use]
    pub fn set_devices(&self, value: &SecretString) -> HeaderValue {
        self.set_held(self.device_name, value, LONGEST)
    }

    /// The `Set-Cookie` that binds a login code to the browser that requested it.
    #[must_use]
    pub fn set_login_requests(&self, value: &SecretString) -> HeaderValue {
        self.set_held(self.login_request_name, value, LOGIN_REQUEST)
    }

    fn set_held(&self, name: &'static str, value: &SecretString, max_age: Duration) -> HeaderValue {
        let mut cookie = self.cookie(name, value.expose_secret().to_owned());
        cookie.set_max_age(max_age);
        header_value(&cookie)
    }

    fn session(&self, value: String) -> Cookie<'static> {
        let mut cookie = self.cookie(self.name, value);
        if let Some(domain) = &self.domain {
            cookie.set_domain(Cow::Owned(domain.clone()));
        }
        cookie
    }

    fn cookie(&self, name: &'static str, value: String) -> Cookie<'static> {
        Cookie::build((name, value))
            .path("/")
            .http_only(true)
            .secure(self.secure)
            .same_site(self.same_site)
            .build()
    }
}

fn removal(mut cookie: Cookie<'_>) -> HeaderValue {
    cookie.set_max_age(Duration::ZERO);
    header_value(&cookie)
}

/// The values of every cookie of this name, byte by byte as browsers see them (RFC 6265bis §5.4): a
/// name that only looks like ours once Unicode's white space is trimmed has no prefix to them, and
/// anybody may set it.
fn values<'a>(headers: &'a HeaderMap, wanted: &'a str) -> impl Iterator<Item = &'a [u8]> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b';'))
        .filter_map(move |pair| {
            let equals = pair.iter().position(|byte| *byte == b'=')?;
            let (name, value) = pair.split_at(equals);
            (name.trim_ascii() == wanted.as_bytes()).then(|| value[1..].trim_ascii())
        })
}

/// What the only cookie of this name holds. If there are several, somebody else may have set one, and
/// none counts.
fn held(headers: &HeaderMap, name: &str) -> HeldSecrets {
    let mut values = values(headers, name);
    let only = values.next().filter(|_| values.next().is_none());
    let text = only.and_then(|value| str::from_utf8(value).ok());
    text.map(HeldSecrets::from_cookie).unwrap_or_default()
}

fn header_value(cookie: &Cookie<'_>) -> HeaderValue {
    // The names, the secrets and the checked domain are plain ASCII.
    HeaderValue::from_str(&cookie.to_string()).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_header_is_read_as_browsers_would(before in "[ -~]{0,20}", after in prop::collection::vec(prop_oneof![Just(b'\t'), 32..127u8, 128..=255u8], 0..20)) {
            let config = Config::defaults().unwrap();
            let cookies = Cookies::new(&config);
            let id = "AAAAAAAAAAAAAAAAAAAAAA";
            let value = [before.as_bytes(), b"; portcullis=", id.as_bytes(), b";", &after].concat();
            let Ok(value) = HeaderValue::from_bytes(&value) else { return Ok(()) };
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, value);
            let others = [before.as_bytes(), &after].concat();
            let named = String::from_utf8_lossy(&others).contains("portcullis");
            match cookies.read(&headers) {
                GivenCookie::One(given) => prop_assert_eq!(given.map(|given| given.expose()), Some(id.to_owned())),
                GivenCookie::Several(_) => prop_assert!(named),
                GivenCookie::None => prop_assert!(false, "it was there"),
            }
        }
    }
}
