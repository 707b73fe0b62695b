//! Changes to the fields of an account.

use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::password::Revoked;
use super::{Actor, Locked, claim, email, event, lock, on_names, password};
use crate::audit::Kind;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::state::App;
use crate::store::outbox::{self, MailKind, NewMail};
use crate::store::users::{self, Changes, Role, User};
use crate::store::{api_tokens, known_devices, sessions};
use crate::throttle;

/// Changes an account, and revokes what the change makes void:
///
/// - a new password, or disabling: every session and API token;
/// - a demotion: every session, and the API tokens with the scope `admin`;
/// - a promotion: every session, since one that was stolen would gain an admin's rights.
///
/// An owner needs a recently authenticated session for another username or email address, and is notified of both. The
/// address waits until it is verified. An admin's word is taken for it.
///
/// # Errors
/// `NotFound`, `ReauthenticationRequired`, `SessionRequired`, `LastAdmin`, `Forbidden` for an admin who is none any
/// more, those of taken names, a 422 when no name would be left, `RateLimited` for too many mails, those of the
/// actor's credential, and those of the database.
pub async fn update(
    connection: &mut PgConnection,
    id: Uuid,
    mut changes: Changes,
    actor: Actor<'_>,
    client: &Client,
) -> Result<User> {
    let takes_away = changes.role == Some(Role::User) || changes.is_active == Some(false);
    let Locked { user: before, is_last_admin } = lock(connection, id, actor, takes_away).await?;
    changes.drop_unchanged(&before);
    if let Actor::Owner(owner) = actor {
        let app = owner.app();
        let names = changes.username.is_some() || changes.email.is_some();
        if names || changes.pending_email.is_some() {
            owner.current().require_fresh(app)?;
        }
        await_verification(connection, &mut changes, app, client).await?;
    }
    if changes.is_empty() {
        return Ok(before);
    }
    let (role, disables) = (changes.role, changes.is_active == Some(false));
    if is_last_admin && (role == Some(Role::User) || disables) {
        return Err(Error::LastAdmin);
    }
    if changes.username.is_some() {
        // Before the change, which may take the address away.
        notify_of_username(connection, id, actor).await?;
    }
    let user = users::update(&mut *connection, id, &changes).await.map_err(Error::from);
    let user = on_names(user)?;
    if changes.username.is_some() {
        claim(connection, &user, actor).await?;
    }
    let has_new_password = changes.password_hash.is_some();
    let mut revoked = Revoked::default();
    if has_new_password || disables || role.is_some() {
        revoked.sessions = sessions::delete_all(&mut *connection, id, None).await?;
    }
    if has_new_password || disables {
        revoked.api_tokens = api_tokens::delete_all(&mut *connection, id).await?;
    } else if role == Some(Role::User) {
        revoked.api_tokens = api_tokens::delete_admin(&mut *connection, id).await?;
    }
    if has_new_password {
        password::follow_new_password(connection, &user, &[], &revoked).await?;
        throttle::reset_names(&mut *connection, &user).await?;
        let changed = event(Kind::PasswordChanged, client, id, actor);
        changed.details(json!(revoked)).record(&mut *connection).await?;
    }
    if disables {
        known_devices::forget(&mut *connection, id, &[]).await?;
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
        if let Some(role) = role {
            details["role"] = json!(role);
        }
        if let Some(is_active) = changes.is_active {
            details["is_active"] = json!(is_active);
        }
        if revoked.api_tokens > 0 {
            details["api_tokens"] = json!(revoked.api_tokens);
        }
        updated.details(details).record(connection).await?;
    }
    Ok(user)
}

/// Notifies the owner that the username changes. What an owner causes is limited, what others cause is not.
async fn notify_of_username(
    connection: &mut PgConnection,
    id: Uuid,
    actor: Actor<'_>,
) -> Result<()> {
    let (kind, mut by_admin) = (MailKind::UsernameChanged, true);
    if let Actor::Owner(owner) = actor {
        let config = &owner.app().config;
        if !throttle::may_tell(connection, config, kind, id.as_bytes()).await? {
            return Ok(());
        }
        by_admin = false;
    }
    let details = json!({"by_admin": by_admin});
    Ok(outbox::insert_to_owner(connection, Some(id), kind, &details).await?)
}

/// Makes another address that an owner wants one that is pending.
async fn await_verification(
    connection: &mut PgConnection,
    changes: &mut Changes,
    app: &App,
    client: &Client,
) -> Result<()> {
    let config = &app.config;
    match changes.email.take() {
        None => {}
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
