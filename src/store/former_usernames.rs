//! Usernames that were given up, and are reserved for a while. Triggers on `users` insert the rows.

use sqlx::PgExecutor;
use uuid::Uuid;

/// Whether a username is reserved. With an account, whether it is reserved for anybody else.
///
/// A claim must ask after its own statement: that one waits for a transaction that gives the username up at the
/// same moment, and only a later statement sees the reservation.
pub async fn is_reserved(
    db: impl PgExecutor<'_>,
    username: &str,
    but_for: Option<Uuid>,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (
             select from former_usernames
             where username = $1 and reserved_until > now()
                 and ($2::uuid is null or user_id is distinct from $2)
         ) as "is_reserved!""#,
        username,
        but_for,
    )
    .fetch_one(db)
    .await
}
