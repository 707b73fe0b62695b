//! API tokens, known by their hashes.

use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::page::Paging;
use crate::store::in_order;
use crate::store::users::{Role, User};
use crate::timestamp;

/// A token that programs call with; its secret is not here.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({"id": "019a5f3c-8b01-7d11-9f30-2f4a6b8c0d1e", "name": "backup script", "scopes": ["read"], "created_at": "2026-11-21T11:12:20Z", "expires_at": "2027-12-31T00:00:00Z", "last_used_at": null}))]
pub struct ApiToken {
    /// Names the token; it is not its secret.
    pub id: Uuid,
    /// What its owner calls it.
    #[schema(example = "backup script")]
    pub name: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// When it was made.
    #[serde(serialize_with = "timestamp::serialize")]
    pub created_at: OffsetDateTime,
    /// When it ends; null when it does not end by itself.
    #[serde(serialize_with = "timestamp::serialize_option")]
    #[schema(required)]
    pub expires_at: Option<OffsetDateTime>,
    /// When it was last used, to the minute; null before the first time.
    #[serde(serialize_with = "timestamp::serialize_option")]
    #[schema(required)]
    pub last_used_at: Option<OffsetDateTime>,
}

/// What a token may do.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    ToSchema,
    sqlx::Type,
    clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum Scope {
    /// Calls that only read
    Read,
    /// Calls that change something
    Write,
    /// Calls for admins only; the owner must be an admin
    Admin,
}

impl Scope {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }
}

/// A token that is to be made.
#[derive(Debug)]
pub struct NewApiToken<'a> {
    /// Whose it is.
    pub user_id: Uuid,
    /// What its owner calls it.
    pub name: &'a str,
    /// The hash of its secret.
    pub hash: &'a [u8],
    /// What it may do.
    pub scopes: &'a [Scope],
    /// When it ends, if it does.
    pub expires_at: Option<OffsetDateTime>,
}

/// Makes a token.
pub async fn insert(db: impl PgExecutor<'_>, new: &NewApiToken<'_>) -> sqlx::Result<ApiToken> {
    sqlx::query_as!(
        ApiToken,
        r#"insert into api_tokens (id, user_id, name, hash, scopes, expires_at)
           values ($1, $2, $3, $4, $5, $6)
           returning id, name, scopes as "scopes: Vec<Scope>", created_at, expires_at, last_used_at"#,
        Uuid::now_v7(),
        new.user_id,
        new.name,
        new.hash,
        new.scopes.iter().map(|scope| scope.as_str().to_owned()).collect::<Vec<_>>() as _,
        new.expires_at,
    )
    .fetch_one(db)
    .await
}

/// A page of an account's tokens, the newest first; those that have ended too.
pub async fn list(
    db: impl PgExecutor<'_>,
    user_id: Uuid,
    paging: &Paging,
) -> sqlx::Result<Vec<ApiToken>> {
    sqlx::query_as!(
        ApiToken,
        r#"select id, name, scopes as "scopes: Vec<Scope>", created_at, expires_at, last_used_at
           from api_tokens
           where user_id = $1 and id < $2
           order by id desc
           limit $3"#,
        user_id,
        paging.before,
        paging.limit + 1,
    )
    .fetch_all(db)
    .await
}

/// Ends a token of an account; `false` when the account has no such token.
pub async fn delete(db: impl PgExecutor<'_>, user_id: Uuid, id: Uuid) -> sqlx::Result<bool> {
    sqlx::query!("delete from api_tokens where user_id = $1 and id = $2", user_id, id)
        .execute(db)
        .await
        .map(|done| done.rows_affected() == 1)
}

/// Deletes every token of an account, and returns how many were valid.
pub async fn delete_all(db: impl PgExecutor<'_>, user_id: Uuid) -> sqlx::Result<i64> {
    delete_with(db, user_id, None).await
}

/// Deletes the tokens of an account that have the scope `admin`, and returns how many were valid.
pub async fn delete_admin(db: impl PgExecutor<'_>, user_id: Uuid) -> sqlx::Result<i64> {
    delete_with(db, user_id, Some(Scope::Admin)).await
}

async fn delete_with(
    db: impl PgExecutor<'_>,
    user_id: Uuid,
    scope: Option<Scope>,
) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"with deleted as (
             delete from api_tokens where user_id = $1 and ($2::text is null or $2 = any(scopes))
             returning expires_at
         )
         select count(*) filter (where expires_at is null or expires_at > now()) as "count!" from deleted"#,
        user_id,
        scope.map(Scope::as_str),
    )
    .fetch_one(db)
    .await
}

/// Deletes valid tokens of an account whose row is locked, those unused longest first, until `limit` are left, and
/// returns how many. It deletes at most `most`.
pub async fn delete_beyond(
    db: impl PgExecutor<'_>,
    user_id: Uuid,
    limit: i64,
    most: i64,
) -> sqlx::Result<u64> {
    sqlx::query!(
        "delete from api_tokens where id = any(array(
             select id from (
                 select id, coalesce(last_used_at, created_at) as used_at from api_tokens
                 where user_id = $1 and (expires_at is null or expires_at > now())
                 order by used_at desc, id desc
                 offset $2
             ) beyond
             order by used_at, id
             limit $3
         ))",
        user_id,
        limit,
        most,
    )
    .execute(db)
    .await
    .map(|done| done.rows_affected())
}

/// How many valid tokens an account has.
pub async fn count_valid(db: impl PgExecutor<'_>, user_id: Uuid) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"select count(*) as "count!" from api_tokens
         where user_id = $1 and (expires_at is null or expires_at > now())"#,
        user_id,
    )
    .fetch_one(db)
    .await
}

/// A token that stands, and whose it is.
#[derive(Debug)]
pub struct Live {
    /// The token.
    pub id: Uuid,
    /// The account.
    pub user: User,
    /// What the token may do.
    pub scopes: Vec<Scope>,
    /// Whether its use should be written down again: at most once a minute.
    pub touch_due: bool,
}

/// The tokens that stand with these hashes, with their accounts, in their order.
pub async fn find_live(
    db: &mut PgConnection,
    hashes: &[Vec<u8>],
) -> sqlx::Result<Vec<Option<Live>>> {
    // As in sessions::find_live: planned once, and each looked up by its index.
    let rows = sqlx::query!(
        r#"select w.at as "at!", live.*
           from (select * from unnest($1::bytea[]) with ordinality as w (hash, at) limit $2) w
           cross join lateral (
             select t.id as token_id, t.scopes as "scopes: Vec<Scope>",
                 coalesce(t.last_used_at < now() - interval '1 minute', true) as "touch_due!",
                 u.id, u.username, u.email, u.email_verified, u.password_proven, u.pending_email, u.name, u.role as "role: Role",
                 u.is_active, u.must_change_password, u.created_at, u.updated_at, u.last_login_at
             from api_tokens t join users u on u.id = t.user_id
             where t.hash = w.hash and (t.expires_at is null or t.expires_at > now()) and u.is_active
             limit 1
           ) live"#,
        hashes,
        hashes.len() as i64,
    )
    .fetch_all(db)
    .await?;
    let found = rows.into_iter().map(|row| {
        let user = User {
            id: row.id,
            username: row.username,
            email: row.email,
            email_verified: row.email_verified,
            password_proven: row.password_proven,
            pending_email: row.pending_email,
            name: row.name,
            role: row.role,
            is_active: row.is_active,
            must_change_password: row.must_change_password,
            created_at: row.created_at,
            updated_at: row.updated_at,
            last_login_at: row.last_login_at,
        };
        (row.at, Live { id: row.token_id, user, scopes: row.scopes, touch_due: row.touch_due })
    });
    Ok(in_order(hashes.len(), found))
}

/// Writes down that tokens are in use, those that nobody holds. Nobody waits for a disk or a standby to have it.
pub async fn touch(db: impl PgExecutor<'_>, ids: &[Uuid]) -> sqlx::Result<()> {
    sqlx::query!(
        "update api_tokens t set last_used_at = now()
         from (
             select held.id
             from api_tokens held
             cross join set_config('synchronous_commit', 'off', true)
             where held.id = any($1)
                 and coalesce(held.last_used_at < now() - interval '1 minute', true)
             for update of held skip locked
         ) used
         where t.id = used.id",
        ids,
    )
    .execute(db)
    .await
    .map(drop)
}
