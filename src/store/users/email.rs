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

/// Whether the person who chose the account's password is known to read the mail of its address.
pub async fn is_owner_proven(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<bool> {
    let proven = sqlx::query_scalar!(
        r#"select email_verified and password_proven as "proven!" from users where id = $1"#,
        id,
    )
    .fetch_optional(db)
    .await?;
    Ok(proven.unwrap_or_default())
}

/// Marks an account's address as verified. `proves_password`: the person who verified it is also known
/// to be the one who chose the password. The row is locked.
pub async fn verify_email(
    db: impl PgExecutor<'_>,
    id: Uuid,
    proves_password: bool,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update users
         set email_verified = true, password_proven = $2,
             updated_at = case when email_verified then updated_at else now() end
         where id = $1 and (not email_verified or ($2 and not password_proven))",
        id,
        proves_password,
    )
    .execute(db)
    .await
    .map(drop)
}

/// Replaces an account's address with the pending one, which was verified. `proves_password` as for
/// [`verify_email`]. The row is locked.
pub async fn take_pending_email(
    db: impl PgExecutor<'_>,
    id: Uuid,
    proves_password: bool,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update users
         set email = pending_email, email_verified = true, password_proven = $2,
             pending_email = null, updated_at = now()
         where id = $1",
        id,
        proves_password,
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
