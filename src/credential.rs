//! What a request brings to say who is calling; nothing is checked here.
//!
//! What a client gives on purpose wins over what its browser sends by itself: first `Authorization`,
//! then `X-API-Key`, then `?api_key=`, then the session cookie.

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;
use url::form_urlencoded;

use crate::names::Identifier;
use crate::session::cookie::GivenCookie;
use crate::session::records::SessionId;
use crate::state::App;
use crate::store::sessions::Transport;
use crate::token::{ApiToken, ApiTokenSecret, Purpose as _};

/// What the secret of a session starts with when it travels as a bearer token.
pub const SESSION_TOKEN_PREFIX: &str = "pcs_";
/// The query parameter that may hold an API token, where that is switched on.
pub const API_KEY: &str = "api_key";

const X_API_KEY: &str = "x-api-key";

/// What a request brings.
#[derive(Debug)]
pub enum Credential {
    /// Nothing.
    None,
    /// The secret of a session.
    Session(SessionId, Transport),
    /// Something in the place of a session's secret that was never one.
    Unreadable(Transport),
    /// Several cookies of our name. One counts if it is the only valid one.
    SeveralCookies(Vec<SessionId>),
    /// An API token, or, if `None`, something in its place that was never one.
    ApiToken(Option<ApiTokenSecret>),
    /// A name and a password, or, if `None`, something in their place that cannot be read.
    Basic(Option<(Identifier, SecretString)>),
}

impl Credential {
    /// Reads the credential that counts.
    #[must_use]
    pub fn of(parts: &Parts, app: &App) -> Self {
        let headers = &parts.headers;
        if let Some(token) = authorization(headers, b"bearer") {
            return match token.strip_prefix(SESSION_TOKEN_PREFIX).map(SessionId::parse) {
                Some(Some(id)) => Self::Session(id, Transport::Token),
                Some(None) => Self::Unreadable(Transport::Token),
                None => Self::ApiToken(ApiTokenSecret::parse(token)),
            };
        }
        if app.config.basic_auth.is_on()
            && let Some(encoded) = authorization(headers, b"basic")
        {
            return Self::Basic(basic(encoded));
        }
        let mut keys = api_keys(headers);
        if let Some(key) = keys.next() {
            let key = key.to_str().ok().filter(|_| keys.next().is_none());
            return Self::ApiToken(key.and_then(ApiTokenSecret::parse));
        }
        if app.config.api_key_query.is_on() {
            let query = parts.uri.query().unwrap_or_default();
            let mut keys =
                form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == API_KEY);
            if let Some((_, key)) = keys.next() {
                return Self::ApiToken(
                    ApiTokenSecret::parse(&key).filter(|_| keys.next().is_none()),
                );
            }
        }
        match app.cookies.read(headers) {
            GivenCookie::None => Self::None,
            GivenCookie::One(Some(id)) => Self::Session(id, Transport::Cookie),
            GivenCookie::One(None) => Self::Unreadable(Transport::Cookie),
            GivenCookie::Several(ids) => Self::SeveralCookies(ids),
        }
    }
}

/// Whether the credential is one that a page can add only if a preflight allows it, and that a
/// browser never adds by itself, as it does with Basic.
#[must_use]
pub fn is_explicit(headers: &HeaderMap) -> bool {
    authorization(headers, b"bearer").is_some() || api_keys(headers).next().is_some()
}

/// The API keys that are ours. Other services have keys in this header, too, and a gateway may add its own to every
/// request: such a key proves nothing, also not that a page set it.
fn api_keys(headers: &HeaderMap) -> impl Iterator<Item = &HeaderValue> {
    let is_ours = |key: &&HeaderValue| key.as_bytes().starts_with(ApiToken::PREFIX.as_bytes());
    headers.get_all(X_API_KEY).iter().filter(is_ours)
}

/// What follows a scheme in `Authorization` (RFC 9110 §11.6.2). What cannot be read, or comes with a
/// second such header, is given all the same, and is empty.
fn authorization<'a>(headers: &'a HeaderMap, scheme: &[u8]) -> Option<&'a str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, more) = (values.next()?.as_bytes(), values.next());
    let end = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
    let (given, rest) = value.split_at(end);
    let rest = if more.is_none() { str::from_utf8(rest).unwrap_or_default() } else { "" };
    given.eq_ignore_ascii_case(scheme).then_some(rest.trim())
}

/// A name and a password (RFC 7617 §2), which are UTF-8.
fn basic(encoded: &str) -> Option<(Identifier, SecretString)> {
    let text = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((Identifier::new(name), password.to_owned().into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret as _;

    use super::*;

    proptest! {
        #[test]
        fn what_basic_holds_is_read_back(name in "[^:]{0,20}", password in any::<String>()) {
            let text = STANDARD.encode(format!("{name}:{password}"));
            let (identifier, read) = basic(&text).unwrap();
            prop_assert_eq!(identifier, Identifier::new(&name));
            prop_assert_eq!(read.expose_secret(), &password);
        }

        #[test]
        fn any_authorization_is_read(value in prop::collection::vec(prop_oneof![Just(b'\t'), 32..127u8, 128..=255u8], 0..40), spaces in " {1,4}") {
            let given = [b"bEaReR", spaces.as_bytes(), &value].concat();
            let Ok(header) = HeaderValue::from_bytes(&given) else { return Ok(()) };
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, header.clone());
            let token = authorization(&headers, b"bearer");
            prop_assert_eq!(token, Some(str::from_utf8(&value).unwrap_or_default().trim()));
            prop_assert_eq!(authorization(&headers, b"basic"), None);
            let _ = basic(token.unwrap_or_default());
            // Two of them are none.
            headers.append(header::AUTHORIZATION, header);
            prop_assert_eq!(authorization(&headers, b"bearer"), Some(""));
        }
    }
}
