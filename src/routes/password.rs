//! `POST /password/forgot` and `POST /password/reset`: for whoever has forgotten theirs.

use axum::extract::State;
use axum::http::StatusCode;
use secrecy::SecretString;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::client::Client;
use crate::error::{Error, Result};
use crate::extract::Json;
use crate::one_time::Proof;
use crate::password::{NewPassword, Verdict};
use crate::problem_examples::{problems, rate_limited};
use crate::routes::login::know_by;
use crate::state::App;
use crate::store::one_time_tokens::{Owner, Purpose};
use crate::store::outbox::{MailKind, NewMail};
use crate::store::users::{self, Credentials};
use crate::{account, mail, names, schemas, store};

/// Where the mail is to go.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"email": "alice@example.com"}))]
pub(super) struct ForgotPassword {
    /// The account's email address.
    #[schema(schema_with = schemas::given_email)]
    email: String,
    /// For apps: as at login. A client that the account recognises has a limit of its own.
    #[schema(value_type = Option<String>, format = Password)]
    device_token: Option<SecretString>,
}

/// What the mail held, and the new password: either `token`, or `email` and `code`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"email": "alice@example.com", "code": "K7M2-9QXD", "password": "correct horse battery staple"}))]
pub(super) struct ResetPassword {
    /// The token of the link.
    #[schema(value_type = Option<String>, format = Password)]
    token: Option<SecretString>,
    /// The address that the mail went to.
    #[schema(schema_with = schemas::email)]
    email: Option<String>,
    /// The code, in any case, with or without the hyphen.
    #[schema(value_type = Option<String>, format = Password)]
    code: Option<SecretString>,
    /// As at registration.
    #[schema(value_type = String, format = Password, min_length = 8, max_length = 128)]
    password: SecretString,
    /// For apps: as at login. A client that the account recognises has a limit of its own.
    #[schema(value_type = Option<String>, format = Password)]
    device_token: Option<SecretString>,
}

problems!(ForgotProblems: rate_limited());
problems!(ResetProblems: rate_limited(), Error::Busy);

/// Ask for a new password
///
/// Mails a link and a code to the address, if an account has it; the answer is the same if none has. What
/// an earlier mail held is void from then on.
#[utoipa::path(
    post, path = "/password/forgot", tag = "mail", request_body = ForgotPassword,
    responses((status = ACCEPTED, description = "If an account has this address, a mail is on its way"), ForgotProblems),
)]
pub(super) async fn forgot_password(
    State(app): State<App>,
    mut client: Client,
    Json(request): Json<ForgotPassword>,
) -> Result<StatusCode> {
    know_by(&mut client, request.device_token.as_ref());
    let email = names::email("email", &request.email)?;
    let mail = NewMail::to_address(MailKind::ResetPassword, &email);
    mail::ask(&app, &client, &mail).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Choose a new password
///
/// With the token of the link, or the address and the code, once, within 30 minutes. Ends every session and
/// API token of the account, and logs nobody in. A password that is not taken uses nothing up.
#[utoipa::path(
    post, path = "/password/reset", tag = "mail", request_body = ResetPassword,
    responses((status = NO_CONTENT, description = "The account has the new password"), ResetProblems),
)]
pub(super) async fn reset_password(
    State(app): State<App>,
    mut client: Client,
    Json(request): Json<ResetPassword>,
) -> Result<StatusCode> {
    know_by(&mut client, request.device_token.as_ref());
    let (token, email, code) = (&request.token, &request.email, &request.code);
    let proof = Proof::read(token.as_ref(), email.as_deref(), code.as_ref())?;
    let (field, password) = ("password", &request.password);
    if let Some(fault) = app.hasher.fault(field, password) {
        return Err(Error::ValidationFailed(vec![fault]));
    }
    let found = proof.find(&app, &client, Purpose::ResetPassword).await?;
    let token = found.ok_or_else(|| proof.refused())?;
    let Owner::User(id) = token.owner else { return Err(proof.refused()) };
    let user = users::find(&app.pool, id).await?.ok_or_else(|| proof.refused())?;
    let hasher = app.hasher.for_client(&client);
    let current = users::find_credentials_of(&app.pool, id).await?;
    let current = current.as_ref().map(Credentials::hash);
    let verdict = hasher.verify(hasher.admit().await?, password, current).await?;
    let is_unchanged = matches!(verdict, Verdict::Right { .. });
    if user.must_change_password && is_unchanged {
        return Err(account::unchanged(field));
    }
    let hash = hasher.hash_new(NewPassword { field, password, names: user.names() }).await?;
    let new = account::ResetPassword { hash, is_unchanged };
    let mut transaction = store::begin(&app.pool).await?;
    if !account::reset_password(&mut transaction, &token, new, &client).await? {
        return Err(proof.refused());
    }
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        let given = json!({"token": "hunter2", "code": "hunter2", "password": "hunter2"});
        let request: ResetPassword = from_value(given).unwrap();
        assert!(!format!("{request:?}").contains("hunter2"));
    }
}
