//! The caller's own password: `PUT /me/password` and `POST /me/reauthenticate`.

use axum::extract::State;
use axum::response::Response;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::account::{self, ChosenPassword};
use crate::audit::{Event, Kind};
use crate::auth::{self, CurrentSession, LimitedSession};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::extract::Json;
use crate::password::{self, Hasher, NewPassword, Verdict};
use crate::problem_examples::{problems, rate_limited};
use crate::routes::login::{LoggedIn, know_by, logged_in};
use crate::session::{self, Begun, OldSecret};
use crate::state::App;
use crate::store::credentials;
use crate::store::users::{self, Credentials};
use crate::throttle::{Attempt, PasswordUse};

/// The password, once more.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"password": "correct horse battery staple"}))]
pub(crate) struct Reauthenticate {
    /// Your password.
    #[schema(value_type = String, format = Password)]
    password: SecretString,
    /// As at login: an app sends the `device_token` it has. Without it, the session counts as a new
    /// device, and its owner is notified by email.
    #[schema(value_type = Option<String>, format = Password)]
    device_token: Option<SecretString>,
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
    /// Whether the account's API tokens stay valid. By default they are revoked, since they may be an intruder's.
    #[serde(default)]
    keep_api_tokens: bool,
    /// As for `POST /me/reauthenticate`. The account forgets every other device.
    #[schema(value_type = Option<String>, format = Password)]
    device_token: Option<SecretString>,
}

/// The field of the password to come.
const NEW_PASSWORD: &str = "new_password";

problems!(PasswordProblems: Error::SessionRequired, Error::WrongPassword, Error::SessionRenewed, rate_limited(), Error::Busy);

/// Re-authenticate
///
/// Checks the password. The session then counts as recently authenticated, and gets a new secret that replaces the
/// old one. For 10 seconds the old secret still finds the session, but never as recently authenticated, so that other
/// tabs' requests in flight succeed. A second renewal with the old secret is 409 `session_renewed`: repeat the request,
/// which then carries the new cookie. Send the new token if the session has one.
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
    mut client: Client,
    current: CurrentSession,
    Json(request): Json<Reauthenticate>,
) -> Result<Response> {
    know_by(&mut client, request.device_token.as_ref());
    let begun = renew(&app, &current, &client, &request.password, None).await?;
    Ok(logged_in(begun, &app.cookies))
}

/// Change your password
///
/// Revokes every other session and, unless `keep_api_tokens` is true, every API token of the account. This session
/// gets a new secret, and the old one is invalid at once. The owner is notified by email of what was revoked.
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
    mut client: Client,
    LimitedSession(current): LimitedSession,
    Json(request): Json<ChangePassword>,
) -> Result<Response> {
    if let Some(fault) = app.hasher.fault(NEW_PASSWORD, &request.new_password) {
        return Err(Error::ValidationFailed(vec![fault]));
    }
    know_by(&mut client, request.device_token.as_ref());
    let (password, keep_api_tokens) = (&request.new_password, request.keep_api_tokens);
    let new = Some(Wish { password, keep_api_tokens });
    let begun = renew(&app, &current, &client, &request.current_password, new).await?;
    Ok(logged_in(begun, &app.cookies))
}

/// A new password, and what becomes of the account's API tokens.
struct Wish<'a> {
    password: &'a SecretString,
    keep_api_tokens: bool,
}

/// Renews the session of somebody who gave the right password, and changes it to `new` if there is one.
async fn renew(
    app: &App,
    current: &CurrentSession,
    client: &Client,
    password: &SecretString,
    new: Option<Wish<'_>>,
) -> Result<Begun> {
    if current.live.is_renewed {
        return Err(Error::SessionRenewed);
    }
    let own = current.live.session.id;
    let hasher = app.hasher.for_client(client);
    let verified = verify(app, &hasher, current, password, client).await?;
    let chosen = match new {
        Some(new) => {
            let names = current.live.user.names();
            let new_password = NewPassword { field: NEW_PASSWORD, password: new.password, names };
            let hash = hasher.hash_new(new_password).await?;
            let is_unchanged = password::is_same(new.password, password);
            Some(ChosenPassword { hash, is_unchanged, keep_api_tokens: new.keep_api_tokens })
        }
        None => None,
    };
    let old_secret = if chosen.is_some() { OldSecret::Revoked } else { OldSecret::Expires };
    let begun = session::renew(app, current, client, old_secret, async |connection| match chosen {
        Some(chosen) => {
            account::change_password(connection, &verified, chosen, own, &app.config, client).await
        }
        None => {
            let user = users::lock_verified(connection, &verified).await?;
            let user = user.ok_or(Error::InvalidCredentials)?;
            if user.must_change_password { Err(Error::PasswordChangeRequired) } else { Ok(user) }
        }
    });
    match begun.await {
        // Another password was set meanwhile, which ended this session.
        Err(Error::InvalidCredentials) => Err(Error::SessionExpired),
        begun => begun,
    }
}

/// Checks the password of a logged-in user. Records a wrong one as a failed login.
async fn verify(
    app: &App,
    hasher: &Hasher,
    current: &CurrentSession,
    password: &SecretString,
    client: &Client,
) -> Result<Credentials> {
    let place = hasher.admit().await?;
    let (user, session) = (&current.live.user, &current.live.session);
    let credentials = users::find_credentials_of(&app.pool, user.id).await?;
    let credentials = credentials.ok_or(Error::SessionExpired)?;
    let attempt = Attempt::to_confirm(app, current).await?;
    let (is_last, used) = (attempt.is_last, PasswordUse::Confirm(session.id));
    let verdict = attempt.verify((hasher, place), password, Some(&credentials), used).await?;
    if matches!(verdict, Verdict::Right { .. }) {
        return Ok(credentials);
    }
    // Otherwise a session that was revoked meanwhile would tell a wrong password from the new one.
    if !credentials::is_valid(&app.pool, user.id, &current.checked()).await? {
        return Err(Error::SessionExpired);
    }
    let error = Error::WrongPassword;
    let failed = Event::new(Kind::LoginFailed, client).by_own(user.id).session(session.id);
    let failed = failed.details(json!({"code": error.code()}));
    // By the account and not by its name: strangers who exhaust the name would silence this notice.
    let notice = is_last.then(|| (&user.id.as_bytes()[..], json!({"logged_in": true})));
    auth::record_failure(app, &failed, Some(user.id), notice).await?;
    Err(error)
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        let given = json!({"current_password": "hunter2", "new_password": "hunter2", "device_token": "hunter2"});
        let change: ChangePassword = from_value(given).unwrap();
        let again: Reauthenticate =
            from_value(json!({"password": "hunter2", "device_token": "hunter2"})).unwrap();
        assert!(!format!("{change:?} {again:?}").contains("hunter2"));
    }
}
