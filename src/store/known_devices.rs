//! Which clients have logged in to which accounts.

use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

/// Clients that an account knows at most: a program that keeps no cookies is a new one at each login,
/// and the first to be forgotten.
const MOST: i64 = 50;

/// An account that a client has logged in to.
#[derive(Debug)]
pub struct KnownAccount {
    /// The hash of the secret by which the account recognises the client.
    pub hash: Vec<u8>,
    /// The account's id.
    pub user_id: Uuid,
    /// Its username.
    pub username: Option<String>,
    /// Its email address.
    pub email: Option<String>,
    /// Whether the address is known to be that of the person who chose the password.
    pub owns_email: bool,
}

/// The accounts that recognise a client by the secrets with these hashes.
pub async fn find_accounts(
    db: impl PgExecutor<'_>,
    hashes: &[Vec<u8>],
) -> sqlx::Result<Vec<KnownAccount>> {
    sqlx::query_as!(
        KnownAccount,
        r#"select d.hash, u.id as user_id, u.username, u.email,
             u.email_verified and u.password_proven as "owns_email!"
         from known_devices d join users u on u.id = d.user_id
         where d.hash = any($1)"#,
        hashes,
    )
    .fetch_all(db)
    .await
}

/// Whether an account recognises a client by one of the secrets with these hashes.
pub async fn knows(
    db: impl PgExecutor<'_>,
    user_id: Uuid,
    hashes: &[Vec<u8>],
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (
             select from known_devices where user_id = $1 and hash = any($2)
         ) as "knows!""#,
        user_id,
        hashes,
    )
    .fetch_one(db)
    .await
}

/// Adds a client to an account that was created in the same transaction.
pub async fn insert(db: impl PgExecutor<'_>, user_id: Uuid, hash: &[u8]) -> sqlx::Result<()> {
    sqlx::query!("insert into known_devices (hash, user_id) values ($1, $2)", hash, user_id)
        .execute(db)
        .await
        .map(drop)
}

/// What became of a client that has logged in to an account.
#[derive(Debug)]
pub struct Remembered {
    /// Whether it is to be given the new secret.
    pub is_given: bool,
    /// Whether the account did not know it, and knows others.
    pub is_stranger: bool,
}

/// Records that a client has logged in to an account whose row is locked. `given` holds the hashes of
/// the secrets that the client sent, `new` the hash of one that it may be given.
///
/// An account adopts no secret, not even one that another account knows: somebody may have planted it
/// in the client.
pub async fn remember(
    connection: &mut PgConnection,
    user_id: Uuid,
    given: &[Vec<u8>],
    new: &[u8],
) -> sqlx::Result<Remembered> {
    if !given.is_empty() {
        let known = sqlx::query!(
            "update known_devices set last_used_at = now() where user_id = $1 and hash = any($2)",
            user_id,
            given,
        );
        if known.execute(&mut *connection).await?.rows_affected() > 0 {
            return Ok(Remembered { is_given: false, is_stranger: false });
        }
    }
    // The subquery sees what was there before the statement.
    let remembered = sqlx::query_as!(
        Remembered,
        r#"insert into known_devices (hash, user_id) values ($2, $1)
         returning true as "is_given!",
             exists (select from known_devices where user_id = $1) as "is_stranger!""#,
        user_id,
        new,
    )
    .fetch_one(&mut *connection)
    .await?;
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
    Ok(remembered)
}

/// Forgets clients of accounts whose address is not known to be that of the person who chose the password: of one
/// account or of all, and those with these hashes or all.
pub async fn forget_unproven(
    db: impl PgExecutor<'_>,
    user_id: Option<Uuid>,
    hashes: Option<&[Vec<u8>]>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "delete from known_devices d using users u
         where ($1::uuid is null or d.user_id = $1) and ($2::bytea[] is null or d.hash = any($2))
             and u.id = d.user_id
             and u.email is not null and not (u.email_verified and u.password_proven)",
        user_id,
        hashes,
    )
    .execute(db)
    .await
    .map(drop)
}

/// Forgets the clients that have logged in to an account, except those with these hashes.
pub async fn forget(
    db: impl PgExecutor<'_>,
    user_id: Uuid,
    except: &[Vec<u8>],
) -> sqlx::Result<()> {
    sqlx::query!(
        "delete from known_devices where user_id = $1 and hash <> all($2)",
        user_id,
        except,
    )
    .execute(db)
    .await
    .map(drop)
}
