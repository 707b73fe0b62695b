//! How accounts come to be.

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Role, User};
use crate::names;

/// An account that is to be made; names are in their stored form.
#[derive(Debug)]
pub struct NewUser {
    /// Unique; this or the email address is given.
    pub username: Option<String>,
    /// Unique; this or the username is given.
    pub email: Option<String>,
    /// The display name.
    pub name: Option<String>,
    /// What it may do.
    pub role: Role,
    /// Whether the address is known to be the person's own.
    pub email_verified: bool,
    /// Whether its owner must choose a new password before anything else.
    pub must_change_password: bool,
    /// Whether the person who chose the password is known to read its mail.
    pub password_proven: bool,
}

impl NewUser {
    /// What it is to be called, in all ways.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        names::given([&self.username, &self.email, &self.name])
    }
}

/// Makes an account.
pub async fn insert(db: impl PgExecutor<'_>, user: &NewUser, hash: &str) -> sqlx::Result<User> {
    query_user!(
        "insert into users
             (id, username, email, name, role, password_hash, email_verified, must_change_password,
              password_proven)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9) returning",
        "",
        Uuid::now_v7(),
        user.username.as_deref(),
        user.email.as_deref(),
        user.name.as_deref(),
        user.role as _,
        hash,
        user.email_verified,
        user.must_change_password,
        user.password_proven,
    )
    .fetch_one(db)
    .await
}

/// An account of another service; names are in their stored form.
#[derive(Debug)]
pub struct ImportedUser {
    /// What every account has.
    pub new: NewUser,
    /// A hash that can be verified here.
    pub password_hash: String,
    /// Whether it may log in.
    pub is_active: bool,
    /// When it was made; `None` for now.
    pub created_at: Option<OffsetDateTime>,
}

/// Makes an account that comes from another service; `None` when one of its names is taken.
pub async fn import(db: impl PgExecutor<'_>, user: &ImportedUser) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar!(
        "insert into users
             (id, username, email, name, role, password_hash, is_active, created_at, email_verified,
              password_proven)
         values ($1, $2, $3, $4, $5, $6, $7, coalesce($8, now()), $9, $10)
         on conflict do nothing returning id",
        Uuid::now_v7(),
        user.new.username.as_deref(),
        user.new.email.as_deref(),
        user.new.name.as_deref(),
        user.new.role as _,
        user.password_hash,
        user.is_active,
        user.created_at,
        user.new.email_verified,
        user.new.password_proven,
    )
    .fetch_optional(db)
    .await
}

/// Whether one account has just these names.
pub async fn has_both_names(db: impl PgExecutor<'_>, new: &NewUser) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (
             select from users
             where username is not distinct from $1 and email is not distinct from $2
         ) as "exists!""#,
        new.username.as_deref(),
        new.email.as_deref(),
    )
    .fetch_one(db)
    .await
}
