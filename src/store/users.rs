//! People and their accounts.

use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::names;
use crate::timestamp;

/// `query_as!` for statements that give a `User`: what stands before and after its columns.
macro_rules! query_user {
    ($before:literal, $after:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            User,
            $before
                + r#" id, username, email, email_verified, password_proven, pending_email, name,
                      role as "role: Role", is_active, must_change_password, created_at, updated_at,
                      last_login_at "#
                + $after
            $(, $argument)*
        )
    };
}

mod admins;
mod email;
mod list;
mod login;
mod making;

pub use self::admins::{admin_hashes, any_admin, insert_first_admin};
pub use self::email::{
    drop_pending_email, find_id_by_email, is_owner_proven, lock_active_by_email,
    take_pending_email, verify_email,
};
pub use self::list::{Filter, Stretch, find_beyond, list};
pub use self::login::{
    Credentials, FIRST_CREDENTIAL_VERSION, find_credentials, find_credentials_of, lock_verified,
    record_login, record_login_by_mail, rehash,
};
pub use self::making::{ImportedUser, NewUser, has_both_names, import, insert};

/// An account.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({"id": "019a5f3c-7a10-7c60-9d6e-0c8f6f1a2b3c", "username": "alice", "email": "alice@example.com", "email_verified": false, "pending_email": null, "name": "Alice", "role": "user", "is_active": true, "must_change_password": false, "created_at": "2026-11-21T11:12:19Z", "updated_at": "2026-11-21T11:12:19Z", "last_login_at": "2026-11-21T11:12:20Z"}))]
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
    /// Whether the person who chose the password is known to be the one who reads the address's mail.
    #[serde(skip)]
    pub password_proven: bool,
    /// The address that takes the place of `email` as soon as it is verified; null when none is to.
    #[schema(required)]
    pub pending_email: Option<String>,
    /// How the person wants to be called.
    #[schema(required, example = "Alice")]
    pub name: Option<String>,
    /// What the account may do.
    pub role: Role,
    /// Whether the account may log in.
    pub is_active: bool,
    /// Whether every call but `GET /me`, `GET /session`, `PUT /me/password` and `POST /logout` is a 403
    /// `password_change_required`.
    pub must_change_password: bool,
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

impl User {
    /// Whether the address is verified, and known to be that of the person who chose the password. Somebody else may
    /// have registered with it, and its owner may have confirmed it.
    #[must_use]
    pub fn owns_email(&self) -> bool {
        self.email_verified && self.password_proven
    }

    /// What it is called, in all ways.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        names::given([&self.username, &self.email, &self.name])
    }
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
    /// May read and change its own account
    #[default]
    User,
    /// May also read and change all other accounts
    Admin,
}

impl Role {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Admin => "admin",
        }
    }
}

/// What is to become of an account; names are in their stored form. `None` keeps a field,
/// `Some(None)` clears it.
#[derive(Debug, Default)]
pub struct Changes {
    /// The username.
    pub username: Option<Option<String>>,
    /// The email address; another one is not verified, and nothing is pending any more.
    pub email: Option<Option<String>>,
    /// The address that is to be verified.
    pub pending_email: Option<Option<String>>,
    /// The display name.
    pub name: Option<Option<String>>,
    /// What it may do.
    pub role: Option<Role>,
    /// Whether it may log in.
    pub is_active: Option<bool>,
    /// The hash of its password. With a new one, and when the account is disabled, an address that is to
    /// be verified is dropped: whoever asked for it may be the one who is to be kept out.
    pub password_hash: Option<String>,
    /// Whether its owner must choose a new password before anything else.
    pub must_change_password: Option<bool>,
}

impl Changes {
    /// Whether nothing is given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields().is_empty() && self.password_hash.is_none()
    }

    /// Keeps only what differs from the account as it is. The address that it has ends the wait for another.
    pub fn drop_unchanged(&mut self, user: &User) {
        if self.email.as_ref() == Some(&user.email) {
            self.pending_email = user.pending_email.is_some().then_some(None);
        }
        self.username.take_if(|username| *username == user.username);
        self.email.take_if(|email| *email == user.email);
        self.name.take_if(|name| *name == user.name);
        self.role.take_if(|role| *role == user.role);
        self.is_active.take_if(|is_active| *is_active == user.is_active);
        self.must_change_password.take_if(|must| *must == user.must_change_password);
    }

    /// The names of the fields that are given, but for the password.
    #[must_use]
    pub fn fields(&self) -> Vec<&'static str> {
        let given = [
            ("username", self.username.is_some()),
            ("email", self.email.is_some()),
            ("pending_email", self.pending_email.is_some()),
            ("name", self.name.is_some()),
            ("role", self.role.is_some()),
            ("is_active", self.is_active.is_some()),
            ("must_change_password", self.must_change_password.is_some()),
        ];
        given.into_iter().filter(|(_, given)| *given).map(|(name, _)| name).collect()
    }
}

/// One account.
pub async fn find(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Option<User>> {
    query_user!("select", "from users where id = $1", id).fetch_optional(db).await
}

/// Locks the rows of these accounts, in an order that all callers share.
pub async fn lock(connection: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<()> {
    sqlx::query!("select id from users where id = any($1) order by id for no key update", ids)
        .fetch_all(connection)
        .await
        .map(drop)
}

/// Locks the row of an account, and of every active admin if so asked, in the order of [`lock`].
pub async fn lock_with_admins(
    connection: &mut PgConnection,
    id: Uuid,
    with_admins: bool,
) -> sqlx::Result<Vec<User>> {
    query_user!(
        "select",
        "from users where id = $1 or ($2 and role = 'admin' and is_active)
         order by id for no key update",
        id,
        with_admins,
    )
    .fetch_all(connection)
    .await
}

/// Changes an account; what is `None` is kept. The row is locked.
pub async fn update(db: impl PgExecutor<'_>, id: Uuid, changes: &Changes) -> sqlx::Result<User> {
    query_user!(
        "update users set
             username = case when $2 then $3 else username end,
             email = case when $4 then $5 else email end,
             email_verified = email_verified and not ($4 and email is distinct from $5),
             password_proven = password_proven and not ($4 and email is distinct from $5),
             pending_email = case
                 when $6 then $7
                 when $4 or $12::text is not null or not $11 then null
                 else pending_email
             end,
             name = case when $8 then $9 else name end,
             role = coalesce($10, role),
             is_active = coalesce($11, is_active),
             password_hash = coalesce($12, password_hash),
             must_change_password = coalesce($13, must_change_password),
             updated_at = now()
         where id = $1 returning",
        "",
        id,
        changes.username.is_some(),
        changes.username.as_ref().and_then(Option::as_deref),
        changes.email.is_some(),
        changes.email.as_ref().and_then(Option::as_deref),
        changes.pending_email.is_some(),
        changes.pending_email.as_ref().and_then(Option::as_deref),
        changes.name.is_some(),
        changes.name.as_ref().and_then(Option::as_deref),
        changes.role as _,
        changes.is_active,
        changes.password_hash.as_deref(),
        changes.must_change_password,
    )
    .fetch_one(db)
    .await
}

/// Whether an account has this username.
pub async fn has_username(db: impl PgExecutor<'_>, username: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from users where username = $1) as "has!""#,
        username,
    )
    .fetch_one(db)
    .await
}

/// Deletes an account whose row is locked and whose sessions have ended.
pub async fn delete(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<()> {
    sqlx::query!("delete from users where id = $1", id).execute(db).await.map(drop)
}
