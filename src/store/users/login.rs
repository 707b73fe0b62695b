//! What a login needs of an account, and does to it.

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::{Role, User};
use crate::names::Identifier;

/// The version of the password that an account is created with.
pub const FIRST_CREDENTIAL_VERSION: i64 = 1;

/// What is needed to check a login. It cannot be serialised.
#[derive(Debug)]
pub struct Credentials {
    /// The account's id.
    pub user_id: Uuid,
    /// The stored hash.
    pub password_hash: SecretString,
    /// Whether the account may log in.
    pub is_active: bool,
    /// Its address, if it has one that is not verified.
    pub unverified_email: Option<String>,
    /// Which password that is: it moves with each new one.
    pub credential_version: i64,
}

impl Credentials {
    /// The stored hash, to be compared or verified.
    #[must_use]
    pub fn hash(&self) -> &str {
        self.password_hash.expose_secret()
    }
}

/// What is needed to check a login to the account with this name.
pub async fn find_credentials(
    db: impl PgExecutor<'_>,
    identifier: &Identifier,
) -> sqlx::Result<Option<Credentials>> {
    let (username, email) = match identifier {
        Identifier::Username(username) => (Some(username), None),
        Identifier::Email(email) => (None, Some(email)),
    };
    sqlx::query_as!(
        Credentials,
        "select id as user_id, password_hash, is_active,
             case when not email_verified then email end as unverified_email, credential_version
         from users
         where username = $1 or email = $2",
        username,
        email,
    )
    .fetch_optional(db)
    .await
}

/// What is needed to check the password of somebody who is known.
pub async fn find_credentials_of(
    db: impl PgExecutor<'_>,
    id: Uuid,
) -> sqlx::Result<Option<Credentials>> {
    sqlx::query_as!(
        Credentials,
        "select id as user_id, password_hash, is_active,
             case when not email_verified then email end as unverified_email, credential_version
         from users
         where id = $1",
        id,
    )
    .fetch_optional(db)
    .await
}

/// Stores another hash of the same password, unless the account has another password by now.
pub async fn rehash(
    db: impl PgExecutor<'_>,
    verified: &Credentials,
    rehashed: &str,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update users set password_hash = $3
         from set_config('portcullis.rehash', 'on', true)
         where id = $1 and credential_version = $2",
        verified.user_id,
        verified.credential_version,
        rehashed,
    )
    .execute(db)
    .await
    .map(drop)
}

/// Locks the account's row if it still has the password that was checked, and is active.
pub async fn lock_verified(
    db: impl PgExecutor<'_>,
    verified: &Credentials,
) -> sqlx::Result<Option<User>> {
    query_user!(
        "select",
        "from users where id = $1 and is_active and credential_version = $2 for no key update",
        verified.user_id,
        verified.credential_version,
    )
    .fetch_optional(db)
    .await
}

/// Records a login, and locks the account's row; `None` when the account was disabled or deleted or got another
/// password since that version of it was checked.
pub async fn record_login(
    db: impl PgExecutor<'_>,
    id: Uuid,
    credential_version: i64,
) -> sqlx::Result<Option<User>> {
    query_user!(
        "update users set last_login_at = now()
         where id = $1 and is_active and credential_version = $2 returning",
        "",
        id,
        credential_version,
    )
    .fetch_optional(db)
    .await
}

/// Records a login by a code that was mailed to the account's address. The code verifies the address. It
/// proves the password as well: a password that was not proven has been replaced. The row is locked.
pub async fn record_login_by_mail(
    connection: &mut PgConnection,
    id: Uuid,
) -> sqlx::Result<Option<User>> {
    query_user!(
        "update users set last_login_at = now(), email_verified = true, password_proven = true
         where id = $1 and is_active returning",
        "",
        id,
    )
    .fetch_optional(connection)
    .await
}
