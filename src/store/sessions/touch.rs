//! What requests do to the sessions that they are made with.

use std::time::Duration;

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::store::{each, interval};

/// What use does to sessions; the same for all.
#[derive(Clone, Copy, Debug)]
pub struct Use {
    /// How long a session is fresh.
    pub fresh_for: Duration,
    /// How long one stands unused, unless it is remembered.
    pub idle: Duration,
    /// How long after its login a remembered one ends, if activity extends it.
    pub remember_max: Option<Duration>,
    /// How long a record outlives its session.
    pub record_slack: Duration,
    /// How long a use may stay unwritten.
    pub touch_after: Duration,
}

/// A use of a session that is to be written down.
#[derive(Debug)]
pub struct Touch {
    /// The session.
    pub id: Uuid,
    /// The record that it was found by; one that was renewed since is left alone.
    pub record_id: String,
    /// When it was used.
    pub last_seen_at: OffsetDateTime,
    /// When it ends if it is not used from then on.
    pub expires_at: OffsetDateTime,
    /// Its end however much it is used.
    pub ends_at: OffsetDateTime,
    /// The client's network, to be kept if none of its address family is known yet.
    pub network: Option<String>,
}

/// Writes down that sessions are in use. Many requests at once write once: a row that is locked is
/// left to whoever has it. Nobody waits for a disk or a
/// standby to have it: what may be lost is a minute of idle time.
pub async fn touch(connection: &mut PgConnection, touches: &[Touch], by: Use) -> sqlx::Result<()> {
    sqlx::query!(
        "update sessions s
         set last_seen_at = used.last_seen_at, expires_at = used.expires_at, ends_at = used.ends_at,
             network4 = case family(used.network) when 4 then coalesce(s.network4, used.network) else s.network4 end,
             network6 = case family(used.network) when 6 then coalesce(s.network6, used.network) else s.network6 end
         from (
             select w.id, w.last_seen_at, w.expires_at, w.ends_at, w.network::cidr
             from unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[], $6::text[])
                 as w (id, record_id, last_seen_at, expires_at, ends_at, network)
             join sessions held on held.id = w.id and held.record_id = w.record_id
             cross join set_config('synchronous_commit', 'off', true)
             where held.expires_at > now() and held.last_seen_at < w.last_seen_at - $7::interval
             for update of held skip locked
         ) used
         where s.id = used.id",
        &each(touches, |touch| touch.id) as _,
        &each(touches, |touch| touch.record_id.as_str()) as _,
        &each(touches, |touch| touch.last_seen_at) as _,
        &each(touches, |touch| touch.expires_at) as _,
        &each(touches, |touch| touch.ends_at) as _,
        &each(touches, |touch| touch.network.as_deref()) as _,
        interval(by.touch_after)?,
    )
    .execute(&mut *connection)
    .await?;
    if by.remember_max.is_some() {
        // The sessions would fall with their records.
        sqlx::query!(
            "update session_records r
             set expiry_date = due.ends_at + $2::interval
             from (
                 select held.id, s.ends_at
                 from sessions s join session_records held on held.id = s.record_id
                 cross join set_config('synchronous_commit', 'off', true)
                 where s.id = any($1) and held.expiry_date < s.ends_at + $2::interval
                 for update of held skip locked
             ) due
             where r.id = due.id",
            &each(touches, |touch| touch.id) as _,
            interval(by.record_slack)?,
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
