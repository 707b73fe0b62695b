//! What every request asks of, and does to, the session that it was made with.

use std::time::Duration;

use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Session, Transport, interval};
use crate::client::Client;
use crate::store::users::{Role, User};

/// A session that stands, and whose it is.
#[derive(Debug)]
pub struct Live {
    /// The account.
    pub user: User,
    /// The session.
    pub session: Session,
    /// Its end however much it is used.
    pub ends_at: OffsetDateTime,
    /// Whether sensitive calls may be made without asking for the password.
    pub is_fresh: bool,
    /// Whether the request comes from another client than the password did.
    pub differs: bool,
    /// Whether that was written down already.
    pub is_protected: bool,
    /// Whether its use should be written down again.
    pub touch_due: bool,
}

/// What a request is compared with, and how.
#[derive(Debug)]
pub struct Comparison<'a> {
    /// The client at hand.
    pub client: &'a Client,
    /// Whether it is compared at all.
    pub compare: bool,
    /// How long a session is fresh.
    pub fresh_for: Duration,
    /// How long a use may stay unwritten.
    pub touch_after: Duration,
}

/// How the use of a session is written down.
#[derive(Debug)]
pub struct Touch<'a> {
    /// The record that it was found by; one that was renewed since is left alone.
    pub record_id: &'a str,
    /// How long it stands unused; `None` when that does not end it.
    pub idle: Option<Duration>,
    /// Whether use extends a remembered session.
    pub refresh: bool,
    /// How long a use may stay unwritten.
    pub touch_after: Duration,
    /// The client's network, to be kept if none of its address family is known yet.
    pub network: Option<&'a str>,
    /// How long a record outlives its session.
    pub slack: Duration,
}

/// The session that stands behind a record, with its account: everything a request needs to know
/// of who is calling, in one query.
pub async fn find_live(
    db: impl PgExecutor<'_>,
    record_id: &str,
    transport: Transport,
    comparison: &Comparison<'_>,
) -> sqlx::Result<Option<Live>> {
    let row = sqlx::query!(
        r#"select
             u.id as user_id, u.username, u.email, u.email_verified, u.pending_email, u.name, u.role as "role: Role",
             u.is_active, u.created_at as user_created_at, u.updated_at, u.last_login_at,
             s.id, s.created_at, s.last_seen_at, s.expires_at, s.ends_at, s.remember,
             least(s.authenticated_at + $3::interval, s.protected_at) as "fresh_until!",
             least(s.authenticated_at + $3::interval, s.protected_at) > now() as "is_fresh!",
             host(s.ip) as ip, s.user_agent, s.device,
             s.last_seen_at < now() - $4::interval as "touch_due!",
             coalesce($5 and (
                 s.user_agent is distinct from $6
                 or $7::text::cidr <> case family($7::text::inet)
                     when 4 then s.network4 else s.network6
                 end
             ), false) as "differs!",
             s.protected_at is not null as "is_protected!"
           from session_records r
           join sessions s on s.record_id = r.id
           join users u on u.id = s.user_id
           where r.id = $1 and r.expiry_date > now() and s.expires_at > now()
             and s.transport = $2 and u.is_active"#,
        record_id,
        transport as _,
        interval(comparison.fresh_for)?,
        interval(comparison.touch_after)?,
        comparison.compare,
        comparison.client.user_agent.as_deref(),
        comparison.client.network(),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| Live {
        user: User {
            id: row.user_id,
            username: row.username,
            email: row.email,
            email_verified: row.email_verified,
            pending_email: row.pending_email,
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
        is_fresh: row.is_fresh,
        differs: row.differs,
        is_protected: row.is_protected,
        touch_due: row.touch_due,
    }))
}

/// Writes down that a session is in use. Many requests at once write once: a row that is locked is
/// left to whoever has it.
pub async fn touch(
    connection: &mut PgConnection,
    live: &mut Live,
    touch: &Touch<'_>,
) -> sqlx::Result<()> {
    let touched = sqlx::query!(
        r#"update sessions
         set last_seen_at = now(),
             ends_at = case when $4 then coalesce(now() + remember_for, ends_at) else ends_at end,
             expires_at = least(
                 case when $4 then coalesce(now() + remember_for, ends_at) else ends_at end,
                 now() + $2::interval
             ),
             network4 = case family($5::text::inet) when 4 then coalesce(network4, $5::text::cidr) else network4 end,
             network6 = case family($5::text::inet) when 6 then coalesce(network6, $5::text::cidr) else network6 end
         where id = (
             select id from sessions
             where id = $1 and record_id = $6 and expires_at > now()
                 and last_seen_at < now() - $3::interval
             for update skip locked
         )
         returning ends_at, expires_at, last_seen_at"#,
        live.session.id,
        touch.idle.map(interval).transpose()?,
        interval(touch.touch_after)?,
        touch.refresh,
        touch.network,
        touch.record_id,
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(touched) = touched else { return Ok(()) };
    live.ends_at = touched.ends_at;
    live.session.expires_at = touched.expires_at;
    live.session.last_seen_at = touched.last_seen_at;
    if touch.refresh {
        // The session would fall with its record.
        sqlx::query!(
            "update session_records
             set expiry_date = greatest(expiry_date, $2::timestamptz + $3::interval)
             where id = $1",
            touch.record_id,
            touched.ends_at,
            interval(touch.slack)?,
        )
        .execute(connection)
        .await?;
    }
    Ok(())
}

/// Since when a session is not fresh.
#[derive(Debug)]
pub struct Protected {
    /// When that was first written down.
    pub at: OffsetDateTime,
    /// Whether it was just now.
    pub is_first: bool,
}

/// Writes down that a session was used by another client than the one that gave the password, if
/// nobody did yet. `None` when the session has ended, or was renewed since.
pub async fn protect(
    connection: &mut PgConnection,
    id: Uuid,
    record_id: &str,
) -> sqlx::Result<Option<Protected>> {
    sqlx::query_as!(
        Protected,
        r#"update sessions set protected_at = coalesce(protected_at, now())
         where id = $1 and record_id = $2
         returning protected_at as "at!", protected_at = now() as "is_first!""#,
        id,
        record_id,
    )
    .fetch_optional(connection)
    .await
}
