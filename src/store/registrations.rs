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
    /// The hash of the device secret of the client that registered. Registrations of earlier releases
    /// have none.
    pub device_hash: Option<Vec<u8>>,
}

/// Adds a registration by the client with this device secret, and returns its id. The address is given.
pub async fn insert(
    db: impl PgExecutor<'_>,
    new: &NewUser,
    hash: &str,
    device_hash: &[u8],
) -> sqlx::Result<Uuid> {
    sqlx::query_scalar!(
        "insert into registrations (id, email, username, name, password_hash, device_hash)
         values ($1, $2, $3, $4, $5, $6) returning id",
        Uuid::now_v7(),
        new.email.as_deref(),
        new.username.as_deref(),
        new.name.as_deref(),
        hash,
        device_hash,
    )
    .fetch_one(db)
    .await
}

/// Forgets which client registered, if it is one with these hashes.
pub async fn forget_client(db: impl PgExecutor<'_>, hashes: &[Vec<u8>]) -> sqlx::Result<()> {
    sqlx::query!("update registrations set device_hash = null where device_hash = any($1)", hashes)
        .execute(db)
        .await
        .map(drop)
}

/// Locks a registration, before its tokens: they go with it.
pub async fn lock(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Option<Registration>> {
    let row = sqlx::query!(
        "select email, username, name, password_hash, device_hash from registrations
         where id = $1 for update",
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
            password_proven: false,
        };
        Registration { new, password_hash: row.password_hash, device_hash: row.device_hash }
    }))
}

/// Deletes a registration that is locked.
pub async fn delete(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<()> {
    sqlx::query!("delete from registrations where id = $1", id).execute(db).await.map(drop)
}
