//! `POST /me/email/verify`.

use axum::extract::State;
use axum::http::StatusCode;

use crate::account::{self, AccountOwner};
use crate::auth::CurrentUser;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::problem_examples::{problems, rate_limited};
use crate::state::App;
use crate::store;

problems!(VerifyProblems: Error::NothingToVerify, rate_limited());

/// Send the mail that verifies your address again
///
/// To the address that is pending, or else to the account's own, if that is not verified yet or was verified without a
/// session or device secret of the account. Changes of one account are limited, also those that fail: 429 with the
/// policy `writes`. Emails to one address and from one network are limited too.
#[utoipa::path(
    post, path = "/me/email/verify", tag = "me",
    security(("cookie" = []), ("bearer" = []), ("api_key" = [])),
    responses((status = ACCEPTED, description = "A mail is on its way"), VerifyProblems),
)]
pub(crate) async fn request_verification(
    State(app): State<App>,
    client: Client,
    current: CurrentUser,
) -> Result<StatusCode> {
    let owner = AccountOwner::changing(&current, &app).await?;
    let mut transaction = store::begin(&app.pool).await?;
    account::ask_to_verify(&mut transaction, owner, &client).await?;
    transaction.commit().await?;
    Ok(StatusCode::ACCEPTED)
}
