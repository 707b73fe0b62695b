//! `/login/code`: logging in by a code that is mailed, where that is switched on.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{LoggedIn, Wanted, know_by, logged_in};
use crate::audit::{Event, Kind};
use crate::auth::OwnCookie;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::extract::{Json, word};
use crate::one_time::{Code, Proof};
use crate::password::NewPassword;
use crate::problem_examples::{problems, rate_limited};
use crate::session::records::SessionId;
use crate::session::{self, Begun};
use crate::state::App;
use crate::store::one_time_tokens::{Owner, Purpose};
use crate::store::outbox::{MailKind, NewMail};
use crate::store::sessions::Transport;
use crate::store::users;
use crate::token::OneTimeSecret;
use crate::{account, mail, names, schemas, throttle};

/// Where the code is to go.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"email": "alice@example.com"}))]
pub(crate) struct RequestLoginCode {
    /// The account's email address.
    #[schema(schema_with = schemas::given_email)]
    email: String,
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

/// Ask for a code to log in
///
/// Mails a code to the address, if an account has it; the answer is the same if none has. An earlier code
/// is void from then on.
#[utoipa::path(
    post, path = "/login/code", tag = "mail", request_body = RequestLoginCode,
    responses((status = ACCEPTED, description = "If an account has this address, a mail is on its way"), RequestProblems),
)]
pub(crate) async fn request_login_code(
    State(app): State<App>,
    client: Client,
    Json(request): Json<RequestLoginCode>,
) -> Result<StatusCode> {
    if !app.config.login_code.is_on() {
        return Err(Error::LoginCodeDisabled);
    }
    let email = names::email("email", &request.email)?;
    let mail = NewMail::to_address(MailKind::LogIn, &email);
    mail::ask(&app, &client, &mail).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Log in by the code
///
/// Once, within ten minutes. The session is like that of a login with a password, and the address is
/// verified by it. If it was not before, whoever made the account need not be the one who reads its mail:
/// its sessions, API tokens and password end.
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
    OwnCookie(replaces): OwnCookie,
    Json(login): Json<VerifyLoginCode>,
) -> Result<Response> {
    let begun = log_in(&app, client, replaces, login).await;
    app.metrics.count_login(&begun);
    Ok(logged_in(begun?, &app.cookies))
}

async fn log_in(
    app: &App,
    mut client: Client,
    replaces: Option<SessionId>,
    login: VerifyLoginCode,
) -> Result<Begun> {
    if !app.config.login_code.is_on() {
        return Err(Error::LoginCodeDisabled);
    }
    know_by(&mut client, login.device_token.as_ref());
    let wanted = Wanted::new(app, login.transport, login.remember, login.remember_for.as_deref())?;
    let email = names::email("email", &login.email)?;
    let proof = Proof::Code { email: email.clone(), code: Code::read(&login.code) };
    let found = proof.find(app, &client, Purpose::LogIn).await?;
    let Some(token) = found else {
        return Err(refused(app, &client, &email, Error::InvalidCredentials).await?);
    };
    let Owner::User(id) = token.owner else { return Err(Error::InvalidCredentials) };
    let user = users::find(&app.pool, id).await?.ok_or(Error::InvalidCredentials)?;
    if !user.is_active {
        return Err(refused(app, &client, &email, Error::AccountDisabled).await?);
    }
    let instead = match user.email_verified {
        true => None,
        false => Some(unknown_password(app, &client).await?),
    };
    let begin = wanted.begin(&client, replaces.as_ref(), Some(id));
    let begun = session::begin(app, begin, async |connection| {
        let user = account::log_in_by_mail(connection, &token, instead, &client).await?;
        user.ok_or(Error::InvalidCredentials)
    });
    begun.await
}

/// The hash of a password that nobody knows.
async fn unknown_password(app: &App, client: &Client) -> Result<String> {
    let password = SecretString::from(OneTimeSecret::generate().expose());
    let new = NewPassword { field: "code", password: &password, names: vec![] };
    throttle::hasher(app, client).hash_new(new).await
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
        let given = json!({"email": "a@b.c", "code": "hunter2", "device_token": "hunter2"});
        let login: VerifyLoginCode = from_value(given).unwrap();
        assert!(!format!("{login:?}").contains("hunter2"));
    }
}
