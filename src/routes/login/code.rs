//! `/login/code`: login by an emailed code, where it is switched on.

use std::convert::Infallible;

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse as _, Response};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::{LoggedIn, Wanted, know_by, logged_in};
use crate::audit::{Event, Kind};
use crate::auth::NamedSessions;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::extract::{Json, word};
use crate::one_time::{Code, Proof};
use crate::problem_examples::{problems, rate_limited};
use crate::session::records::SessionId;
use crate::session::{self, Begun};
use crate::state::App;
use crate::store::one_time_tokens::{Owner, Purpose};
use crate::store::outbox::{MailKind, NewMail};
use crate::store::sessions::Transport;
use crate::store::users;
use crate::token::{HeldSecrets, LoginRequest, LoginRequestSecret, OneTimeSecret};
use crate::{account, mail, names, schemas};

/// Where the code is to go.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"email": "alice@example.com"}))]
pub(crate) struct RequestLoginCode {
    /// The account's email address.
    #[schema(schema_with = schemas::given_email)]
    email: String,
    /// For apps: as at login. A client that the account recognises has a limit of its own.
    #[schema(value_type = Option<String>, format = Password)]
    device_token: Option<SecretString>,
}

/// A login code was requested.
#[derive(Serialize, ToSchema)]
pub(crate) struct LoginCodeRequested {
    /// For apps that keep no cookies: send it with the code.
    #[schema(example = "pcr_XIkE-uXzyYXTgeTxAln2VzuZTUU0eSSf")]
    request: String,
}

/// The secrets of the browser's requests for login codes.
pub(crate) struct HeldRequests(HeldSecrets);

impl FromRequestParts<App> for HeldRequests {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        Ok(Self(app.cookies.read_login_requests(&parts.headers)))
    }
}

/// The code, and how the session is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"email": "alice@example.com", "code": "K7M2-9QXD", "remember": true}))]
pub(crate) struct VerifyLoginCode {
    /// The address that the code went to.
    #[schema(schema_with = schemas::given_email)]
    email: String,
    /// The code, in any case, with or without the hyphen.
    #[schema(value_type = String, format = Password)]
    code: SecretString,
    /// The `request` of the answer to `POST /login/code`, for apps that keep no cookies, and for pages in several
    /// tabs. Without it, the browser's newest request counts.
    #[schema(value_type = Option<String>, format = Password)]
    request: Option<SecretString>,
    /// As at login.
    remember: Option<bool>,
    /// As at login.
    remember_for: Option<String>,
    /// As at login.
    #[schema(value_type = Option<String>, format = Password)]
    device_token: Option<SecretString>,
    /// As at login.
    #[serde(default, deserialize_with = "word")]
    #[schema(nullable = false)]
    transport: Option<Transport>,
}

problems!(RequestProblems: Error::LoginCodeDisabled, rate_limited());
problems!(VerifyProblems: Error::LoginCodeDisabled, Error::InvalidCredentials, Error::AccountDisabled, rate_limited(), Error::Busy);

/// Request a login code
///
/// Mails a code to the address if an account has it. The answer is the same if none has. The code works
/// only for the client that requested it: a browser keeps a cookie, an app sends `request` with the code.
/// A code of another request stays valid until it expires or somebody logs in with one.
#[utoipa::path(
    post, path = "/login/code", tag = "mail", request_body = RequestLoginCode,
    responses(
        (status = ACCEPTED, description = "If an account has this address, a mail is on its way", body = LoginCodeRequested, headers(("set-cookie" = String, description = "Binds the code to this browser, for 10 minutes"))),
        RequestProblems,
    ),
)]
pub(crate) async fn request_login_code(
    State(app): State<App>,
    mut client: Client,
    HeldRequests(held): HeldRequests,
    Json(request): Json<RequestLoginCode>,
) -> Result<Response> {
    know_by(&mut client, request.device_token.as_ref());
    if !app.config.login_code.is_on() {
        return Err(Error::LoginCodeDisabled);
    }
    let email = names::email("email", &request.email)?;
    let secret = LoginRequestSecret::generate();
    let hash = secret.hash();
    let mail =
        NewMail { request_hash: Some(&hash), ..NewMail::to_address(MailKind::LogIn, &email) };
    mail::ask(&app, &client, &mail).await?;
    let cookie = app.cookies.set_login_requests(&held.with(&secret));
    let body = LoginCodeRequested { request: secret.expose().to_owned() };
    let headers = AppendHeaders([(header::SET_COOKIE, cookie)]);
    Ok((StatusCode::ACCEPTED, headers, Json(body)).into_response())
}

/// Log in with the code
///
/// A code works once, for 10 minutes, and only for the client that requested it. The session is like that
/// of a login with a password. If it was not known that the person who chose the password reads the
/// account's mail, the login revokes all other access: sessions, API tokens, the password and known
/// devices. The owner is notified by email.
#[utoipa::path(
    post, path = "/login/code/verify", tag = "mail", request_body = VerifyLoginCode,
    responses(
        (status = OK, body = LoggedIn, headers(("set-cookie" = String, description = "The session cookie, with `transport: \"cookie\"`, and one by which the account knows this browser"))),
        VerifyProblems,
    ),
)]
pub(crate) async fn verify_login_code(
    State(app): State<App>,
    client: Client,
    NamedSessions(replaces): NamedSessions,
    HeldRequests(held): HeldRequests,
    Json(login): Json<VerifyLoginCode>,
) -> Result<Response> {
    let begun = log_in(&app, client, replaces, &held, login).await;
    app.metrics.count_login(&begun);
    Ok(logged_in(begun?, &app.cookies))
}

async fn log_in(
    app: &App,
    mut client: Client,
    replaces: Vec<(SessionId, Transport)>,
    held: &HeldSecrets,
    login: VerifyLoginCode,
) -> Result<Begun> {
    if !app.config.login_code.is_on() {
        return Err(Error::LoginCodeDisabled);
    }
    know_by(&mut client, login.device_token.as_ref());
    let wanted = Wanted::new(app, login.transport, login.remember, login.remember_for.as_deref())?;
    let email = names::email("email", &login.email)?;
    let code = Code::read(&login.code);
    let proof = Proof::Code { email: email.clone(), code, requests: login.requests(held) };
    let found = proof.find(app, &client, Purpose::LogIn).await?;
    let Some(token) = found else {
        return Err(refused(app, &client, &email, Error::InvalidCredentials).await?);
    };
    let Owner::User(id) = token.owner else { return Err(Error::InvalidCredentials) };
    let user = users::find(&app.pool, id).await?.ok_or(Error::InvalidCredentials)?;
    if !user.is_active {
        return Err(refused(app, &client, &email, Error::AccountDisabled).await?);
    }
    let instead = match users::is_owner_proven(&app.pool, id).await? {
        true => None,
        false => Some(unknown_password(app, &client).await?),
    };
    let begin = wanted.begin(&client, "login_code", &replaces, Some(id));
    let begun = session::begin(app, begin, async |connection| {
        let user = account::log_in_by_mail(connection, &token, instead, &client).await?;
        user.ok_or(Error::InvalidCredentials)
    });
    begun.await
}

impl VerifyLoginCode {
    /// The hashes of the requests that the client proves to have made, by the body or by its cookie:
    /// tabs of one browser share the cookie.
    fn requests(&self, held: &HeldSecrets) -> Vec<Vec<u8>> {
        let given = self.request.as_ref().map(SecretString::expose_secret);
        let given = given.and_then(LoginRequestSecret::parse).map(|secret| secret.hash());
        // The newest of a browser: one that somebody left in it, and used up, must not count.
        let newest = || held.hashes::<LoginRequest>().into_iter().next();
        given.or_else(newest).into_iter().collect()
    }
}

/// The hash of a password that nobody knows.
async fn unknown_password(app: &App, client: &Client) -> Result<String> {
    let password = SecretString::from(OneTimeSecret::generate().expose());
    app.hasher.for_client(client).hash_generated(&password).await
}

/// Writes down that a code let nobody in, whether or not an account has the address.
async fn refused(app: &App, client: &Client, email: &str, error: Error) -> Result<Error> {
    let failed = Event::new(Kind::LoginFailed, client);
    let failed = failed.details(json!({"code": error.code(), "by": "mail"}));
    let owner = users::find_id_by_email(&app.pool, email).await?;
    owner.into_iter().fold(failed, Event::to).record(&app.pool).await?;
    Ok(error)
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        let given = json!({"email": "a@b.c", "code": "hunter2", "request": "hunter2", "device_token": "hunter2"});
        let login: VerifyLoginCode = from_value(given).unwrap();
        assert!(!format!("{login:?}").contains("hunter2"));
    }
}
