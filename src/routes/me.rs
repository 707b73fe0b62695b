//! `/me`: the own account.

use axum::extract::State;
use axum::response::Response;
use secrecy::SecretString;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::auth::{CurrentSession, CurrentUser};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::extract::Json;
use crate::openapi::problems;
use crate::password::Verdict;
use crate::routes::login::{LoggedIn, logged_in};
use crate::session;
use crate::state::App;
use crate::store::users::{self, User};

/// The password, once more.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"password": "correct horse battery staple"}))]
pub(super) struct Reauthenticate {
    /// The own password.
    #[schema(value_type = String, format = Password)]
    password: SecretString,
}

problems!(ReauthenticateProblems: Error::WrongPassword, Error::Busy);

/// The current user
#[utoipa::path(
    get, path = "/me", tag = "session", security(("cookie" = []), ("bearer" = [])),
    responses((status = OK, body = User)),
)]
pub(super) async fn get_me(CurrentUser(user): CurrentUser) -> Json<User> {
    Json(user)
}

/// Give the password again
///
/// Makes the session fresh, and gives it a new secret in the place of the old one.
#[utoipa::path(
    post, path = "/me/reauthenticate", tag = "session", request_body = Reauthenticate,
    security(("cookie" = []), ("bearer" = [])),
    responses(
        (status = OK, body = LoggedIn, headers(("set-cookie" = String, description = "The session's new cookie, if it has one"))),
        ReauthenticateProblems,
    ),
)]
pub(super) async fn reauthenticate(
    State(app): State<App>,
    client: Client,
    CurrentSession { live, id }: CurrentSession,
    Json(request): Json<Reauthenticate>,
) -> Result<Response> {
    let credentials = users::find_credentials_of(&app.pool, live.user.id).await?;
    let credentials = credentials.ok_or(Error::SessionExpired)?;
    let verdict = app.hasher.verify(&request.password, Some(credentials.hash())).await?;
    let Verdict::Right { .. } = verdict else { return Err(Error::WrongPassword) };
    let begun = session::renew(&app, live, &id, &credentials, &client).await?;
    Ok(logged_in(begun, &app.cookies))
}
