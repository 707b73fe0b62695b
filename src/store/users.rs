//! People and their accounts.

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::names::Identifier;
use crate::timestamp;

/// An account, as everybody may see it who may see it at all.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct User {
    /// A UUIDv7, so ids sort by when they were made.
    pub id: Uuid,
    /// 3 to 32 of `a-z 0-9 . _ -`; null when the account has only an email address.
    #[schema(required, example = "alice")]
    pub username: Option<String>,
    /// In lower case; null when the account has only a username.
    #[schema(required, example = "alice@example.com")]
    pub email: Option<String>,
    /// Whether the email address is known to be the person's own.
    pub email_verified: bool,
    /// How the person wants to be called.
    #[schema(required, example = "Alice")]
    pub name: Option<String>,
    /// What the account may do.
    pub role: Role,
    /// Whether the account may log in.
    pub is_active: bool,
    /// When the account was made.
    #[serde(serialize_with = "timestamp::serialize")]
    pub created_at: OffsetDateTime,
    /// When one of the fields above was last changed.
    #[serde(serialize_with = "timestamp::serialize")]
    pub updated_at: OffsetDateTime,
    /// When somebody last logged in to the account; null before the first time.
    #[serde(serialize_with = "timestamp::serialize_option")]
    #[schema(required)]
    pub last_login_at: Option<OffsetDateTime>,
}

/// What an account may do.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    ToSchema,
    sqlx::Type,
    clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum Role {
    /// Whatever concerns the own account.
    #[default]
    User,
    /// Also whatever concerns the accounts of others.
    Admin,
}

/// What is needed to check a login. It cannot be serialised.
#[derive(Debug)]
pub struct Credentials {
    /// The account's id.
    pub user_id: Uuid,
    /// The stored hash.
    pub password_hash: SecretString,
    /// Whether the account may log in.
    pub is_active: bool,
}

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
}

/// Which accounts to list.
#[derive(Debug)]
pub struct Filter<'a> {
    /// A literal part of username, email address or name, without case.
    pub q: Option<&'a str>,
    /// Only accounts with this role.
    pub role: Option<Role>,
    /// Only accounts that may, or may not, log in.
    pub is_active: Option<bool>,
    /// Only accounts older than this one.
    pub before: Option<Uuid>,
    /// How many at the most.
    pub limit: i64,
}

/// `query_as!` for statements that give a `User`: what stands before and after its columns.
macro_rules! query_user {
    ($before:literal, $after:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            User,
            $before
                + r#" id, username, email, email_verified, name, role as "role: Role", is_active,
                      created_at, updated_at, last_login_at "#
                + $after
            $(, $argument)*
        )
    };
}

/// Makes an account.
pub async fn insert(db: impl PgExecutor<'_>, user: &NewUser, hash: &str) -> sqlx::Result<User> {
    query_user!(
        "insert into users (id, username, email, name, role, password_hash)
         values ($1, $2, $3, $4, $5, $6) returning",
        "",
        Uuid::now_v7(),
        user.username.as_deref(),
        user.email.as_deref(),
        user.name.as_deref(),
        user.role as _,
        hash,
    )
    .fetch_one(db)
    .await
}

/// Makes an admin if there is none and nobody has the names; `None` when nothing was made.
pub async fn insert_first_admin(
    db: impl PgExecutor<'_>,
    user: &NewUser,
    hash: &str,
) -> sqlx::Result<Option<User>> {
    query_user!(
        "insert into users (id, username, email, name, role, password_hash)
         select $1, $2, $3, $4, 'admin', $5
         where not exists (select from users where role = 'admin')
         on conflict do nothing returning",
        "",
        Uuid::now_v7(),
        user.username.as_deref(),
        user.email.as_deref(),
        user.name.as_deref(),
        hash,
    )
    .fetch_optional(db)
    .await
}

/// Whether there is an admin.
pub async fn any_admin(db: impl PgExecutor<'_>) -> sqlx::Result<bool> {
    sqlx::query_scalar!(r#"select exists (select from users where role = 'admin') as "any!""#)
        .fetch_one(db)
        .await
}

/// One account.
pub async fn find(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Option<User>> {
    query_user!("select", "from users where id = $1", id).fetch_optional(db).await
}

/// What is needed to check a login to the account with this name.
pub async fn find_credentials(
    db: impl PgExecutor<'_>,
    identifier: &Identifier,
) -> sqlx::Result<Option<Credentials>> {
    let (username, email) = match identifier {
        Identifier::Username(username) => (Some(username), None),
        Identifier::Email(email) => (None, Some(email)),
    };
    sqlx::query_as!(
        Credentials,
        "select id as user_id, password_hash, is_active from users
         where username = $1 or email = $2",
        username,
        email,
    )
    .fetch_optional(db)
    .await
}

/// What is needed to check the password of somebody who is known.
pub async fn find_credentials_of(
    db: impl PgExecutor<'_>,
    id: Uuid,
) -> sqlx::Result<Option<Credentials>> {
    sqlx::query_as!(
        Credentials,
        "select id as user_id, password_hash, is_active from users where id = $1",
        id,
    )
    .fetch_optional(db)
    .await
}

/// A page of accounts, the newest first.
pub async fn list(db: impl PgExecutor<'_>, filter: &Filter<'_>) -> sqlx::Result<Vec<User>> {
    // ICU's rules fold every letter; those of the locale C, which the embedded server has, only
    // a to z.
    query_user!(
        "select",
        r#"from users
           where ($1::text is null or position(
                 lower($1 collate "und-x-icu")
                 in lower(concat_ws(E'\n', username, email, name) collate "und-x-icu")
             ) > 0)
             and ($2::text is null or role = $2)
             and ($3::bool is null or is_active = $3)
             and ($4::uuid is null or id < $4)
           order by id desc
           limit $5"#,
        filter.q,
        filter.role as _,
        filter.is_active,
        filter.before,
        filter.limit,
    )
    .fetch_all(db)
    .await
}

/// Locks the rows of these accounts, in an order that all callers share.
pub async fn lock(connection: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<()> {
    sqlx::query!("select id from users where id = any($1) order by id for no key update", ids)
        .fetch_all(connection)
        .await
        .map(drop)
}

/// Locks the account's row if it still is as it was when the password was checked.
pub async fn lock_verified(
    connection: &mut PgConnection,
    verified: &Credentials,
) -> sqlx::Result<bool> {
    sqlx::query!(
        "select id from users where id = $1 and is_active and password_hash = $2
         for no key update",
        verified.user_id,
        verified.hash(),
    )
    .fetch_optional(connection)
    .await
    .map(|row| row.is_some())
}

/// Writes down a login, if the account still is as it was when the password was checked, and
/// locks its row. `rehashed` takes the place of the stored hash.
///
/// `None` when the account was disabled or deleted or got another password meanwhile.
pub async fn record_login(
    connection: &mut PgConnection,
    credentials: &Credentials,
    rehashed: Option<&str>,
) -> sqlx::Result<Option<User>> {
    query_user!(
        "update users set last_login_at = now(), password_hash = coalesce($3, password_hash)
         where id = $1 and is_active and password_hash = $2 returning",
        "",
        credentials.user_id,
        credentials.hash(),
        rehashed,
    )
    .fetch_optional(connection)
    .await
}

/// Stores the hash of a new password; `false` when there is no such account.
pub async fn set_password(db: impl PgExecutor<'_>, id: Uuid, hash: &str) -> sqlx::Result<bool> {
    sqlx::query!("update users set password_hash = $2, updated_at = now() where id = $1", id, hash,)
        .execute(db)
        .await
        .map(|done| done.rows_affected() == 1)
}

/// Lets an account log in, or no longer; `false` when there is no such account.
pub async fn set_active(db: impl PgExecutor<'_>, id: Uuid, is_active: bool) -> sqlx::Result<bool> {
    sqlx::query!(
        "update users set is_active = $2, updated_at = now() where id = $1",
        id,
        is_active,
    )
    .execute(db)
    .await
    .map(|done| done.rows_affected() == 1)
}

impl Credentials {
    /// The stored hash, to be compared or verified.
    #[must_use]
    pub fn hash(&self) -> &str {
        secrecy::ExposeSecret::expose_secret(&self.password_hash)
    }
}
