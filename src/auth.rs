//! Who is calling: the extractors that are the policy.
//!
//! A credential that is given and wrong is a 401, and the next kind is not tried. An API token needs
//! the scope `read` for safe methods, `write` for others, and `admin` for what only admins may do.

mod verify;

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::Method;
use axum::http::request::Parts;
use sqlx::PgConnection;
use uuid::Uuid;

pub use self::verify::{record_failure, verify};
use crate::client::Client;
use crate::credential::Credential;
use crate::error::{Error, Result};
pub use crate::session::CurrentSession;
use crate::session::records::SessionId;
use crate::state::App;
use crate::store::api_tokens::Scope;
use crate::store::credentials::{self, Checked};
use crate::store::sessions::Transport;
use crate::store::users::{self, Role, User};
use crate::throttle::PasswordUse;
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
    /// An API token.
    ApiToken {
        /// Names the token.
        id: Uuid,
        /// What it may do.
        scopes: Vec<Scope>,
    },
    /// A password that came with the request, by the account's `credential_version`.
    Password(i64),
}

/// The caller, also one that must choose a new password before anything else.
#[derive(Debug)]
pub struct LimitedUser(pub CurrentUser);

/// The caller's session, also one whose account must get a new password before anything else.
#[derive(Debug)]
pub struct LimitedSession(pub CurrentSession);

/// Somebody who is logged in and gave the password a short while ago.
#[derive(Debug)]
pub struct FreshUser(pub CurrentSession);

/// An admin, by any credential that may do what admins do.
#[derive(Debug)]
pub struct Admin(pub User);

/// An admin who may change things: by a fresh session, or an API token with the scope `admin`.
#[derive(Debug)]
pub struct FreshAdmin(pub CurrentUser);

/// The caller, if it is an admin who may change things. Anybody else counts as anonymous, also with an expired
/// session: somebody with an old cookie may register. An admin whose credential does not suffice is rejected, and so
/// is an invalid API token or Basic password, which a program chose to send.
#[derive(Debug)]
pub struct MaybeAdmin(pub Option<CurrentUser>);

/// The caller's session, if the request names a valid one.
#[derive(Debug)]
pub struct MaybeSession(pub Option<CurrentSession>);

/// The sessions that the request itself names, by its cookies or as a bearer token, whether or not they are valid. A
/// login takes their place.
#[derive(Debug)]
pub struct NamedSessions(pub Vec<(SessionId, Transport)>);

impl CurrentUser {
    /// Decides who is calling, and logs whom it was or that it was nobody.
    pub(crate) async fn identify(parts: &mut Parts, app: &App) -> Result<Self> {
        let by_cookie = matches!(
            Credential::of(parts, app),
            Credential::Session(_, Transport::Cookie) | Credential::SeveralCookies(_)
        );
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
            Credential::Unreadable(_) => return Err(Error::SessionExpired),
            Credential::SeveralCookies(ids) => {
                let Ok(client) = Client::from_request_parts(parts, app).await;
                let current = session::find_only(app, &ids, &client).await?;
                (current.live.user.clone(), Access::Session(Box::new(current)))
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
                (live.user, Access::ApiToken { id: live.id, scopes: live.scopes })
            }
            Credential::Basic(given) => {
                let (identifier, password) = given.ok_or(Error::InvalidCredentials)?;
                let Ok(client) = Client::from_request_parts(parts, app).await;
                let verified =
                    verify(app, &client, &identifier, &password, PasswordUse::Basic).await;
                // A correct one is no login, and would count with every request.
                if verified.is_err() {
                    app.metrics.count_login(&verified);
                }
                let (credentials, rehashed) = verified?;
                if let Some(rehashed) = rehashed {
                    users::rehash(&app.pool, &credentials, &rehashed).await?;
                }
                let user = users::find(&app.pool, credentials.user_id).await?;
                let user = user.filter(|user| user.is_active).ok_or(Error::InvalidCredentials)?;
                (user, Access::Password(credentials.credential_version))
            }
        };
        Ok(Self { user, access })
    }

    /// Identifies a caller that may use more than what a forced change of the password needs.
    pub(crate) async fn identify_unlimited(parts: &mut Parts, app: &App) -> Result<Self> {
        let current = Self::identify(parts, app).await?;
        current.require_no_password_change().map(|()| current)
    }

    fn require_no_password_change(&self) -> Result<()> {
        if self.user.must_change_password { Err(Error::PasswordChangeRequired) } else { Ok(()) }
    }

    /// Checks again, once the account's row is locked, that the credential is still valid: it may have been
    /// revoked since the request began. Every change on behalf of a caller begins with this.
    ///
    /// # Errors
    /// A 401 that fits the kind of the credential.
    pub async fn confirm(&self, connection: &mut PgConnection) -> Result<()> {
        confirm(connection, self.user.id, &self.access).await
    }

    pub(crate) fn require_scope(&self, scope: Scope) -> Result<()> {
        match &self.access {
            Access::ApiToken { scopes, .. } if !scopes.contains(&scope) => {
                Err(Error::InsufficientScope(scope.as_str()))
            }
            _ => Ok(()),
        }
    }

    /// An API token needs `read` for safe methods and `write` for others.
    fn require_scope_for(&self, method: &Method) -> Result<()> {
        let safe = matches!(*method, Method::GET | Method::HEAD);
        self.require_scope(if safe { Scope::Read } else { Scope::Write })
    }

    fn into_session(self) -> Result<CurrentSession> {
        match self.access {
            Access::Session(current) => Ok(*current),
            Access::ApiToken { .. } | Access::Password(_) => Err(Error::SessionRequired),
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
            Access::ApiToken { .. } | Access::Password(_) => None,
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

/// Checks a credential again whose account is locked, as [`CurrentUser::confirm`] does.
///
/// # Errors
/// `SessionExpired`, `InvalidToken` or `InvalidCredentials`, by its kind.
pub async fn confirm(connection: &mut PgConnection, user_id: Uuid, access: &Access) -> Result<()> {
    let (checked, error) = match access {
        Access::Session(current) => (current.checked(), Error::SessionExpired),
        Access::ApiToken { id, .. } => (Checked::ApiToken(*id), Error::InvalidToken),
        Access::Password(version) => (Checked::Password(*version), Error::InvalidCredentials),
    };
    if credentials::is_valid(connection, user_id, &checked).await? { Ok(()) } else { Err(error) }
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
        let current = Self::identify_unlimited(parts, app).await?;
        current.require_scope_for(&parts.method).map(|()| current)
    }
}

impl FromRequestParts<App> for LimitedUser {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let current = CurrentUser::identify(parts, app).await?;
        current.require_scope_for(&parts.method).map(|()| Self(current))
    }
}

impl FromRequestParts<App> for CurrentSession {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        CurrentUser::identify_unlimited(parts, app).await?.into_session()
    }
}

impl FromRequestParts<App> for LimitedSession {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        CurrentUser::identify(parts, app).await?.into_session().map(Self)
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
        let current = CurrentUser::identify_unlimited(parts, app).await?;
        current.require_admin().map(|()| Self(current.user))
    }
}

impl FromRequestParts<App> for FreshAdmin {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        Self::of(CurrentUser::identify(parts, app).await?, app)
    }
}

impl FreshAdmin {
    fn of(current: CurrentUser, app: &App) -> Result<Self> {
        current.require_no_password_change()?;
        current.require_admin()?;
        if !matches!(current.access, Access::ApiToken { .. }) {
            current.require_fresh(app)?;
        }
        Ok(Self(current))
    }
}

impl FromRequestParts<App> for MaybeAdmin {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let is_chosen = matches!(
            Credential::of(parts, app),
            Credential::ApiToken(Some(_)) | Credential::Basic(Some(_))
        );
        match CurrentUser::identify(parts, app).await {
            Ok(current) if current.user.role == Role::Admin => {
                FreshAdmin::of(current, app).map(|FreshAdmin(current)| Self(Some(current)))
            }
            Ok(_) => Ok(Self(None)),
            Err(error) if error.parts().0.is_client_error() && !is_chosen => Ok(Self(None)),
            // Without the database, nobody knows whether this is an admin.
            Err(error) => Err(error),
        }
    }
}

impl FromRequestParts<App> for MaybeSession {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        if !matches!(Credential::of(parts, app), Credential::Session(..)) {
            return Ok(Self(None));
        }
        match CurrentUser::identify(parts, app).await.and_then(CurrentUser::into_session) {
            Ok(session) => Ok(Self(Some(session))),
            Err(error) if error.parts().0.is_client_error() => Ok(Self(None)),
            Err(error) => Err(error),
        }
    }
}

impl FromRequestParts<App> for NamedSessions {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        Ok(Self(match Credential::of(parts, app) {
            Credential::Session(id, transport) => vec![(id, transport)],
            Credential::SeveralCookies(ids) => {
                ids.into_iter().map(|id| (id, Transport::Cookie)).collect()
            }
            _ => vec![],
        }))
    }
}
