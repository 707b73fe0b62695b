//! Whether a name and a password open an account.

use secrecy::SecretString;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::audit::{Event, Kind};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::mail;
use crate::names::Identifier;
use crate::password::Verdict;
use crate::state::App;
use crate::store;
use crate::store::outbox::{self, NewMail};
use crate::store::users::{self, Credentials};
use crate::throttle::{self, Attempt, PasswordUse};

/// Checks a name and a password, within the limits on guessing, and writes down if they are not right.
///
/// Returns the account that they open, and the hash to store if the stored one is out of date.
///
/// # Errors
/// `WrongLogin`; `AccountDisabled` and `EmailUnverified` only if both are right; `RateLimited`; `Busy`; and those of
/// the database.
pub async fn verify(
    app: &App,
    client: &Client,
    identifier: &Identifier,
    password: &SecretString,
    used: PasswordUse,
) -> Result<(Credentials, Option<String>)> {
    let hasher = app.hasher.for_client(client);
    let place = hasher.admit().await?;
    // Before the account is looked for: a refusal must take no longer when there is one.
    let attempt = Attempt::to_log_in(app, client, identifier).await?;
    let (is_last, left) = (attempt.is_last, attempt.left);
    let credentials = users::find_credentials(&app.pool, identifier).await?;
    let verdict = attempt.verify((&hasher, place), password, credentials.as_ref(), used).await?;
    let user_id = credentials.as_ref().map(|credentials| credentials.user_id);
    let error = match (verdict, credentials) {
        (Verdict::Right { rehashed }, Some(credentials)) if credentials.is_active => {
            let unverified = credentials.unverified_email.as_deref();
            match unverified.filter(|_| app.config.require_verified_email.is_on()) {
                None => return Ok((credentials, rehashed)),
                Some(email) => {
                    mail_again(app, client, credentials.user_id, email).await?;
                    Error::EmailUnverified
                }
            }
        }
        (Verdict::Right { .. }, Some(_)) => Error::AccountDisabled,
        _ => Error::WrongLogin(left),
    };
    let failed = Event::new(Kind::LoginFailed, client).details(json!({"code": error.code()}));
    let failed = user_id.into_iter().fold(failed, Event::to);
    let exhausts = is_last && matches!(error, Error::WrongLogin(_));
    let notice = exhausts.then(|| (identifier.as_str().as_bytes(), json!({})));
    record_failure(app, &failed, user_id, notice).await?;
    Err(error)
}

/// Mails to the address that must be verified first, within the limit on such mails.
async fn mail_again(app: &App, client: &Client, user_id: Uuid, email: &str) -> Result<()> {
    match mail::ask(app, client, &NewMail::to_verify(user_id, email)).await {
        Err(Error::RateLimited(_)) => Ok(()),
        asked => asked,
    }
}

/// Records a wrong password. One that exhausts a limit has a `notice`: whom it concerns, for the limit of
/// one a day, and the details of the email to the owner. A name without account takes the same steps, so
/// that its time tells nothing.
///
/// # Errors
/// Those of the database.
pub async fn record_failure(
    app: &App,
    failed: &Event<'_>,
    user_id: Option<Uuid>,
    notice: Option<(&[u8], Value)>,
) -> Result<()> {
    let Some((whom, details)) = notice else { return Ok(failed.record(&app.pool).await?) };
    let mut transaction = store::begin(&app.pool).await?;
    failed.record(&mut *transaction).await?;
    let kind = outbox::MailKind::AccountLocked;
    if throttle::may_tell(&mut transaction, &app.config, kind, whom).await? {
        outbox::insert_to_owner(&mut *transaction, user_id, kind, &details).await?;
    }
    Ok(transaction.commit().await?)
}
