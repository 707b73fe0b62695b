//! Addresses: proving whose they are, and what another one makes void.

use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Actor, create, lock, on_names};
use crate::audit::{Event, Kind};
use crate::auth::CurrentUser;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::state::App;
use crate::store::one_time_tokens::{self, Owner, Purpose, Token};
use crate::store::outbox::{self, NewMail};
use crate::store::registrations;
use crate::store::users::{self, User};
use crate::throttle;

/// Takes an address for somebody's own who had a mail to it: that of an account, the one that an account
/// is to have, or that of an account that is made only now.
///
/// `false` when the token does not stand any more.
///
/// # Errors
/// `EmailTaken`, `UsernameTaken`, and those of the database.
pub async fn verify_email(
    connection: &mut PgConnection,
    token: &Token,
    client: &Client,
) -> Result<bool> {
    let user_id = match token.owner {
        Owner::User(id) => id,
        Owner::Registration(id) => return register(connection, token, id, client).await,
    };
    users::lock(&mut *connection, &[user_id]).await?;
    let spent = one_time_tokens::spend(connection, Purpose::VerifyEmail, token).await?;
    let user = users::find(&mut *connection, user_id).await?;
    let user = user.filter(|user| spent && user.is_active);
    let Some(user) = user else { return Ok(false) };
    let email = Some(&token.email);
    if user.pending_email.as_ref() == email {
        on_names(users::take_pending_email(&mut *connection, user_id).await.map_err(Error::from))?;
        changed(connection, &user).await?;
        let updated = Event::new(Kind::UserUpdated, client).by_own(user_id);
        updated.details(json!({"fields": ["email"]})).record(&mut *connection).await?;
    } else if user.email.as_ref() == email {
        users::verify_email(&mut *connection, user_id).await?;
    } else {
        return Ok(false);
    }
    Event::new(Kind::EmailVerified, client).by_own(user_id).record(connection).await?;
    Ok(true)
}

/// Makes the account that somebody registered without being told whether the address was taken.
async fn register(
    connection: &mut PgConnection,
    token: &Token,
    id: Uuid,
    client: &Client,
) -> Result<bool> {
    let Some(registration) = registrations::lock(&mut *connection, id).await? else {
        return Ok(false);
    };
    if !one_time_tokens::spend(connection, Purpose::VerifyEmail, token).await? {
        return Ok(false);
    }
    registrations::delete(&mut *connection, id).await?;
    let (new, hash) = (registration.new, registration.password_hash);
    create(connection, &new, &hash, Actor::Registrant, client).await?;
    Ok(true)
}

/// Sends the mail again that verifies the address that an account is to have, or its own.
///
/// # Errors
/// `NothingToVerify`, `RateLimited`, those of the actor's credential, and those of the database.
pub async fn ask_to_verify(
    connection: &mut PgConnection,
    current: &CurrentUser,
    app: &App,
    client: &Client,
) -> Result<()> {
    let user = lock(connection, current.user.id, Actor::Owner(current, app), false).await?.user;
    let unverified = user.email.filter(|_| !user.email_verified);
    let email = user.pending_email.or(unverified).ok_or(Error::NothingToVerify)?;
    let mail = NewMail::to_verify(user.id, &email);
    throttle::count_mail(connection, app, client, mail.kind, &email).await?;
    Ok(outbox::insert(connection, &mail).await?)
}

/// What follows from another address: mails that open the account are void, and whoever has the old
/// address is told.
pub(super) async fn changed(connection: &mut PgConnection, before: &User) -> Result<()> {
    void_mails(connection, before).await?;
    if let Some(email) = before.email.as_deref().filter(|_| before.email_verified) {
        let kind = outbox::MailKind::EmailChanged;
        let new = NewMail { kind, email, user_id: Some(before.id), registration_id: None };
        outbox::insert(connection, &new).await?;
    }
    Ok(())
}

/// Tells whoever has the account's address that another one was asked for: it may not have been them, and
/// once that is verified it is late.
pub(super) async fn tell_of_wish(
    connection: &mut PgConnection,
    id: Uuid,
    actor: Actor<'_>,
) -> Result<()> {
    let Actor::Owner(_, app) = actor else { return Ok(()) };
    let kind = outbox::MailKind::EmailChangeRequested;
    if throttle::may_tell(connection, &app.config, kind, id.as_bytes()).await? {
        outbox::insert_to_owner(connection, Some(id), kind, &json!({})).await?;
    }
    Ok(())
}

/// Ends every mail, sent or not, that opens an account whose row is locked.
pub(super) async fn void_mails(connection: &mut PgConnection, user: &User) -> Result<()> {
    one_time_tokens::void(&mut *connection, user.id).await?;
    if let Some(email) = &user.email {
        outbox::void(connection, email).await?;
    }
    Ok(())
}
