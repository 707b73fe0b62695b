//! `POST /email/verify`: proving that an address is one's own.

use axum::extract::State;
use axum::http::StatusCode;
use secrecy::SecretString;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::auth::{CurrentSession, MaybeSession};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::extract::Json;
use crate::one_time::Proof;
use crate::problem_examples::{problems, rate_limited};
use crate::routes::login::know_by;
use crate::state::App;
use crate::store::one_time_tokens::Purpose;
use crate::{account, schemas, store};

/// What the mail held: either `token`, or `email` and `code`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"email": "alice@example.com", "code": "K7M2-9QXD"}))]
pub(super) struct VerifyEmail {
    /// The token of the link.
    #[schema(value_type = Option<String>, format = Password)]
    token: Option<SecretString>,
    /// The address that the mail went to.
    #[schema(schema_with = schemas::email)]
    email: Option<String>,
    /// The code, in any case, with or without the hyphen.
    #[schema(value_type = Option<String>, format = Password)]
    code: Option<SecretString>,
    /// For apps: the `device_token` of the registration, or of a login to the account.
    #[schema(value_type = Option<String>, format = Password)]
    device_token: Option<SecretString>,
}

problems!(VerifyProblems: Error::EmailTaken, Error::UsernameTaken, rate_limited(), Error::Busy);

/// Verify an email address
///
/// With the token of the link, or the address and the code, once, within a day. A pending address replaces
/// the old one. Where registration hides which addresses are taken, this creates the account.
///
/// With a session or a device secret of the account, it also proves that the person who chose the password
/// reads the account's mail. Without, the first login by an emailed code revokes all other access. Invalid
/// credentials are ignored.
#[utoipa::path(
    post, path = "/email/verify", tag = "mail", request_body = VerifyEmail,
    security((), ("cookie" = []), ("bearer" = [])),
    responses((status = NO_CONTENT, description = "The address is verified"), VerifyProblems),
)]
pub(super) async fn verify_email(
    State(app): State<App>,
    mut client: Client,
    MaybeSession(session): MaybeSession,
    Json(request): Json<VerifyEmail>,
) -> Result<StatusCode> {
    know_by(&mut client, request.device_token.as_ref());
    let (token, email, code) = (&request.token, &request.email, &request.code);
    let proof = Proof::read(token.as_ref(), email.as_deref(), code.as_ref())?;
    let found = proof.find(&app, &client, Purpose::VerifyEmail).await?;
    let token = found.ok_or_else(|| proof.refused())?;
    let session = session.as_ref().map(CurrentSession::checked);
    let mut transaction = store::begin(&app.pool).await?;
    if !account::verify_email(&mut transaction, &token, session.as_ref(), &client).await? {
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
        let request: VerifyEmail =
            from_value(json!({"token": "hunter2", "code": "hunter2", "device_token": "hunter2"}))
                .unwrap();
        assert!(!format!("{request:?}").contains("hunter2"));
    }
}
