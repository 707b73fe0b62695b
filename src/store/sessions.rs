//! Who is logged in: the authority.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::postgres::types::PgInterval;
use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::client::Client;
use crate::store::session_records;
use crate::store::users::{Role, User};
use crate::timestamp;

/// A login that stands.
#[derive(Clone, Debug, Serialize, ToSchema)]
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
    /// How long it stands at most.
    pub lifetime: Duration,
    /// How long it is fresh.
    pub fresh_for: Duration,
    /// Where it was made from.
    pub client: &'a Client,
}

/// A session that stands, and whose it is.
#[derive(Debug)]
pub struct Live {
    /// The account.
    pub user: User,
    /// The session.
    pub session: Session,
    /// Its end however much it is used.
    pub ends_at: OffsetDateTime,
    /// Whether its use should be written down again.
    pub touch_due: bool,
}

/// Which session changes its record.
#[derive(Debug)]
pub struct Renewal<'a> {
    /// The session.
    pub id: Uuid,
    /// The record that it stands on now; it is deleted.
    pub old: &'a str,
    /// The record that it is to stand on.
    pub new: &'a str,
}

/// `query_as!` for statements that give a `Session`. `$fresh` is the parameter that says for how
/// long it is fresh.
macro_rules! query_session {
    ($before:literal, $fresh:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            Session,
            $before
                + " returning id, created_at, last_seen_at, expires_at, authenticated_at + "
                + $fresh
                + r#"::interval as "fresh_until!", remember, transport as "transport: Transport",
                     host(ip) as ip, user_agent, device, true as "current!" "#
            $(, $argument)*
        )
    };
}

/// Makes a session of an account whose row is locked.
pub async fn insert(connection: &mut PgConnection, new: &NewSession<'_>) -> sqlx::Result<Session> {
    query_session!(
        "insert into sessions
             (id, record_id, user_id, transport, remember, expires_at, ends_at, ip, user_agent, device)
         values
             ($1, $2, $3, $4, $5, now() + least($6::interval, $7::interval), now() + $7::interval,
              $8::text::inet, $9, $10)",
        "$11",
        Uuid::now_v7(),
        new.record_id,
        new.user_id,
        new.transport as _,
        new.remember,
        new.idle.map(interval).transpose()?,
        interval(new.lifetime)?,
        new.client.ip.map(|ip| ip.to_string()),
        new.client.user_agent.as_deref(),
        new.client.device(),
        interval(new.fresh_for)?,
    )
    .fetch_one(connection)
    .await
}

/// The session that stands behind a record, with its account: everything a request needs to know
/// of who is calling, in one query.
///
/// `touch_after` is how long a use may stay unwritten.
pub async fn find_live(
    db: impl PgExecutor<'_>,
    record_id: &str,
    transport: Transport,
    fresh_for: Duration,
    touch_after: Duration,
) -> sqlx::Result<Option<Live>> {
    let row = sqlx::query!(
        r#"select
             u.id as user_id, u.username, u.email, u.email_verified, u.name, u.role as "role: Role",
             u.is_active, u.created_at as user_created_at, u.updated_at, u.last_login_at,
             s.id, s.created_at, s.last_seen_at, s.expires_at, s.ends_at, s.remember,
             s.authenticated_at + $3::interval as "fresh_until!", host(s.ip) as ip, s.user_agent,
             s.device, s.last_seen_at < now() - $4::interval as "touch_due!"
           from session_records r
           join sessions s on s.record_id = r.id
           join users u on u.id = s.user_id
           where r.id = $1 and r.expiry_date > now() and s.expires_at > now()
             and s.transport = $2 and u.is_active"#,
        record_id,
        transport as _,
        interval(fresh_for)?,
        interval(touch_after)?,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| Live {
        user: User {
            id: row.user_id,
            username: row.username,
            email: row.email,
            email_verified: row.email_verified,
            name: row.name,
            role: row.role,
            is_active: row.is_active,
            created_at: row.user_created_at,
            updated_at: row.updated_at,
            last_login_at: row.last_login_at,
        },
        session: Session {
            id: row.id,
            created_at: row.created_at,
            last_seen_at: row.last_seen_at,
            expires_at: row.expires_at,
            fresh_until: row.fresh_until,
            remember: row.remember,
            transport,
            ip: row.ip,
            user_agent: row.user_agent,
            device: row.device,
            current: true,
        },
        ends_at: row.ends_at,
        touch_due: row.touch_due,
    }))
}

/// Writes down that a session is in use. Many requests at once write once: a row that is locked is
/// left to whoever has it.
pub async fn touch(
    db: impl PgExecutor<'_>,
    id: Uuid,
    idle: Option<Duration>,
    touch_after: Duration,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update sessions
         set last_seen_at = now(), expires_at = least(ends_at, now() + $2::interval)
         where id = (
             select id from sessions
             where id = $1 and last_seen_at < now() - $3::interval
             for update skip locked
         )",
        id,
        idle.map(interval).transpose()?,
        interval(touch_after)?,
    )
    .execute(db)
    .await
    .map(drop)
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
         set record_id = $3, authenticated_at = now(), last_seen_at = now(), ip = $4::text::inet,
             user_agent = $5, device = $6
         where id = $1 and record_id = $2 and expires_at > now()",
        "$7",
        renewal.id,
        renewal.old,
        renewal.new,
        client.ip.map(|ip| ip.to_string()),
        client.user_agent.as_deref(),
        client.device(),
        interval(fresh_for)?,
    )
    .fetch_optional(&mut *connection)
    .await?;
    if session.is_some() {
        session_records::delete(connection, &[renewal.old.to_owned()]).await?;
    }
    Ok(session)
}

/// Whose session stands on this record, whether or not it has expired.
pub async fn find_owner(
    db: impl PgExecutor<'_>,
    record_id: &str,
    transport: Transport,
) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar!(
        "select user_id from sessions where record_id = $1 and transport = $2",
        record_id,
        transport as _,
    )
    .fetch_optional(db)
    .await
}

/// Ends the session on this record. Its account's row is locked.
pub async fn delete(connection: &mut PgConnection, record_id: &str) -> sqlx::Result<()> {
    let ended = sqlx::query_scalar!(
        "delete from sessions where record_id = $1 returning record_id",
        record_id,
    )
    .fetch_all(&mut *connection)
    .await?;
    session_records::delete(connection, &ended).await
}

/// Ends every session of an account whose row is locked, and returns how many.
pub async fn delete_all(connection: &mut PgConnection, user_id: Uuid) -> sqlx::Result<usize> {
    let ended = sqlx::query_scalar!(
        "delete from sessions where user_id = $1 returning record_id",
        user_id,
    )
    .fetch_all(&mut *connection)
    .await?;
    session_records::delete(connection, &ended).await?;
    Ok(ended.len())
}

/// Deletes up to `limit` expired sessions and their records, and returns how many. Rows that
/// another replica sweeps, or that a request holds, are skipped.
pub async fn sweep(connection: &mut PgConnection, limit: i64) -> sqlx::Result<usize> {
    let ended = sqlx::query_scalar!(
        "delete from sessions where id in (
             select id from sessions where expires_at < now()
             order by expires_at
             limit $1
             for update skip locked
         ) returning record_id",
        limit,
    )
    .fetch_all(&mut *connection)
    .await?;
    session_records::delete(connection, &ended).await?;
    Ok(ended.len())
}

fn interval(duration: Duration) -> sqlx::Result<PgInterval> {
    PgInterval::try_from(duration).map_err(sqlx::Error::Encode)
}
