//! The caller's own password: `PUT /me/password` and `POST /me/reauthenticate`.

use axum::extract::State;
use axum::response::Response;
use secrecy::SecretString;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::account;
use crate::audit::{Event, Kind};
use crate::auth::CurrentSession;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::extract::Json;
use crate::password::{Hasher, NewPassword, Verdict};
use crate::problem_examples::{problems, rate_limited};
use crate::routes::login::{LoggedIn, logged_in};
use crate::session::{self, Begun};
use crate::state::App;
use crate::store::users::{self, Credentials};
use crate::throttle::{self, Attempt};

/// The password, once more.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"password": "correct horse battery staple"}))]
pub(crate) struct Reauthenticate {
    /// Your password.
    #[schema(value_type = String, format = Password)]
    password: SecretString,
}

/// The password, and the one to come.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"current_password": "correct horse battery staple", "new_password": "a quite different password"}))]
pub(crate) struct ChangePassword {
    /// Your password.
    #[schema(value_type = String, format = Password)]
    current_password: SecretString,
    /// As at registration.
    #[schema(value_type = String, format = Password, min_length = 8, max_length = 128)]
    new_password: SecretString,
}

/// The field of the password to come.
const NEW_PASSWORD: &str = "new_password";

problems!(PasswordProblems: Error::SessionRequired, Error::WrongPassword, rate_limited(), Error::Busy);

/// Give the password again
///
/// Makes the session fresh, and gives it a new secret in the place of the old one.
#[utoipa::path(
    post, path = "/me/reauthenticate", tag = "me", request_body = Reauthenticate,
    security(("cookie" = []), ("bearer" = [])),
    responses(
        (status = OK, body = LoggedIn, headers(("set-cookie" = String, description = "The session's new cookie, if it has one"))),
        PasswordProblems,
    ),
)]
pub(crate) async fn reauthenticate(
    State(app): State<App>,
    client: Client,
    current: CurrentSession,
    Json(request): Json<Reauthenticate>,
) -> Result<Response> {
    let begun = renew(&app, &current, &client, &request.password, None).await?;
    Ok(logged_in(begun, &app.cookies))
}

/// Change your password
///
/// Ends every other session of the account, and gives this one a new secret. API tokens stay.
#[utoipa::path(
    put, path = "/me/password", tag = "me", request_body = ChangePassword,
    security(("cookie" = []), ("bearer" = [])),
    responses(
        (status = OK, body = LoggedIn, headers(("set-cookie" = String, description = "The session's new cookie, if it has one"))),
        PasswordProblems,
    ),
)]
pub(crate) async fn change_password(
    State(app): State<App>,
    client: Client,
    current: CurrentSession,
    Json(request): Json<ChangePassword>,
) -> Result<Response> {
    if let Some(fault) = app.hasher.fault(NEW_PASSWORD, &request.new_password) {
        return Err(Error::ValidationFailed(vec![fault]));
    }
    let (password, new) = (&request.current_password, Some(&request.new_password));
    let begun = renew(&app, &current, &client, password, new).await?;
    Ok(logged_in(begun, &app.cookies))
}

/// Renews the session of somebody who gave the right password, and changes it to `new` if there is one.
async fn renew(
    app: &App,
    current: &CurrentSession,
    client: &Client,
    password: &SecretString,
    new: Option<&SecretString>,
) -> Result<Begun> {
    let own = current.live.session.id;
    let hasher = throttle::hasher(app, client);
    let mut tries = 0;
    loop {
        let verified = verify(app, &hasher, current, password, client).await?;
        let hash = match new {
            Some(password) => {
                let (field, names) = (NEW_PASSWORD, current.live.user.names());
                Some(hasher.hash_new(NewPassword { field, password, names }).await?)
            }
            None => None,
        };
        let begun = session::renew(app, current, client, async |connection| match hash {
            Some(hash) => account::change_password(connection, &verified, hash, own, client).await,
            None => {
                users::lock_verified(connection, &verified).await?.ok_or(Error::InvalidCredentials)
            }
        });
        match begun.await {
            // The hash changed since it was verified: a login may have replaced an old one.
            Err(Error::InvalidCredentials) if tries == 0 => tries += 1,
            Err(Error::InvalidCredentials) => return Err(Error::SessionExpired),
            begun => return begun,
        }
    }
}

/// Checks the password of somebody who is logged in, and writes down if it is wrong.
async fn verify(
    app: &App,
    hasher: &Hasher,
    current: &CurrentSession,
    password: &SecretString,
    client: &Client,
) -> Result<Credentials> {
    hasher.admit().await?;
    let id = current.live.user.id;
    let credentials = users::find_credentials_of(&app.pool, id).await?;
    let credentials = credentials.ok_or(Error::SessionExpired)?;
    let attempt = Attempt::to_confirm(app, current.live.session.id).await?;
    match attempt.verify(hasher, password, Some(&credentials)).await? {
        Verdict::Right { .. } => Ok(credentials),
        Verdict::Wrong => {
            let failed = Event::new(Kind::LoginFailed, client).by_own(id);
            failed.session(current.live.session.id).record(&app.pool).await?;
            Err(Error::WrongPassword)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        let given = json!({"current_password": "hunter2", "new_password": "hunter2"});
        let change: ChangePassword = from_value(given).unwrap();
        let again: Reauthenticate = from_value(json!({"password": "hunter2"})).unwrap();
        assert!(!format!("{change:?} {again:?}").contains("hunter2"));
    }
}
