//! Changes to the fields of an account.

use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Actor, email, event, lock, on_names, password};
use crate::audit::Kind;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::state::App;
use crate::store::outbox::{self, MailKind, NewMail};
use crate::store::sessions;
use crate::store::users::{self, Changes, Role, User};
use crate::throttle;

/// Changes an account, and ends the sessions that the change makes void: all of them when it is
/// disabled, demoted or given a new password. An owner needs a fresh session for another email address,
/// which waits until it is verified; an admin's word is taken for it.
///
/// # Errors
/// `NotFound`, `SessionExpired`, `ReauthenticationRequired`, `SessionRequired`, `LastAdmin`, `Forbidden` for an admin who is none any more, those of taken names, a
/// 422 when no name would be left, `RateLimited` for too many mails, and those of the database.
pub async fn update(
    connection: &mut PgConnection,
    id: Uuid,
    mut changes: Changes,
    actor: Actor<'_>,
    client: &Client,
) -> Result<User> {
    let takes_away = changes.role == Some(Role::User) || changes.is_active == Some(false);
    let before = lock(connection, id, actor, takes_away).await?;
    let demotes = changes.role == Some(Role::User) && before.user.role == Role::Admin;
    let disables = changes.is_active == Some(false);
    if (demotes || disables) && before.is_last_admin {
        return Err(Error::LastAdmin);
    }
    let before = before.user;
    if let Actor::Owner(current, app) = actor {
        if changes.email.as_ref().is_some_and(|email| *email != before.email) {
            current.require_fresh(app)?;
        }
        await_verification(connection, &mut changes, &before, app, client).await?;
    }
    if changes.is_empty() {
        return Ok(before);
    }
    let user = users::update(&mut *connection, id, &changes).await.map_err(Error::from);
    let user = on_names(user)?;
    if demotes || disables || changes.password_hash.is_some() {
        sessions::delete_all(&mut *connection, id, None).await?;
    }
    if changes.password_hash.is_some() {
        password::follow_new_password(connection, &user, None).await?;
        event(Kind::PasswordChanged, client, id, actor).record(&mut *connection).await?;
    }
    if disables {
        email::void_mails(connection, &user).await?;
    }
    if let Some(Some(pending)) = &changes.pending_email {
        outbox::insert(&mut *connection, &NewMail::to_verify(id, pending)).await?;
        email::tell_of_wish(connection, id, actor).await?;
    }
    if user.email != before.email {
        email::changed(connection, &before).await?;
        if let Some(email) = &user.email {
            outbox::insert(&mut *connection, &NewMail::to_verify(id, email)).await?;
        }
    }
    let fields = changes.fields();
    if !fields.is_empty() {
        let updated = event(Kind::UserUpdated, client, id, actor);
        let mut details = json!({"fields": fields});
        if let Some(role) = changes.role {
            details["role"] = json!(role);
        }
        if let Some(is_active) = changes.is_active {
            details["is_active"] = json!(is_active);
        }
        updated.details(details).record(connection).await?;
    }
    Ok(user)
}

/// Makes another address that an owner wants one that is pending. The one that the account has already
/// ends what was pending.
async fn await_verification(
    connection: &mut PgConnection,
    changes: &mut Changes,
    before: &User,
    app: &App,
    client: &Client,
) -> Result<()> {
    let config = &app.config;
    match changes.email.take() {
        None => {}
        Some(email) if email == before.email => {
            changes.pending_email = before.pending_email.is_some().then_some(None);
        }
        Some(None) if config.require_verified_email.is_on() => {
            return Err(Error::invalid("email", "required", "is needed to log in"));
        }
        Some(None) => changes.email = Some(None),
        Some(Some(email)) => {
            // Where it is not told, the mail goes to whoever has it, and says so.
            if !config.registration_privacy.is_on()
                && users::find_id_by_email(&mut *connection, &email).await?.is_some()
            {
                return Err(Error::EmailTaken);
            }
            throttle::count_mail(connection, app, client, MailKind::VerifyEmail, &email).await?;
            changes.pending_email = Some(Some(email));
        }
    }
    Ok(())
}
