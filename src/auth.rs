//! Who is calling: the extractors that are the policy.
//!
//! A credential that is given and wrong is a 401, and the next kind is not tried. An API token needs
//! the scope `read` for safe methods, `write` for others, and `admin` for what only admins may do.

mod verify;

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::Method;
use axum::http::request::Parts;

pub use self::verify::verify;
use crate::client::Client;
use crate::credential::Credential;
use crate::error::{Error, Result};
pub use crate::session::CurrentSession;
use crate::session::cookie::GivenCookie;
use crate::session::records::SessionId;
use crate::state::App;
use crate::store::api_tokens::Scope;
use crate::store::sessions::Transport;
use crate::store::users::{self, Role, User};
use crate::throttle::Success;
use crate::{request_id, session};

/// Somebody who is known, and by what.
#[derive(Debug)]
pub struct CurrentUser {
    /// The account.
    pub user: User,
    /// What says so.
    pub access: Access,
}

/// What says who is calling.
#[derive(Debug)]
pub enum Access {
    /// A session.
    Session(Box<CurrentSession>),
    /// An API token with these scopes.
    ApiToken(Vec<Scope>),
    /// A password that came with the request.
    Password,
}

/// Somebody who is logged in and gave the password a short while ago.
#[derive(Debug)]
pub struct FreshUser(pub CurrentSession);

/// An admin, by any credential that may do what admins do.
#[derive(Debug)]
pub struct Admin(pub User);

/// An admin who may change things: by a fresh session, or an API token with the scope `admin`.
#[derive(Debug)]
pub struct FreshAdmin(pub CurrentUser);

/// An admin who may change things, or anybody at all; a credential that does not stand is no
/// hindrance, and one of an admin that does not suffice is told so.
#[derive(Debug)]
pub struct MaybeAdmin(pub Option<CurrentUser>);

/// The session that the request's own cookie names, whether or not it stands.
#[derive(Debug)]
pub struct OwnCookie(pub Option<SessionId>);

impl CurrentUser {
    /// Decides who is calling, and logs whom it was or that it was nobody.
    pub(crate) async fn identify(parts: &mut Parts, app: &App) -> Result<Self> {
        let by_cookie =
            matches!(Credential::of(parts, app), Credential::Session(_, Transport::Cookie));
        let identified = Self::decide(parts, app).await;
        match &identified {
            Ok(current) => {
                let event = if by_cookie { "loaded_from_cookie" } else { "loaded_from_request" };
                tracing::debug!(event, user_id = %current.user.id);
                request_id::name_caller(
                    current.user.id,
                    current.session().map(|session| session.live.session.id),
                );
            }
            Err(error) => tracing::debug!(event = "unauthorized", code = error.code()),
        }
        identified
    }

    /// The one place that decides who is calling.
    async fn decide(parts: &mut Parts, app: &App) -> Result<Self> {
        let (user, access) = match Credential::of(parts, app) {
            Credential::None => return Err(Error::Unauthenticated),
            Credential::Unreadable(_) | Credential::SeveralCookies(_) => {
                return Err(Error::SessionExpired);
            }
            Credential::Session(id, transport) => {
                let Ok(client) = Client::from_request_parts(parts, app).await;
                let live = session::find(app, &id, transport, &client).await?;
                (live.user.clone(), Access::Session(Box::new(CurrentSession { live, id })))
            }
            Credential::ApiToken(secret) => {
                let secret = secret.ok_or(Error::InvalidToken)?;
                let live = app.lookups.find_api_token(secret.hash()).await?;
                let live = live.ok_or(Error::InvalidToken)?;
                if live.touch_due {
                    app.touches.add_api_token(live.id);
                }
                (live.user, Access::ApiToken(live.scopes))
            }
            Credential::Basic(given) => {
                let (identifier, password) = given.ok_or(Error::InvalidCredentials)?;
                let Ok(client) = Client::from_request_parts(parts, app).await;
                let (credentials, rehashed) =
                    verify(app, &client, &identifier, &password, Success::GivesBack).await?;
                if let Some(rehashed) = rehashed {
                    users::rehash(&app.pool, &credentials, &rehashed).await?;
                }
                let user = users::find(&app.pool, credentials.user_id).await?;
                let user = user.filter(|user| user.is_active).ok_or(Error::InvalidCredentials)?;
                (user, Access::Password)
            }
        };
        Ok(Self { user, access })
    }

    pub(crate) fn require_scope(&self, scope: Scope) -> Result<()> {
        match &self.access {
            Access::ApiToken(scopes) if !scopes.contains(&scope) => {
                Err(Error::InsufficientScope(scope.as_str()))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn require_admin(&self) -> Result<()> {
        if self.user.role != Role::Admin {
            return Err(Error::Forbidden);
        }
        self.require_scope(Scope::Admin)
    }

    /// The session, if that is what says who is calling.
    #[must_use]
    pub fn session(&self) -> Option<&CurrentSession> {
        match &self.access {
            Access::Session(current) => Some(current),
            Access::ApiToken(_) | Access::Password => None,
        }
    }

    /// For calls of which only some are sensitive.
    ///
    /// # Errors
    /// `SessionRequired` without a session, `ReauthenticationRequired` when it is not fresh.
    pub fn require_fresh(&self, app: &App) -> Result<()> {
        require_fresh(self.session().ok_or(Error::SessionRequired)?, app)
    }
}

impl From<CurrentSession> for CurrentUser {
    fn from(current: CurrentSession) -> Self {
        Self { user: current.live.user.clone(), access: Access::Session(Box::new(current)) }
    }
}

fn require_fresh(current: &CurrentSession, app: &App) -> Result<()> {
    if current.live.is_fresh {
        return Ok(());
    }
    let (user_id, session_id) = (current.live.user.id, current.live.session.id);
    tracing::info!(event = "needs_refresh", %user_id, %session_id);
    Err(Error::ReauthenticationRequired(app.config.fresh_for.as_secs()))
}

impl FromRequestParts<App> for CurrentUser {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let current = Self::identify(parts, app).await?;
        let safe = matches!(parts.method, Method::GET | Method::HEAD);
        current.require_scope(if safe { Scope::Read } else { Scope::Write })?;
        Ok(current)
    }
}

impl FromRequestParts<App> for CurrentSession {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        match CurrentUser::identify(parts, app).await?.access {
            Access::Session(current) => Ok(*current),
            Access::ApiToken(_) | Access::Password => Err(Error::SessionRequired),
        }
    }
}

impl FromRequestParts<App> for FreshUser {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let current = CurrentSession::from_request_parts(parts, app).await?;
        require_fresh(&current, app).map(|()| Self(current))
    }
}

impl FromRequestParts<App> for Admin {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let current = CurrentUser::identify(parts, app).await?;
        current.require_admin().map(|()| Self(current.user))
    }
}

impl FromRequestParts<App> for FreshAdmin {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let current = CurrentUser::identify(parts, app).await?;
        current.require_admin()?;
        if !matches!(current.access, Access::ApiToken(_)) {
            current.require_fresh(app)?;
        }
        Ok(Self(current))
    }
}

impl FromRequestParts<App> for MaybeAdmin {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        match FreshAdmin::from_request_parts(parts, app).await {
            Ok(FreshAdmin(current)) => Ok(Self(Some(current))),
            // Only an admin is asked for these.
            Err(
                error @ (Error::ReauthenticationRequired(_)
                | Error::SessionRequired
                | Error::InsufficientScope(_)),
            ) => Err(error),
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
