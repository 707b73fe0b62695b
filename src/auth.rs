//! Who is calling: the extractors that are the policy.
//!
//! What a client gives on purpose wins over what its browser sends by itself: first the
//! `Authorization: Bearer` header, then `X-API-Key`, then the session cookie. A credential that is
//! given and wrong is a 401; the next kind is not tried.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};

use crate::error::{Error, Result};
use crate::session::{self, Cookies, GivenCookie, SessionId};
use crate::state::App;
use crate::store::sessions::{Live, Transport};
use crate::store::users::{Role, User};

/// What the secret of a session starts with when it travels as a bearer token.
pub const SESSION_TOKEN_PREFIX: &str = "pcs_";

const X_API_KEY: &str = "x-api-key";

/// What a request brought to say who is calling; not checked yet.
#[derive(Clone, Debug)]
pub enum Credential {
    /// Nothing.
    None,
    /// The secret of a session.
    Session(SessionId, Transport),
    /// Something in the place of a session's secret that was never one.
    Unreadable(Transport),
    /// Cookies of our name, more than one: none of them counts.
    SeveralCookies(Vec<SessionId>),
    /// Something in the place of an API token.
    ApiToken,
}

impl Credential {
    /// Reads the credential that counts.
    #[must_use]
    pub fn of(headers: &HeaderMap, cookies: &Cookies) -> Self {
        if let Some(token) = bearer(headers) {
            return match token.strip_prefix(SESSION_TOKEN_PREFIX).map(SessionId::parse) {
                Some(Some(id)) => Self::Session(id, Transport::Token),
                Some(None) => Self::Unreadable(Transport::Token),
                None => Self::ApiToken,
            };
        }
        if headers.contains_key(X_API_KEY) {
            return Self::ApiToken;
        }
        match cookies.read(headers) {
            GivenCookie::None => Self::None,
            GivenCookie::One(Some(id)) => Self::Session(id, Transport::Cookie),
            GivenCookie::One(None) => Self::Unreadable(Transport::Cookie),
            GivenCookie::Several(ids) => Self::SeveralCookies(ids),
        }
    }
}

/// Whether the credential is one that a page can add only if a preflight allows it.
#[must_use]
pub fn is_explicit(headers: &HeaderMap) -> bool {
    bearer(headers).is_some() || headers.contains_key(X_API_KEY)
}

/// The bearer token (RFC 6750 §2.1). One that cannot be read, or comes with a second
/// `Authorization` header, is given all the same, and is empty.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, more) = (values.next()?.as_bytes(), values.next());
    let end = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
    let (scheme, token) = value.split_at(end);
    let token = if more.is_none() { str::from_utf8(token).unwrap_or_default() } else { "" };
    scheme.eq_ignore_ascii_case(b"bearer").then_some(token.trim())
}

/// Somebody who is logged in, and the session that says so.
#[derive(Debug)]
pub struct CurrentSession {
    /// The session and its account.
    pub live: Live,
    /// The secret that the client gave.
    pub id: SessionId,
}

/// Somebody who is logged in.
#[derive(Debug)]
pub struct CurrentUser(pub User);

/// An admin.
#[derive(Debug)]
pub struct Admin(pub User);

/// An admin, or anybody at all; a credential that does not stand is no hindrance.
#[derive(Debug)]
pub struct MaybeAdmin(pub Option<User>);

/// The session that the request's own cookie names, whether or not it stands.
#[derive(Debug)]
pub struct OwnCookie(pub Option<SessionId>);

impl FromRequestParts<App> for CurrentSession {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        match Credential::of(&parts.headers, &app.cookies) {
            Credential::None => Err(Error::Unauthenticated),
            Credential::Unreadable(_) | Credential::SeveralCookies(_) => Err(Error::SessionExpired),
            Credential::ApiToken => Err(Error::InvalidToken),
            Credential::Session(id, transport) => {
                let live = session::find(app, &id, transport).await?;
                Ok(Self { live, id })
            }
        }
    }
}

impl FromRequestParts<App> for CurrentUser {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let current = CurrentSession::from_request_parts(parts, app).await?;
        Ok(Self(current.live.user))
    }
}

impl FromRequestParts<App> for Admin {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let CurrentUser(user) = CurrentUser::from_request_parts(parts, app).await?;
        if user.role == Role::Admin { Ok(Self(user)) } else { Err(Error::Forbidden) }
    }
}

impl FromRequestParts<App> for MaybeAdmin {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        match Admin::from_request_parts(parts, app).await {
            Ok(Admin(user)) => Ok(Self(Some(user))),
            Err(error) if error.parts().0.is_client_error() => Ok(Self(None)),
            // Whether this is an admin cannot be told without the database.
            Err(error) => Err(error),
        }
    }
}

impl FromRequestParts<App> for OwnCookie {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        Ok(Self(match app.cookies.read(&parts.headers) {
            GivenCookie::One(id) => id,
            GivenCookie::None | GivenCookie::Several(_) => None,
        }))
    }
}
