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
use crate::one_time::{self, Code, Proof};
use crate::problem_examples::{problems, rate_limited};
use crate::schemas;
use crate::session;
use crate::state::App;
use crate::store::one_time_tokens::{self, Owner, Purpose};
use crate::store::outbox::{self, NewMail};
use crate::store::sessions::Transport;
use crate::store::users;

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
/// is void then.
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
    let email = one_time::read_email(&request.email)?;
    let mail = NewMail::to_address(outbox::Kind::LogIn, &email);
    one_time::ask(&app, &client, &mail).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Log in by the code
///
/// Once, within ten minutes. The session is like that of a login with a password, and the address is
/// verified by it.
#[utoipa::path(
    post, path = "/login/code/verify", tag = "mail", request_body = VerifyLoginCode,
    responses(
        (status = OK, body = LoggedIn, headers(("set-cookie" = String, description = "The session cookie, with `transport: \"cookie\"`, and one by which the account knows this browser"))),
        VerifyProblems,
    ),
)]
pub(crate) async fn verify_login_code(
    State(app): State<App>,
    mut client: Client,
    OwnCookie(replaces): OwnCookie,
    Json(login): Json<VerifyLoginCode>,
) -> Result<Response> {
    if !app.config.login_code.is_on() {
        return Err(Error::LoginCodeDisabled);
    }
    know_by(&mut client, login.device_token.as_ref());
    let wanted = Wanted::new(&app, login.transport, login.remember, login.remember_for.as_deref())?;
    let email = one_time::read_email(&login.email)?;
    let proof = Proof::Code { email: email.clone(), code: Code::read(&login.code) };
    let found = proof.find(&app, &client, Purpose::LogIn).await?;
    let Some((token, id)) = found.and_then(|token| match token.owner {
        Owner::User(id) => Some((token, id)),
        Owner::Registration(_) => None,
    }) else {
        return Err(refused(&app, &client, &email).await?);
    };
    if users::find(&app.pool, id).await?.is_some_and(|user| !user.is_active) {
        return Err(Error::AccountDisabled);
    }
    let begin = wanted.begin(&client, replaces.as_ref(), Some(id));
    let begun = session::begin(&app, begin, async |connection| {
        let user = users::record_login_by_mail(connection, id, &token.email).await?;
        let user = user.ok_or(Error::InvalidCredentials)?;
        match one_time_tokens::spend(connection, Purpose::LogIn, &token).await? {
            true => Ok(user),
            false => Err(Error::InvalidCredentials),
        }
    });
    Ok(logged_in(begun.await?, &app.cookies))
}

/// Writes down that a code was not right, whether or not an account has the address.
async fn refused(app: &App, client: &Client, email: &str) -> Result<Error> {
    let error = Error::InvalidCredentials;
    let failed = Event::new(Kind::LoginFailed, client);
    let failed = failed.details(json!({"code": error.parts().1, "by": "mail"}));
    let owner = users::find_by_email(&app.pool, email).await?;
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
