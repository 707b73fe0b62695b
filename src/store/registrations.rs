//! Accounts that are to be made as soon as their address is verified.

use sqlx::PgExecutor;
use uuid::Uuid;

use crate::store::users::{NewUser, Role};

/// An account that is to be made.
#[derive(Debug)]
pub struct Registration {
    /// What it is to be called.
    pub new: NewUser,
    /// The hash of its password.
    pub password_hash: String,
}

/// Writes down who wants an account, and returns the id. The address is given.
pub async fn insert(db: impl PgExecutor<'_>, new: &NewUser, hash: &str) -> sqlx::Result<Uuid> {
    sqlx::query_scalar!(
        "insert into registrations (id, email, username, name, password_hash)
         values ($1, $2, $3, $4, $5) returning id",
        Uuid::now_v7(),
        new.email.as_deref(),
        new.username.as_deref(),
        new.name.as_deref(),
        hash,
    )
    .fetch_one(db)
    .await
}

/// Locks a registration, before its tokens: they go with it.
pub async fn lock(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Option<Registration>> {
    let row = sqlx::query!(
        "select email, username, name, password_hash from registrations where id = $1 for update",
        id,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| {
        let (username, email, name) = (row.username, Some(row.email), row.name);
        let new = NewUser {
            username,
            email,
            name,
            role: Role::User,
            email_verified: true,
            must_change_password: false,
        };
        Registration { new, password_hash: row.password_hash }
    }))
}

/// Deletes a registration that is locked.
pub async fn delete(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<()> {
    sqlx::query!("delete from registrations where id = $1", id).execute(db).await.map(drop)
}
