//! Which clients have logged in to which accounts.

use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

/// Clients that an account knows at most: a program that keeps no cookies is a new one at each login,
/// and the first to be forgotten.
const MOST: i64 = 50;

/// An account that a client has logged in to.
#[derive(Debug)]
pub struct KnownAccount {
    /// The account's id.
    pub user_id: Uuid,
    /// Its username.
    pub username: Option<String>,
    /// Its email address.
    pub email: Option<String>,
}

/// The accounts that know a client by the secret with this hash.
pub async fn find_accounts(
    db: impl PgExecutor<'_>,
    hash: &[u8],
) -> sqlx::Result<Vec<KnownAccount>> {
    sqlx::query_as!(
        KnownAccount,
        "select u.id as user_id, u.username, u.email
         from known_devices d join users u on u.id = d.user_id
         where d.hash = $1",
        hash,
    )
    .fetch_all(db)
    .await
}

/// What became of a client that has logged in to an account.
#[derive(Debug)]
pub struct Remembered {
    /// Whether it is to be given the new secret.
    pub is_given: bool,
    /// Whether the account did not know it, and knows others.
    pub is_stranger: bool,
}

/// Writes down that a client has logged in to an account whose row is locked. `given` is the hash of
/// the secret that the client brought, `new` that of one it may be given.
///
/// A secret that was never ours is not taken over; one that another account knows is.
pub async fn remember(
    connection: &mut PgConnection,
    user_id: Uuid,
    given: Option<&[u8]>,
    new: &[u8],
) -> sqlx::Result<Remembered> {
    let remembered = sqlx::query_as!(
        Remembered,
        r#"insert into known_devices (hash, user_id)
         values (coalesce((select hash from known_devices where hash = $2 limit 1), $3), $1)
         on conflict on constraint known_devices_pkey do update set last_used_at = now()
         -- now() is when the transaction began, and the subquery sees what was there before: a row that
         -- was just made is new, and no other of its own
         returning hash = $3 as "is_given!",
             created_at = now() and exists (select from known_devices where user_id = $1)
                 as "is_stranger!""#,
        user_id,
        given,
        new,
    )
    .fetch_one(&mut *connection)
    .await?;
    if remembered.is_given {
        sqlx::query!(
            "delete from known_devices
             where user_id = $1 and hash in (
                 select hash from known_devices where user_id = $1
                 order by last_used_at > created_at desc, last_used_at desc, hash
                 offset $2
             )",
            user_id,
            MOST,
        )
        .execute(connection)
        .await?;
    }
    Ok(remembered)
}

/// Forgets every client that has logged in to an account, but for one.
pub async fn forget(
    db: impl PgExecutor<'_>,
    user_id: Uuid,
    but: Option<&[u8]>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "delete from known_devices where user_id = $1 and hash is distinct from $2",
        user_id,
        but,
    )
    .execute(db)
    .await
    .map(drop)
}
