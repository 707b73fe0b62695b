//! Sends what is in the outbox. Every replica may do so at once.
//!
//! A mail is claimed for a while, then written, then sent, and then deleted: whoever dies on the way
//! leaves it to be sent again, and whoever cannot send it puts it off for longer and longer. Secrets are
//! made when the mail is written, so that the outbox holds none.

use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use url::Url;

use super::letter::{Key, Letter};
use super::mailer::{BoxError, Mailer, Outgoing};
use crate::audit::{self, Event};
use crate::client::Client;
use crate::error::Result;
use crate::one_time::Code;
use crate::state::App;
use crate::store;
use crate::store::one_time_tokens::{self, NewToken, Owner, Purpose};
use crate::store::outbox::{self, Kind, Mail};
use crate::store::users;
use crate::token::OneTimeSecret;

/// How often the outbox is looked at.
const EVERY: Duration = Duration::from_secs(1);
/// Mails at once.
const BATCH: i64 = 8;
/// How long sending one may take; the lease is longer, so that nobody else sends it meanwhile.
const SEND_WITHIN: Duration = Duration::from_secs(60);
const LEASE: Duration = Duration::from_secs(120);
/// The pause after the first failure, which doubles with each, up to a limit.
const PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);
/// How long a mail is tried.
const KEEP: Duration = Duration::from_secs(24 * 60 * 60);

/// How long what a mail holds stands, from when it is sent.
fn lifetime(purpose: Purpose) -> Duration {
    match purpose {
        Purpose::VerifyEmail => Duration::from_secs(24 * 60 * 60),
        Purpose::ResetPassword => Duration::from_secs(30 * 60),
        Purpose::LogIn => Duration::from_secs(10 * 60),
    }
}

/// Sends mails until it is told to stop, and then what it has begun.
pub async fn run(app: App, mailer: Mailer, mut stop: watch::Receiver<()>) {
    loop {
        match deliver_due(&app, &mailer).await {
            Ok(0) => {}
            Ok(_) if !stop.has_changed().unwrap_or(true) => continue,
            Ok(_) => return,
            Err(error) => tracing::warn!(%error, "the outbox cannot be looked at"),
        }
        tokio::select! {
            _ = stop.changed() => return,
            () = sleep(EVERY) => {}
        }
    }
}

/// Claims some of the mails that are due and sends them, and returns how many it claimed.
///
/// # Errors
/// Those of the database.
pub async fn deliver_due(app: &App, mailer: &Mailer) -> sqlx::Result<usize> {
    let claimed = outbox::claim(&app.pool, LEASE, BATCH).await?;
    let count = claimed.len();
    let mut deliveries = JoinSet::new();
    for mail in claimed {
        let (app, mailer) = (app.clone(), mailer.clone());
        deliveries.spawn(async move {
            if let Err(error) = deliver(&app, &mailer, &mail).await {
                // It is due again when the claim has ended.
                let source = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%error, source, mail_id = mail.id, "a mail could not be written");
            }
        });
    }
    while deliveries.join_next().await.is_some() {}
    Ok(count)
}

async fn deliver(app: &App, mailer: &Mailer, mail: &Mail) -> Result<()> {
    let letter = if mailer.is_on() { write(app, mailer, mail).await? } else { None };
    let Some(letter) = letter else {
        return Ok(outbox::delete(&app.pool, mail.id).await?);
    };
    // The same for each try, so that mailboxes can tell a second copy.
    let id = format!("{}-{}", mail.created_at.unix_timestamp(), mail.id);
    let outgoing = Outgoing { to: &mail.email, id: &id, letter: &letter };
    let sent = timeout(SEND_WITHIN, mailer.send(&outgoing)).await;
    match sent.unwrap_or_else(|_| Err("the server took too long".into())) {
        Ok(()) => {
            tracing::info!(
                mail_id = mail.id,
                kind = mail.kind.as_str(),
                attempts = mail.attempts,
                "mail sent"
            );
            Ok(outbox::delete(&app.pool, mail.id).await?)
        }
        Err(error) => put_off(app, mail, error).await,
    }
}

/// Tries a mail again later, or gives it up.
async fn put_off(app: &App, mail: &Mail, error: BoxError) -> Result<()> {
    let doublings = u32::try_from(mail.attempts - 1).unwrap_or_default().min(16);
    let pause = (PAUSE * 2_u32.pow(doublings)).min(LONGEST_PAUSE);
    // Those that failed together are not to come back together.
    let pause = pause.mul_f64(rand::random_range(0.75..1.25));
    let pause = Duration::from_millis(u64::try_from(pause.as_millis()).unwrap_or_default());
    let mut transaction = store::begin(&app.pool).await?;
    let kind = mail.kind.as_str();
    if outbox::put_off(&mut *transaction, mail.id, pause, KEEP).await? {
        let cause = error.source().map(ToString::to_string);
        tracing::warn!(mail_id = mail.id, kind, attempts = mail.attempts, %error, cause, "a mail could not be sent and is put off");
    } else {
        let client = Client::operator();
        let failed = Event::new(audit::Kind::MailFailed, &client);
        let failed = mail.user_id.into_iter().fold(failed, Event::to);
        let details = json!({"mail": kind, "attempts": mail.attempts});
        failed.details(details).record(&mut *transaction).await?;
    }
    Ok(transaction.commit().await?)
}

/// What a mail says; `None` when there is nothing to say any more, or nobody to say it to.
async fn write(app: &App, mailer: &Mailer, mail: &Mail) -> Result<Option<Letter>> {
    let (service, at) = (&*mailer.service, mail.created_at);
    Ok(match mail.kind {
        Kind::PasswordChanged => Some(Letter::password_changed(service, at)),
        Kind::NewDevice => Some(Letter::new_device(service, at, &mail.details)),
        Kind::EmailChanged => Some(Letter::email_changed(service, at)),
        Kind::AccountLocked => Some(Letter::account_locked(service, at)),
        Kind::ResetPassword => {
            let key = key(app, mail, Purpose::ResetPassword, "/password/reset").await?;
            key.map(|key| Letter::reset_password(service, key))
        }
        Kind::LogIn => {
            let key = key(app, mail, Purpose::LogIn, "/").await?;
            key.map(|key| Letter::log_in(service, key.code, key.lifetime))
        }
        Kind::VerifyEmail if is_taken(app, mail).await? => Some(Letter::email_taken(service)),
        Kind::VerifyEmail => {
            let key = key(app, mail, Purpose::VerifyEmail, "/email/verify").await?;
            key.map(|key| Letter::verify_email(service, key))
        }
    })
}

/// Whether another account has the address that is to be verified.
async fn is_taken(app: &App, mail: &Mail) -> Result<bool> {
    let owner = users::find_by_email(&app.pool, &mail.email).await?;
    Ok(owner.is_some_and(|owner| Some(owner) != mail.user_id))
}

/// Makes what opens something, and takes the place of what earlier mails hold for the same. `None` when
/// the mail is for nobody, or void, or not the latest.
async fn key(app: &App, mail: &Mail, purpose: Purpose, path: &str) -> Result<Option<Key>> {
    let (token, code) = (OneTimeSecret::generate(), Code::generate());
    let code_hash = code.hash(&app.hasher, purpose, &mail.email).await?;
    let mut transaction = store::begin(&app.pool).await?;
    let Some(owner) = owner(&mut transaction, mail, purpose).await? else { return Ok(None) };
    let new = NewToken {
        hash: &token.hash(),
        code_hash: &code_hash,
        purpose,
        email: &mail.email,
        owner,
        mail_id: mail.id,
        lifetime: lifetime(purpose),
    };
    // The mail may have been made void before the account's row was locked.
    let stands = outbox::stands(&mut *transaction, mail.id).await?
        && one_time_tokens::insert(&mut transaction, &new).await?;
    transaction.commit().await?;
    let link = || -> Url {
        let mut link = app.config.public_url.join(path);
        link.query_pairs_mut().append_pair("token", token.expose());
        link
    };
    Ok(stands.then(|| Key { link: link(), code: code.grouped(), lifetime: new.lifetime }))
}

/// Whom a mail is for: whoever is to have an account, or an account, whose row is locked, that has the
/// address or is to have it.
async fn owner(
    connection: &mut sqlx::PgConnection,
    mail: &Mail,
    purpose: Purpose,
) -> Result<Option<Owner>> {
    if let Some(id) = mail.registration_id {
        return Ok(Some(Owner::Registration(id)));
    }
    let Some(id) = mail.user_id else {
        let user = users::lock_by_email(connection, &mail.email).await?;
        return Ok(user.map(|user| Owner::User(user.id)));
    };
    users::lock(&mut *connection, &[id]).await?;
    let user = users::find(connection, id).await?;
    let wants = |user: &users::User| {
        let email = Some(&mail.email);
        let unverified = user.email.as_ref() == email && !user.email_verified;
        purpose == Purpose::VerifyEmail && (unverified || user.pending_email.as_ref() == email)
    };
    Ok(user.filter(wants).map(|_| Owner::User(id)))
}
