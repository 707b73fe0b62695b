//! Who is logged in: the authority.

mod count;
mod live;
mod touch;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::client::Client;
use crate::page::Paging;
use crate::store::{interval, session_records};
use crate::timestamp;

pub use self::count::count;
pub use self::live::{Live, Wanted, find_live};
pub use self::touch::{Protected, Touch, Use, protect, touch};

/// A login that stands.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({"id": "019a5f3c-7a28-70f2-8a51-5be1d0a4c7e9", "created_at": "2026-11-21T11:12:20Z", "last_seen_at": "2026-11-21T11:12:20Z", "expires_at": "2026-11-21T23:12:20Z", "fresh_until": "2026-11-21T11:27:20Z", "remember": false, "transport": "cookie", "ip": "203.0.113.9", "user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "device": "Firefox on Linux", "current": true}))]
pub struct Session {
    /// Names the session; it is not its secret.
    pub id: Uuid,
    /// When the person logged in.
    #[serde(serialize_with = "timestamp::serialize")]
    pub created_at: OffsetDateTime,
    /// When the session was last used, to the minute.
    #[serde(serialize_with = "timestamp::serialize")]
    pub last_seen_at: OffsetDateTime,
    /// When the session ends if it is not used from now on.
    #[serde(serialize_with = "timestamp::serialize")]
    pub expires_at: OffsetDateTime,
    /// Until when sensitive calls are taken without asking for the password; past when they are not.
    #[serde(serialize_with = "timestamp::serialize")]
    pub fresh_until: OffsetDateTime,
    /// Whether the session outlives the browser.
    pub remember: bool,
    /// How the client holds the session's secret.
    pub transport: Transport,
    /// The address that the client last gave the password from.
    #[schema(required, example = "203.0.113.9")]
    pub ip: Option<String>,
    /// The `User-Agent` that the client last gave the password with.
    #[schema(required)]
    pub user_agent: Option<String>,
    /// The user agent in words.
    #[schema(required, example = "Firefox on Linux")]
    pub device: Option<String>,
    /// Whether this request was made with the session.
    pub current: bool,
}

/// How a client holds the secret of its session.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, sqlx::Type,
)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum Transport {
    /// In a cookie that scripts cannot read, for browsers.
    #[default]
    Cookie,
    /// As a bearer token, for apps.
    Token,
}

impl Transport {
    fn as_str(self) -> &'static str {
        match self {
            Self::Cookie => "cookie",
            Self::Token => "token",
        }
    }
}

/// A session that is to be made.
#[derive(Debug)]
pub struct NewSession<'a> {
    /// The hashed id that the client's secret comes to.
    pub record_id: &'a str,
    /// Whose it is.
    pub user_id: Uuid,
    /// How the client holds the secret.
    pub transport: Transport,
    /// Whether it outlives the browser.
    pub remember: bool,
    /// How long it stands unused; `None` when that does not end it.
    pub idle: Option<Duration>,
    /// How long it stands at most, or, if use extends it, after the last use.
    pub lifetime: Duration,
    /// How long it is fresh.
    pub fresh_for: Duration,
    /// Where it was made from.
    pub client: &'a Client,
}

/// A session, and whose it is.
#[derive(Clone, Copy, Debug)]
pub struct Owned {
    /// The session.
    pub id: Uuid,
    /// The account.
    pub user_id: Uuid,
}

/// Which session changes its record.
#[derive(Debug)]
pub struct Renewal<'a> {
    /// The session.
    pub id: Uuid,
    /// The record that it has now.
    pub old: &'a str,
    /// How long the old record still finds the session. `None` deletes it.
    pub grace: Option<Duration>,
    /// The record that it is to stand on.
    pub new: &'a str,
    /// How long it stands unused; `None` when that does not end it.
    pub idle: Option<Duration>,
    /// Its end however much it is used.
    pub ends_at: OffsetDateTime,
}

/// `query_as!` for statements that give `Session`s: what stands before and after the columns, which
/// parameter says how long they are fresh, and what tells whether one is the current one.
macro_rules! query_session {
    ($before:literal, fresh $fresh:literal, current $current:literal, $after:literal
     $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            Session,
            $before
                + " id, created_at, last_seen_at, expires_at as \"expires_at!\", least(authenticated_at + "
                + $fresh
                + r#"::interval, protected_at) as "fresh_until!", remember,
                     transport as "transport: Transport", host(ip) as ip, user_agent, device, "#
                + $current
                + r#" as "current!" "#
                + $after
            $(, $argument)*
        )
    };
}

/// Makes a session of an account whose row is locked.
pub async fn insert(connection: &mut PgConnection, new: &NewSession<'_>) -> sqlx::Result<Session> {
    query_session!(
        "insert into sessions
             (id, record_id, user_id, transport, remember, expires_at, ends_at, remember_for,
              ip, network4, network6, user_agent, device)
         values
             ($1, $2, $3, $4, $5, now() + least($6::interval, $7::interval), now() + $7::interval,
              case when $5 then $7::interval end, $8::text::inet,
              case family($9::text::inet) when 4 then $9::text::cidr end,
              case family($9::text::inet) when 6 then $9::text::cidr end, $10, $11) returning",
        fresh "$12", current "true", "",
        Uuid::now_v7(),
        new.record_id,
        new.user_id,
        new.transport as _,
        new.remember,
        new.idle.map(interval).transpose()?,
        interval(new.lifetime)?,
        new.client.ip.map(|ip| ip.to_string()),
        new.client.network(),
        new.client.user_agent.as_deref(),
        new.client.device(),
        interval(new.fresh_for)?,
    )
    .fetch_one(connection)
    .await
}

/// Gives a session a new record, and with it a new secret, because the password was given again.
/// The account's row is locked. `None` when the session no longer stands on `old`.
pub async fn renew(
    connection: &mut PgConnection,
    renewal: &Renewal<'_>,
    client: &Client,
    fresh_for: Duration,
) -> sqlx::Result<Option<Session>> {
    let session = query_session!(
        "update sessions
         set record_id = $3, authenticated_at = now(), last_seen_at = now(), protected_at = null,
             expires_at = least(ends_at, now() + $9::interval, $10::timestamptz),
             ip = $4::text::inet,
             network4 = case family($5::text::inet) when 4 then $5::text::cidr end,
             network6 = case family($5::text::inet) when 6 then $5::text::cidr end,
             user_agent = $6, device = $7
         where id = $1 and record_id = $2 and expires_at > now() returning",
        fresh "$8", current "true", "",
        renewal.id,
        renewal.old,
        renewal.new,
        client.ip.map(|ip| ip.to_string()),
        client.network(),
        client.user_agent.as_deref(),
        client.device(),
        interval(fresh_for)?,
        renewal.idle.map(interval).transpose()?,
        renewal.ends_at,
    )
    .fetch_optional(&mut *connection)
    .await?;
    if session.is_some() {
        match renewal.grace {
            Some(grace) => {
                session_records::replace(connection, renewal.old, renewal.new, grace).await?;
            }
            None => session_records::delete(connection, &[renewal.old.to_owned()]).await?,
        }
    }
    Ok(session)
}

/// A page of an account's sessions that stand, the newest first; `current` is the caller's own.
pub async fn list(
    db: impl PgExecutor<'_>,
    user_id: Uuid,
    current: Option<Uuid>,
    paging: &Paging,
    by: Use,
) -> sqlx::Result<Vec<Session>> {
    query_session!(
        "select",
        fresh "$2", current "(id is not distinct from $3)",
        "from (
             select id, created_at, last_seen_at, authenticated_at, protected_at, remember, transport, ip,
                 user_agent, device,
                 least(expires_at, created_at + case when remember then $6::interval end) as expires_at
             from sessions
             where user_id = $1 and id < $4
         ) sessions
         where expires_at > now()
         order by id desc
         limit $5",
        user_id,
        interval(by.fresh_for)?,
        current,
        paging.before,
        paging.limit + 1,
        by.remember_max.map(interval).transpose()?,
    )
    .fetch_all(db)
    .await
}

/// The session of this record and its account, whether or not the session has expired. A replaced record finds it until
/// it expires.
pub async fn find_owner(
    db: impl PgExecutor<'_>,
    record_id: &str,
    transport: Transport,
) -> sqlx::Result<Option<Owned>> {
    sqlx::query_as!(
        Owned,
        "select id, user_id from sessions
         where record_id = coalesce(
             (select renewed_as from session_records where id = $1 and expiry_date > now()), $1
         ) and transport = $2",
        record_id,
        transport as _,
    )
    .fetch_optional(db)
    .await
}

/// Ends one session of an account whose row is locked; `false` when it has no such session.
pub async fn delete(connection: &mut PgConnection, owned: Owned) -> sqlx::Result<bool> {
    let ended = sqlx::query_scalar!(
        "delete from sessions where id = $1 and user_id = $2 returning record_id",
        owned.id,
        owned.user_id,
    )
    .fetch_all(&mut *connection)
    .await?;
    session_records::delete(connection, &ended).await?;
    Ok(!ended.is_empty())
}

/// Deletes a session of an account whose row is locked, if it still has this record.
pub async fn delete_current(
    connection: &mut PgConnection,
    owned: Owned,
    record_id: &str,
) -> sqlx::Result<bool> {
    let deleted = sqlx::query_scalar!(
        "delete from sessions where id = $1 and user_id = $2 and record_id = $3 and expires_at > now()
         returning record_id",
        owned.id,
        owned.user_id,
        record_id,
    )
    .fetch_all(&mut *connection)
    .await?;
    session_records::delete(connection, &deleted).await?;
    Ok(!deleted.is_empty())
}

/// Deletes live sessions of an account whose row is locked, those unused longest first, until `limit` are left, and
/// returns how many. It keeps `but`, which counts, and deletes at most `most`.
pub async fn delete_beyond(
    connection: &mut PgConnection,
    user_id: Uuid,
    but: Option<Uuid>,
    limit: i64,
    most: i64,
) -> sqlx::Result<usize> {
    let deleted = sqlx::query_scalar!(
        "delete from sessions where id = any(array(
             select id from (
                 select id, last_seen_at from sessions
                 where user_id = $1 and expires_at > now() and id is distinct from $2
                 order by last_seen_at desc, id desc
                 offset $3
             ) beyond
             order by last_seen_at, id
             limit $4
         ))
         returning record_id",
        user_id,
        but,
        limit - i64::from(but.is_some()),
        most,
    )
    .fetch_all(&mut *connection)
    .await?;
    session_records::delete(connection, &deleted).await?;
    Ok(deleted.len())
}

/// Ends every session of an account whose row is locked, but for one, and returns how many. Of that one, old secrets end.
pub async fn delete_all(
    connection: &mut PgConnection,
    user_id: Uuid,
    but: Option<Uuid>,
) -> sqlx::Result<usize> {
    let ended = sqlx::query_scalar!(
        "delete from sessions where user_id = $1 and id is distinct from $2 returning record_id",
        user_id,
        but,
    )
    .fetch_all(&mut *connection)
    .await?;
    if let Some(kept) = but {
        session_records::delete_old(&mut *connection, kept).await?;
    }
    session_records::delete(connection, &ended).await?;
    Ok(ended.len())
}
