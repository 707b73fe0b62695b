//! What was mailed to prove that an address is somebody's own: a token, and a code that may be typed
//! instead.

use std::time::Duration;

use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use crate::store::interval;

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Purpose {
    /// Proves an address.
    VerifyEmail,
    /// Sets a new password.
    ResetPassword,
    /// Logs in.
    LogIn,
}

impl Purpose {
    /// How long a token stands, from when it is sent.
    #[must_use]
    pub fn lifetime(self) -> Duration {
        let minutes = match self {
            Self::VerifyEmail => 24 * 60,
            Self::ResetPassword => 30,
            Self::LogIn => 10,
        };
        Duration::from_secs(minutes * 60)
    }

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::VerifyEmail => "verify_email",
            Self::ResetPassword => "reset_password",
            Self::LogIn => "log_in",
        }
    }
}

/// Whose a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// An account's.
    User(Uuid),
    /// That of somebody who is to have an account.
    Registration(Uuid),
}

/// A token that is to be mailed.
#[derive(Debug)]
pub struct NewToken<'a> {
    /// The hash of the token.
    pub hash: &'a [u8],
    /// The hash of the code.
    pub code_hash: &'a [u8],
    /// What it is good for.
    pub purpose: Purpose,
    /// Where it is sent.
    pub email: &'a str,
    /// Whose it is.
    pub owner: Owner,
    /// The mail that holds it.
    pub mail_id: i64,
    /// The hash of the secret of the client that requested a login code.
    pub request_hash: Option<&'a [u8]>,
}

/// What a person brings back.
#[derive(Debug)]
pub enum Given {
    /// The hash of a token.
    Token(Vec<u8>),
    /// An address, and the hash of a code that was sent to it.
    Code {
        /// The address.
        email: String,
        /// The hash.
        hash: Vec<u8>,
        /// The hashes of the secrets of the client's requests: a login code works for the client that
        /// requested it.
        requests: Vec<Vec<u8>>,
    },
}

/// A token that stands.
#[derive(Clone, Debug)]
pub struct Token {
    /// Its hash.
    pub hash: Vec<u8>,
    /// Where it was sent.
    pub email: String,
    /// Whose it is.
    pub owner: Owner,
}

/// Adds a token to those of the same mail, and ends those of earlier mails for the same purpose;
/// `false` when there is one of a later mail. A code that is bound to a request leaves those of other requests alone:
/// a stranger's request must not make the owner's code invalid. The account's row is locked, if there is one. Registrations
/// end nothing of each other: whoever asks last is not for that the one whose address it is.
pub async fn insert(connection: &mut PgConnection, new: &NewToken<'_>) -> sqlx::Result<bool> {
    let (user_id, registration_id) = match new.owner {
        Owner::User(id) => (Some(id), None),
        Owner::Registration(id) => (None, Some(id)),
    };
    let superseded = sqlx::query_scalar!(
        r#"select exists (
             select from one_time_tokens
             where user_id = $1 and purpose = $2 and mail_id > $3
                 and request_hash is not distinct from $4
         ) as "superseded!""#,
        user_id,
        new.purpose as _,
        new.mail_id,
        new.request_hash,
    )
    .fetch_one(&mut *connection)
    .await?;
    if superseded {
        return Ok(false);
    }
    sqlx::query!(
        "delete from one_time_tokens
         where user_id = $1 and purpose = $2 and mail_id < $3
             and request_hash is not distinct from $4",
        user_id,
        new.purpose as _,
        new.mail_id,
        new.request_hash,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "insert into one_time_tokens
             (hash, code_hash, purpose, email, user_id, registration_id, mail_id, expires_at,
              request_hash)
         values ($1, $2, $3, $4, $5, $6, $7, now() + $8::interval, $9)",
        new.hash,
        new.code_hash,
        new.purpose as _,
        new.email,
        user_id,
        registration_id,
        new.mail_id,
        interval(new.purpose.lifetime())?,
        new.request_hash,
    )
    .execute(connection)
    .await
    .map(|_| true)
}

/// The token that a person brought back, if it stands. A newer mail for the same ends it as soon as it is
/// asked for, sent or not.
pub async fn find(
    db: impl PgExecutor<'_>,
    purpose: Purpose,
    given: &Given,
) -> sqlx::Result<Option<Token>> {
    let (token, email, code, requests) = match given {
        Given::Token(hash) => (Some(hash), None, None, &[][..]),
        Given::Code { email, hash, requests } => (None, Some(email), Some(hash), &requests[..]),
    };
    let row = sqlx::query!(
        "select hash, email, user_id, registration_id from one_time_tokens t
         where purpose = $1 and expires_at > now()
             and (hash = $2 or (email = $3 and code_hash = $4))
             and (purpose <> 'log_in' or request_hash = any($5))
             and not exists (
                 select from outbox o
                 where o.email = t.email and o.kind = t.purpose and o.id > t.mail_id
                     and o.registration_id is null
                     and (o.user_id is null or o.user_id = t.user_id)
                     and o.request_hash is not distinct from t.request_hash
             )",
        purpose as _,
        token,
        email,
        code,
        requests,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.and_then(|row| {
        let registration = || row.registration_id.map(Owner::Registration);
        let owner = row.user_id.map(Owner::User).or_else(registration)?;
        Some(Token { hash: row.hash, email: row.email, owner })
    }))
}

/// Uses a token up, with the others of its owner for the same purpose; `false` when it does not stand
/// any more. The account's row is locked, so of many at once one wins.
pub async fn spend(
    connection: &mut PgConnection,
    purpose: Purpose,
    token: &Token,
) -> sqlx::Result<bool> {
    let spent = sqlx::query!(
        "delete from one_time_tokens where hash = $1 and purpose = $2 and expires_at > now()",
        token.hash,
        purpose as _,
    )
    .execute(&mut *connection)
    .await?
    .rows_affected()
        == 1;
    if let (true, Owner::User(user_id)) = (spent, token.owner) {
        sqlx::query!(
            "delete from one_time_tokens where user_id = $1 and purpose = $2",
            user_id,
            purpose as _,
        )
        .execute(connection)
        .await?;
    }
    Ok(spent)
}

/// Ends the tokens by which somebody could get at an account, whose row is locked. Those that verify
/// an address do nothing when the account no longer has or wants it.
pub async fn void(db: impl PgExecutor<'_>, user_id: Uuid) -> sqlx::Result<()> {
    sqlx::query!(
        "delete from one_time_tokens
         where user_id = $1 and purpose in ('reset_password', 'log_in')",
        user_id,
    )
    .execute(db)
    .await
    .map(drop)
}
