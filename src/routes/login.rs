//! `POST /login` and `POST /logout`.

pub(super) mod code;

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::auth::{self, NamedSessions};
use crate::client::{Client, NewDevice};
use crate::config;
use crate::credential::{Credential, SESSION_TOKEN_PREFIX};
use crate::error::{Error, Result};
use crate::extract::{Json, word};
use crate::names::Identifier;
use crate::problem_examples::{problems, rate_limited};
use crate::session::cookie::Cookies;
use crate::session::records::SessionId;
use crate::session::{self, Begin, Begun};
use crate::state::App;
use crate::store::sessions::{Session, Transport};
use crate::store::users::{self, User};
use crate::telemetry::RequestContext;
use crate::throttle::PasswordUse;
use crate::token::DeviceSecret;

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
    /// How long it does, such as `7d`; never longer than the service allows. Implies `remember`.
    #[schema(example = "7d")]
    remember_for: Option<String>,
    /// For apps: what an earlier login gave as `device_token`. Guesses of strangers then do not keep
    /// this client out; one that is not known is ignored.
    #[schema(value_type = Option<String>, format = Password)]
    device_token: Option<SecretString>,
    /// `cookie` (the default) sets a cookie, `token` returns the secret.
    #[serde(default, deserialize_with = "word")]
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
    #[schema(required, example = "pcs_WkSzIYsmLt-laosGwUXNHA")]
    token: Option<String>,
    /// What an app keeps, even after logging out, and sends with its next login. Null when a cookie
    /// holds it, and when the client has one that stands.
    #[schema(required, example = "pcd_XIkE-uXzyYXTgeTxAln2VzuZTUU0eSSf")]
    device_token: Option<String>,
}

problems!(LoginProblems: Error::InvalidCredentials, Error::AccountDisabled, Error::EmailUnverified, rate_limited(), Error::Busy);

/// Log in
///
/// Always creates a new session. The session that the request itself names, by its cookie or as a bearer token, is
/// revoked, whatever the transport of the new one. An unknown account is answered like a wrong password, and
/// as slowly. Too many wrong passwords are a 429, for a while; not so for a client that has logged in to
/// the account before, which has a limit of its own. Where addresses must be verified first, one that is
/// not is mailed to again.
#[utoipa::path(
    post, path = "/login", tag = "session", request_body = Login,
    responses(
        (status = OK, body = LoggedIn, headers(("set-cookie" = String, description = "The session cookie, with `transport: \"cookie\"`, and one by which the account knows this browser"))),
        LoginProblems,
    ),
)]
pub(super) async fn login(
    State(app): State<App>,
    client: Client,
    NamedSessions(replaces): NamedSessions,
    Json(login): Json<Login>,
) -> Result<Response> {
    let begun = log_in(&app, client, replaces, login).await;
    app.metrics.count_login(&begun);
    Ok(logged_in(begun?, &app.cookies))
}

async fn log_in(
    app: &App,
    mut client: Client,
    replaces: Vec<(SessionId, Transport)>,
    login: Login,
) -> Result<Begun> {
    know_by(&mut client, login.device_token.as_ref());
    let wanted = Wanted::new(app, login.transport, login.remember, login.remember_for.as_deref())?;
    let identifier = login.identifier()?;
    let (verified, rehashed) =
        auth::verify(app, &client, &identifier, &login.password, PasswordUse::LogIn).await?;
    let begin = wanted.begin(&client, "password", &replaces, Some(verified.user_id));
    session::begin(app, begin, async |connection| {
        let version = verified.credential_version;
        let user = users::record_login(&mut *connection, verified.user_id, version).await?;
        if let Some(rehashed) = &rehashed {
            users::rehash(connection, &verified, rehashed).await?;
        }
        user.ok_or(Error::InvalidCredentials)
    })
    .await
}

/// Log out
///
/// Ends the session that the credential names, on every replica at once. It is no error if there
/// is none.
#[utoipa::path(
    post, path = "/logout", tag = "session", security((), ("cookie" = []), ("bearer" = [])),
    responses(
        (status = NO_CONTENT, description = "Nobody is logged in by this credential any more", headers(("set-cookie" = String, description = "Removes the cookie, if the session came in it"))),
    ),
)]
pub(super) async fn logout(
    State(app): State<App>,
    client: Client,
    request: Request,
) -> Result<Response> {
    let (ended, transport) = match Credential::of(&request.into_parts().0, &app) {
        Credential::None | Credential::ApiToken(_) | Credential::Basic(_) => {
            session::forget_unproven(&app, &client).await?;
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        Credential::Session(id, transport) => (vec![id], transport),
        Credential::Unreadable(transport) => (vec![], transport),
        Credential::SeveralCookies(ids) => (ids, Transport::Cookie),
    };
    let answer = ended_session(&app, transport);
    // A page that is left at once takes its request with it; the logout is to happen all the same.
    let end = async move {
        session::forget_unproven(&app, &client).await?;
        for id in &ended {
            session::end(&app, id, transport, &client).await?;
        }
        Ok(answer)
    };
    tokio::spawn(RequestContext::current().run(end)).await.map_err(Error::internal)?
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
                let message = "must be the only one of identifier, username and email";
                Err(Error::invalid("identifier", "invalid", message))
            }
        }
    }
}

/// Recognises the client by the device token that an app stores and sends.
pub(super) fn know_by(client: &mut Client, device_token: Option<&SecretString>) {
    let given = device_token.map(SecretString::expose_secret);
    if let Some(device) = given.and_then(DeviceSecret::parse) {
        client.device_token = Some(device.hash());
    }
}

/// How a session is wanted, from the fields that every request has that begins one.
pub(super) struct Wanted {
    transport: Transport,
    remember: Option<Duration>,
}

impl Wanted {
    /// # Errors
    /// A 422 for a duration that is none, or that contradicts `remember`.
    pub(super) fn new(
        app: &App,
        transport: Option<Transport>,
        remember: Option<bool>,
        remember_for: Option<&str>,
    ) -> Result<Self> {
        let transport = transport.unwrap_or_default();
        let longest = app.config.remember_for;
        let remember = match (remember, remember_for) {
            (Some(false), Some(_)) => {
                let message = "needs remember not to be false";
                return Err(Error::invalid("remember_for", "invalid", message));
            }
            (_, Some(text)) => {
                let duration = config::duration(text).map_err(|allowed| {
                    Error::invalid("remember_for", "invalid", &format!("must be {allowed}"))
                })?;
                Some(duration.min(longest))
            }
            (remember, None) => {
                remember.unwrap_or(transport == Transport::Token).then_some(longest)
            }
        };
        Ok(Self { transport, remember })
    }

    /// The secret by which a new account recognises the client that registered: in a cookie, or for the
    /// body.
    pub(super) fn hand_out_device(
        &self,
        device: &NewDevice,
        cookies: &Cookies,
    ) -> (AppendHeaders<Option<(HeaderName, HeaderValue)>>, Option<String>) {
        match self.transport {
            Transport::Cookie => {
                let cookie = cookies.set_devices(&device.cookie);
                (AppendHeaders(Some((header::SET_COOKIE, cookie))), None)
            }
            Transport::Token => (AppendHeaders(None), Some(device.secret.expose().to_owned())),
        }
    }

    pub(super) fn begin<'a>(
        &self,
        client: &'a Client,
        by: &'static str,
        replaces: &'a [(SessionId, Transport)],
        user_id: Option<Uuid>,
    ) -> Begin<'a> {
        Begin { client, transport: self.transport, remember: self.remember, by, replaces, user_id }
    }
}

/// The answer after the current session was ended: the cookie goes with it.
pub(super) fn ended_session(app: &App, transport: Transport) -> Response {
    let removals = match transport {
        Transport::Cookie => app.cookies.remove(),
        Transport::Token => vec![],
    };
    let removals: Vec<_> = removals.into_iter().map(|value| (header::SET_COOKIE, value)).collect();
    (StatusCode::NO_CONTENT, AppendHeaders(removals)).into_response()
}

/// The answer that hands a session to its client.
pub(super) fn logged_in(begun: Begun, cookies: &Cookies) -> Response {
    let (cookies, Tokens { token, device_token }) = hand_out(&begun, cookies);
    let body = LoggedIn { user: begun.user, session: begun.session, token, device_token };
    (cookies, Json(body)).into_response()
}

/// The secrets of a login that go into the body.
#[derive(Default)]
pub(super) struct Tokens {
    pub(super) token: Option<String>,
    pub(super) device_token: Option<String>,
}

/// The secrets of a login, in headers or for the body, as its transport has it.
pub(super) fn hand_out(
    begun: &Begun,
    cookies: &Cookies,
) -> (AppendHeaders<Vec<(HeaderName, HeaderValue)>>, Tokens) {
    match begun.session.transport {
        Transport::Cookie => {
            let device = begun.device.as_ref().map(|device| cookies.set_devices(&device.cookie));
            let values = cookies.set(&begun.id, &begun.session).into_iter().chain(device);
            let headers = values.map(|value| (header::SET_COOKIE, value)).collect();
            (AppendHeaders(headers), Tokens::default())
        }
        Transport::Token => {
            let token = Some(format!("{SESSION_TOKEN_PREFIX}{}", begun.id.expose()));
            let device = begun.device.as_ref();
            let device_token = device.map(|device| device.secret.expose().to_owned());
            (AppendHeaders(vec![]), Tokens { token, device_token })
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        let given =
            json!({"identifier": "alice", "password": "hunter2", "device_token": "hunter2"});
        let login: Login = from_value(given).unwrap();
        assert!(!format!("{login:?}").contains("hunter2"));
    }
}
