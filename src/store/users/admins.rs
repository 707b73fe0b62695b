//! The first admin, and what is asked of all of them.

use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::{NewUser, Role, User};

/// Creates an admin if there is none and nobody has the names; `None` when nothing was created. Replicas that
/// start at once take turns, so that they create one admin even if their settings name different ones.
pub async fn insert_first_admin(
    connection: &mut PgConnection,
    user: &NewUser,
    hash: &str,
) -> sqlx::Result<Option<User>> {
    sqlx::query!("select pg_advisory_xact_lock(hashtext('portcullis first admin'))")
        .execute(&mut *connection)
        .await?;
    query_user!(
        "insert into users
             (id, username, email, name, role, password_hash, email_verified, must_change_password,
              password_proven)
         select $1, $2, $3, $4, 'admin', $5, $6, $7, $8
         where not exists (select from users where role = 'admin')
         on conflict do nothing returning",
        "",
        Uuid::now_v7(),
        user.username.as_deref(),
        user.email.as_deref(),
        user.name.as_deref(),
        hash,
        user.email_verified,
        user.must_change_password,
        user.password_proven,
    )
    .fetch_optional(connection)
    .await
}

/// Whether there is an admin.
pub async fn any_admin(db: impl PgExecutor<'_>) -> sqlx::Result<bool> {
    sqlx::query_scalar!(r#"select exists (select from users where role = 'admin') as "any!""#)
        .fetch_one(db)
        .await
}

/// The names and password hashes of the active admins, the oldest first.
pub async fn admin_hashes(
    db: impl PgExecutor<'_>,
    limit: i64,
) -> sqlx::Result<Vec<(String, String)>> {
    let rows = sqlx::query!(
        r#"select coalesce(username, email) as "name!", password_hash
         from users where role = 'admin' and is_active order by id limit $1"#,
        limit,
    );
    let rows = rows.fetch_all(db).await?;
    Ok(rows.into_iter().map(|row| (row.name, row.password_hash)).collect())
}
