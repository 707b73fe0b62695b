//! Addresses: proving whose they are, and what another one makes void.

use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{AccountOwner, Actor, create, lock, on_names};
use crate::audit::{Event, Kind};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::store::credentials::{self, Checked};
use crate::store::one_time_tokens::{self, Owner, Purpose, Token};
use crate::store::outbox::{self, NewMail};
use crate::store::users::{self, User};
use crate::store::{known_devices, registrations};
use crate::throttle;

/// Verifies an address by a mailed token: that of an account, its pending one, or that of a registration,
/// whose account is created now. `session` is the session that the request names, if it was
/// valid when the request began.
///
/// The token proves that the client reads the mail of the address. Only a session or a device secret of
/// the account proves that the same person chose the password: somebody may have registered with the
/// address of another.
///
/// Returns `false` if the token is invalid by now.
///
/// # Errors
/// `EmailTaken`, `UsernameTaken`, and those of the database.
pub async fn verify_email(
    connection: &mut PgConnection,
    token: &Token,
    session: Option<&Checked>,
    client: &Client,
) -> Result<bool> {
    let user_id = match token.owner {
        Owner::User(id) => id,
        Owner::Registration(id) => {
            return register(connection, token, id, client).await;
        }
    };
    users::lock(&mut *connection, &[user_id]).await?;
    let spent = one_time_tokens::spend(connection, Purpose::VerifyEmail, token).await?;
    let user = users::find(&mut *connection, user_id).await?;
    let user = user.filter(|user| spent && user.is_active);
    let Some(user) = user else { return Ok(false) };
    let own = is_own_client(connection, user_id, session, client).await?;
    let email = Some(&token.email);
    if user.pending_email.as_ref() == email {
        let taken = users::take_pending_email(&mut *connection, user_id, own).await;
        on_names(taken.map_err(Error::from))?;
        changed(connection, &user).await?;
        let updated = Event::new(Kind::UserUpdated, client).by_own(user_id);
        updated.details(json!({"fields": ["email"]})).record(&mut *connection).await?;
    } else if user.email.as_ref() == email {
        users::verify_email(&mut *connection, user_id, own).await?;
    } else {
        return Ok(false);
    }
    // Where somebody else verified it from is not for the one who chose the password to read.
    let elsewhere = Client { request_id: client.request_id.clone(), ..Client::operator() };
    let client = if own { client } else { &elsewhere };
    Event::new(Kind::EmailVerified, client).by_own(user_id).record(connection).await?;
    Ok(true)
}

/// Whether the client has a valid session or a device secret of an account, whose row is locked.
async fn is_own_client(
    connection: &mut PgConnection,
    user_id: Uuid,
    session: Option<&Checked>,
    client: &Client,
) -> Result<bool> {
    if let Some(session) = session
        && credentials::is_valid(&mut *connection, user_id, session).await?
    {
        return Ok(true);
    }
    Ok(known_devices::knows(connection, user_id, &client.device_hashes()).await?)
}

/// Creates the account of somebody who registered without learning whether the address was taken.
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
    let (mut new, hash) = (registration.new, registration.password_hash);
    let device = registration.device_hash;
    new.password_proven =
        device.as_ref().is_some_and(|device| client.device_hashes().contains(device));
    let user = create(&mut *connection, &new, &hash, Actor::Registrant, client).await?;
    if let Some(device) = device {
        known_devices::insert(connection, user.id, &device).await?;
    }
    Ok(true)
}

/// Sends the mail again that verifies the address that an account is to have, or its own.
///
/// # Errors
/// `NothingToVerify`, `RateLimited`, those of the actor's credential, and those of the database.
pub async fn ask_to_verify(
    connection: &mut PgConnection,
    owner: AccountOwner<'_>,
    client: &Client,
) -> Result<()> {
    let id = owner.current().user.id;
    let user = lock(connection, id, Actor::Owner(owner), false).await?.user;
    let owned = user.owns_email();
    let unproven = user.email.filter(|_| !owned);
    let email = user.pending_email.or(unproven).ok_or(Error::NothingToVerify)?;
    let mail = NewMail::to_verify(user.id, &email);
    throttle::count_mail(connection, owner.app(), client, mail.kind, &email).await?;
    Ok(outbox::insert(connection, &mail).await?)
}

/// What follows from another address: mails that open the account are void, and whoever has the old
/// address is told.
pub(super) async fn changed(connection: &mut PgConnection, before: &User) -> Result<()> {
    void_mails(connection, before).await?;
    if let Some(email) = before.email.as_deref().filter(|_| before.email_verified) {
        let kind = outbox::MailKind::EmailChanged;
        let new = NewMail { user_id: Some(before.id), ..NewMail::to_address(kind, email) };
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
    let Actor::Owner(owner) = actor else { return Ok(()) };
    let kind = outbox::MailKind::EmailChangeRequested;
    if throttle::may_tell(connection, &owner.app().config, kind, id.as_bytes()).await? {
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
