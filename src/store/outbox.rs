//! Mails that are to be sent.
//!
//! A row stands in the transaction of what it tells, and until its mail was sent. Whoever sends it
//! claims it for a while: a mail whose sender has died is due again, so at worst it is sent twice.

use std::time::Duration;

use serde_json::Value;
use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::store::interval;
use crate::telemetry;

/// What a mail is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum MailKind {
    /// Prove that the address is yours.
    VerifyEmail,
    /// Choose a new password.
    ResetPassword,
    /// Log in by a code.
    LogIn,
    /// The password was changed.
    PasswordChanged,
    /// A client that the account does not know has logged in.
    NewDevice,
    /// Another address was asked for, and is not verified yet.
    EmailChangeRequested,
    /// The account has another address now.
    EmailChanged,
    /// Wrong passwords have used up the limit on them.
    AccountLocked,
    /// A login by an emailed code has revoked all other access.
    AccessReset,
    /// The account has another username now, or none.
    UsernameChanged,
    /// An API token was created.
    TokenCreated,
}

impl MailKind {
    /// Every kind.
    const ALL: [Self; 11] = [
        Self::VerifyEmail,
        Self::ResetPassword,
        Self::LogIn,
        Self::PasswordChanged,
        Self::NewDevice,
        Self::EmailChangeRequested,
        Self::EmailChanged,
        Self::AccountLocked,
        Self::AccessReset,
        Self::UsernameChanged,
        Self::TokenCreated,
    ];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::VerifyEmail => "verify_email",
            Self::ResetPassword => "reset_password",
            Self::LogIn => "log_in",
            Self::PasswordChanged => "password_changed",
            Self::NewDevice => "new_device",
            Self::EmailChangeRequested => "email_change_requested",
            Self::EmailChanged => "email_changed",
            Self::AccountLocked => "account_locked",
            Self::AccessReset => "access_reset",
            Self::UsernameChanged => "username_changed",
            Self::TokenCreated => "token_created",
        }
    }
}

/// A mail that is to be sent.
#[derive(Debug)]
pub struct NewMail<'a> {
    /// What it is about.
    pub kind: MailKind,
    /// Where it goes.
    pub email: &'a str,
    /// Whose account it is about, if that is known.
    pub user_id: Option<Uuid>,
    /// The account that it is to make.
    pub registration_id: Option<Uuid>,
    /// The hash of the secret of the client that requested a login code.
    pub request_hash: Option<&'a [u8]>,
}

impl<'a> NewMail<'a> {
    /// To the owner of an address that an account has or is to have, so that they can prove that it is
    /// theirs.
    #[must_use]
    pub fn to_verify(user_id: Uuid, email: &'a str) -> Self {
        Self { user_id: Some(user_id), ..Self::to_address(MailKind::VerifyEmail, email) }
    }

    /// To an address, about whatever account may have it.
    #[must_use]
    pub fn to_address(kind: MailKind, email: &'a str) -> Self {
        Self { kind, email, user_id: None, registration_id: None, request_hash: None }
    }
}

/// A mail that was claimed.
#[derive(Clone, Debug)]
pub struct Mail {
    /// Names the mail; of two, the later one has the higher.
    pub id: i64,
    /// What it is about.
    pub kind: MailKind,
    /// Where it goes.
    pub email: String,
    /// Whose account it is about, if that is known.
    pub user_id: Option<Uuid>,
    /// The account that it is to make.
    pub registration_id: Option<Uuid>,
    /// The hash of the secret of the client that requested a login code.
    pub request_hash: Option<Vec<u8>>,
    /// What it tells, by its kind.
    pub details: Value,
    /// When it was written.
    pub created_at: OffsetDateTime,
    /// Which try this is, from 1.
    pub attempts: i32,
    /// The span that it was written in, where spans are collected.
    pub traceparent: Option<String>,
}

/// Adds a mail.
pub async fn insert(db: impl PgExecutor<'_>, new: &NewMail<'_>) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into outbox (kind, email, user_id, registration_id, request_hash, traceparent)
         values ($1, $2, $3, $4, $5, $6)",
        new.kind as _,
        new.email,
        new.user_id,
        new.registration_id,
        new.request_hash,
        telemetry::traceparent(),
    )
    .execute(db)
    .await
    .map(drop)
}

/// Adds a mail to the owner of an account, if the account has an address that is known to be theirs.
pub async fn insert_to_owner(
    db: impl PgExecutor<'_>,
    user_id: Option<Uuid>,
    kind: MailKind,
    details: &Value,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"insert into outbox (kind, email, user_id, details, traceparent)
           select $2, email, id, $3, $4 from users
           where id = $1 and email_verified and email is not null"#,
        user_id,
        kind as _,
        details,
        telemetry::traceparent(),
    )
    .execute(db)
    .await
    .map(drop)
}

/// Claims up to `limit` mails that are due, for so long; those that somebody waits for first. Mails of a
/// kind that only a newer replica knows are left to it.
pub async fn claim(
    db: impl PgExecutor<'_>,
    lease: Duration,
    limit: i64,
) -> sqlx::Result<Vec<Mail>> {
    sqlx::query_as!(
        Mail,
        r#"update outbox set attempts = attempts + 1, due_at = now() + $1::interval
           -- an array is made once: of a subquery the planner may make a join that finds others again
           where id = any(array(
               select id from outbox where due_at <= now() and kind = any($3)
               order by is_urgent desc, due_at
               limit $2
               for update skip locked
           ))
           returning id, kind as "kind: MailKind", email, user_id, registration_id, request_hash, details,
               created_at, attempts, traceparent"#,
        interval(lease)?,
        limit,
        &MailKind::ALL.map(|kind| kind.as_str().to_owned()),
    )
    .fetch_all(db)
    .await
}

/// Whether a mail is still to be sent.
pub async fn stands(db: impl PgExecutor<'_>, id: i64) -> sqlx::Result<bool> {
    sqlx::query_scalar!(r#"select exists (select from outbox where id = $1) as "stands!""#, id)
        .fetch_one(db)
        .await
}

/// Deletes a mail: it was sent, or is no longer to be.
pub async fn delete(db: impl PgExecutor<'_>, id: i64) -> sqlx::Result<()> {
    sqlx::query!("delete from outbox where id = $1", id).execute(db).await.map(drop)
}

/// Deletes the mails to an address by which somebody could get at an account.
pub async fn void(db: impl PgExecutor<'_>, email: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "delete from outbox
         where email = $1 and kind in ('reset_password', 'log_in')",
        email,
    )
    .execute(db)
    .await
    .map(drop)
}

/// Puts off a mail that could not be sent; `false` when it is older than `keep`, and so deleted.
pub async fn put_off(
    db: impl PgExecutor<'_>,
    id: i64,
    by: Duration,
    keep: Duration,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"with given_up as (
               delete from outbox where id = $1 and created_at + $3::interval <= now()
               returning id
           ), put_off as (
               update outbox set due_at = now() + $2::interval
               where id = $1 and created_at + $3::interval > now()
           )
           select not exists (select from given_up) as "put_off!""#,
        id,
        interval(by)?,
        interval(keep)?,
    )
    .fetch_one(db)
    .await
}
