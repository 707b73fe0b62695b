//! `POST /login` and `POST /logout`.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::auth::{Credential, OwnCookie, SESSION_TOKEN_PREFIX};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::extract::Json;
use crate::names::Identifier;
use crate::openapi::problems;
use crate::password::Verdict;
use crate::session::{self, Begin, Begun, Cookies};
use crate::state::App;
use crate::store::sessions::{Session, Transport};
use crate::store::users::{self, User};

/// Who logs in, and how the session is to be. Exactly one of `identifier`, `username` and `email`
/// is given.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"identifier": "alice", "password": "correct horse battery staple", "remember": true}))]
pub(super) struct Login {
    /// A username or an email address.
    identifier: Option<String>,
    /// A username.
    username: Option<String>,
    /// An email address.
    email: Option<String>,
    /// The password, as it was chosen.
    #[schema(value_type = String, format = Password)]
    password: SecretString,
    /// Whether the session outlives the browser; false unless it is said, but true for a token.
    remember: Option<bool>,
    /// `cookie` (the default) sets a cookie, `token` returns the secret.
    #[schema(nullable = false)]
    transport: Option<Transport>,
}

/// A login, and what the client needs to use it.
#[derive(Serialize, ToSchema)]
pub(super) struct LoggedIn {
    /// Who is logged in.
    user: User,
    /// The session that was begun.
    session: Session,
    /// The session's secret, to be sent as `Authorization: Bearer`; null when a cookie holds it.
    #[schema(required, example = json!(null))]
    token: Option<String>,
}

problems!(LoginProblems: Error::InvalidCredentials, Error::AccountDisabled, Error::Busy);

/// Log in
///
/// Always makes a new session. With cookies, the session that the browser's cookie named before
/// ends. An unknown account is answered like a wrong password, and as slowly.
#[utoipa::path(
    post, path = "/login", tag = "session", request_body = Login,
    responses(
        (status = OK, body = LoggedIn, headers(("set-cookie" = String, description = "The session cookie, with `transport: \"cookie\"`"))),
        LoginProblems,
    ),
)]
pub(super) async fn login(
    State(app): State<App>,
    client: Client,
    OwnCookie(replaces): OwnCookie,
    Json(login): Json<Login>,
) -> Result<Response> {
    let identifier = login.identifier()?;
    let credentials = users::find_credentials(&app.pool, &identifier).await?;
    let hash = credentials.as_ref().map(users::Credentials::hash);
    let Verdict::Right { rehashed } = app.hasher.verify(&login.password, hash).await? else {
        return Err(Error::InvalidCredentials);
    };
    let credentials = credentials.ok_or(Error::InvalidCredentials)?;
    if !credentials.is_active {
        return Err(Error::AccountDisabled);
    }
    let transport = login.transport.unwrap_or_default();
    let begin = Begin {
        client: &client,
        transport,
        remember: login.remember.unwrap_or(transport == Transport::Token),
        replaces: replaces.as_ref(),
        user_id: Some(credentials.user_id),
    };
    let begun = session::begin(&app, begin, async |connection| {
        users::record_login(connection, &credentials, rehashed.as_deref())
            .await?
            .ok_or(Error::InvalidCredentials)
    });
    Ok(logged_in(begun.await?, &app.cookies))
}

/// Log out
///
/// Ends the session that the credential names, on every replica at once. It is no error if there
/// is none.
#[utoipa::path(
    post, path = "/logout", tag = "session",
    responses(
        (status = NO_CONTENT, description = "Nobody is logged in by this credential any more", headers(("set-cookie" = String, description = "Removes the cookie, if the session came in it"))),
    ),
)]
pub(super) async fn logout(State(app): State<App>, headers: HeaderMap) -> Result<Response> {
    let (ended, transport) = match Credential::of(&headers, &app.cookies) {
        Credential::None | Credential::ApiToken => {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        Credential::Session(id, transport) => (vec![id], transport),
        Credential::Unreadable(transport) => (vec![], transport),
        // Whichever of them is the browser's own, it is to be logged out.
        Credential::SeveralCookies(ids) => (ids, Transport::Cookie),
    };
    for id in &ended {
        session::end(&app, id, transport).await?;
    }
    let removal =
        (transport == Transport::Cookie).then(|| (header::SET_COOKIE, app.cookies.remove()));
    Ok((StatusCode::NO_CONTENT, AppendHeaders(removal)).into_response())
}

impl Login {
    fn identifier(&self) -> Result<Identifier> {
        match (&self.identifier, &self.username, &self.email) {
            (Some(identifier), None, None) => Ok(Identifier::new(identifier)),
            (None, Some(username), None) => Ok(Identifier::username(username)),
            (None, None, Some(email)) => Ok(Identifier::email(email)),
            (None, None, None) => {
                Err(Error::invalid("identifier", "required", "(or username, or email) is required"))
            }
            _ => {
                let message = "username and email exclude each other";
                Err(Error::invalid("identifier", "invalid", message))
            }
        }
    }
}

/// The answer that hands a session to its client.
pub(super) fn logged_in(begun: Begun, cookies: &Cookies) -> Response {
    let (set_cookie, token) = hand_out(&begun, cookies);
    (set_cookie, Json(LoggedIn { user: begun.user, session: begun.session, token })).into_response()
}

/// The secret of a session, in a header or for the body, as its transport has it.
pub(super) fn hand_out(
    begun: &Begun,
    cookies: &Cookies,
) -> (AppendHeaders<Option<(HeaderName, HeaderValue)>>, Option<String>) {
    match begun.session.transport {
        Transport::Cookie => (AppendHeaders(Some((header::SET_COOKIE, cookies.set(begun)))), None),
        Transport::Token => {
            (AppendHeaders(None), Some(format!("{SESSION_TOKEN_PREFIX}{}", begun.id.expose())))
        }
    }
}
