//! Writes a mail: whom it is for, and what opens something. Secrets are made here, so that the outbox
//! holds none.

use sqlx::PgConnection;

use super::letter::{Key, Letter};
use crate::error::Result;
use crate::one_time::Code;
use crate::state::App;
use crate::store;
use crate::store::one_time_tokens::{self, NewToken, Owner, Purpose};
use crate::store::outbox::{self, Mail, MailKind};
use crate::store::users::{self, User};
use crate::token::OneTimeSecret;

/// What a mail says; `None` when there is nothing to say any more, or nobody to say it to.
pub(super) async fn letter(app: &App, service: &str, mail: &Mail) -> Result<Option<Letter>> {
    let at = mail.created_at;
    Ok(match mail.kind {
        MailKind::PasswordChanged => Some(Letter::password_changed(service, at, &mail.details)),
        MailKind::NewDevice => Some(Letter::new_device(service, at, &mail.details)),
        MailKind::EmailChangeRequested => Some(Letter::email_change_requested(service, at)),
        MailKind::EmailChanged => Some(Letter::email_changed(service, at)),
        MailKind::AccountLocked => Some(Letter::account_locked(service, at, &mail.details)),
        MailKind::AccessReset => Some(Letter::access_reset(service, at)),
        MailKind::UsernameChanged => Some(Letter::username_changed(service, at, &mail.details)),
        MailKind::TokenCreated => Some(Letter::token_created(service, at, &mail.details)),
        MailKind::ResetPassword => {
            let made = secrets(app, mail, Purpose::ResetPassword).await?;
            made.map(|made| Letter::reset_password(service, made.key(app, "/password/reset")))
        }
        MailKind::LogIn => {
            let made = secrets(app, mail, Purpose::LogIn).await?;
            made.map(|made| Letter::log_in(service, made.code.grouped(), made.purpose.lifetime()))
        }
        MailKind::VerifyEmail if is_taken(app, mail).await? => Some(Letter::email_taken(service)),
        MailKind::VerifyEmail => {
            let made = secrets(app, mail, Purpose::VerifyEmail).await?;
            made.map(|made| Letter::verify_email(service, at, made.key(app, "/email/verify")))
        }
    })
}

/// Whether another account has the address that is to be verified.
async fn is_taken(app: &App, mail: &Mail) -> Result<bool> {
    let owner = users::find_id_by_email(&app.pool, &mail.email).await?;
    Ok(owner.is_some_and(|owner| Some(owner) != mail.user_id))
}

/// What opens something.
struct Secrets {
    token: OneTimeSecret,
    code: Code,
    purpose: Purpose,
}

impl Secrets {
    /// As a link to this path of ours, and the code.
    fn key(&self, app: &App, path: &str) -> Key {
        let mut link = app.config.public_url.join(path);
        link.query_pairs_mut().append_pair("token", self.token.expose());
        Key { link, code: self.code.grouped(), lifetime: self.purpose.lifetime() }
    }
}

/// Makes what opens something, in the place of what earlier mails hold for the same. `None` when the mail
/// is for nobody, or void, or not the latest.
async fn secrets(app: &App, mail: &Mail, purpose: Purpose) -> Result<Option<Secrets>> {
    let (token, code) = (OneTimeSecret::generate(), Code::generate());
    let place = app.hasher.admit().await?;
    let code_hash = code.hash((&app.hasher, place), purpose, &mail.email).await?;
    let mut transaction = store::begin(&app.pool).await?;
    let Some(owner) = owner(&mut transaction, mail, purpose).await? else { return Ok(None) };
    let (email, mail_id) = (&mail.email, mail.id);
    let request_hash = mail.request_hash.as_deref();
    let (hash, code_hash) = (&token.hash(), &code_hash);
    let new = NewToken { hash, code_hash, purpose, email, owner, mail_id, request_hash };
    // The mail may have been made void before the account's row was locked.
    let stands = outbox::stands(&mut *transaction, mail.id).await?
        && one_time_tokens::insert(&mut transaction, &new).await?;
    transaction.commit().await?;
    Ok(stands.then_some(Secrets { token, code, purpose }))
}

/// Whom a mail is for: whoever is to have an account, or an account, whose row is locked, that has the
/// address or is to have it.
async fn owner(
    connection: &mut PgConnection,
    mail: &Mail,
    purpose: Purpose,
) -> Result<Option<Owner>> {
    if let Some(id) = mail.registration_id {
        return Ok(Some(Owner::Registration(id)));
    }
    let Some(id) = mail.user_id else {
        let user = users::lock_active_by_email(connection, &mail.email).await?;
        return Ok(user.map(|user| Owner::User(user.id)));
    };
    users::lock(&mut *connection, &[id]).await?;
    let user = users::find(connection, id).await?;
    let wants = |user: &User| {
        let email = Some(&mail.email);
        let unproven = user.email.as_ref() == email && !user.owns_email();
        purpose == Purpose::VerifyEmail && (unproven || user.pending_email.as_ref() == email)
    };
    Ok(user.filter(wants).map(|_| Owner::User(id)))
}
