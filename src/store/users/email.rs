//! The address of an account, and the one that it is to have.

use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::{Role, User};

/// Locks the row of the active account with this address.
pub async fn lock_active_by_email(
    connection: &mut PgConnection,
    email: &str,
) -> sqlx::Result<Option<User>> {
    query_user!("select", "from users where email = $1 and is_active for no key update", email,)
        .fetch_optional(connection)
        .await
}

/// Writes down that an account's address is its owner's own. The row is locked.
pub async fn verify_email(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<()> {
    sqlx::query!(
        "update users set email_verified = true, updated_at = now()
         where id = $1 and not email_verified",
        id,
    )
    .execute(db)
    .await
    .map(drop)
}

/// Gives an account the address that it was to have once it is verified. The row is locked.
pub async fn take_pending_email(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<()> {
    sqlx::query!(
        "update users
         set email = pending_email, email_verified = true, pending_email = null, updated_at = now()
         where id = $1",
        id,
    )
    .execute(db)
    .await
    .map(drop)
}

/// Drops the address that an account is to have. The row is locked.
pub async fn drop_pending_email(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<()> {
    sqlx::query!(
        "update users set pending_email = null, updated_at = now()
         where id = $1 and pending_email is not null",
        id,
    )
    .execute(db)
    .await
    .map(drop)
}

/// The id of the account that has this address.
pub async fn find_id_by_email(db: impl PgExecutor<'_>, email: &str) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar!("select id from users where email = $1", email).fetch_optional(db).await
}
