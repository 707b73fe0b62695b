//! What every request asks of, and does to, the session that it was made with.

use std::time::Duration;

use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Session, Transport, interval};
use crate::store::users::{Role, User};

/// A session that stands, and whose it is.
#[derive(Debug)]
pub struct Live {
    /// The account.
    pub user: User,
    /// The session, as this use leaves it.
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

/// The session that a request asks for, and what it is compared with.
#[derive(Debug)]
pub struct Wanted {
    /// The hashed id that the client's secret comes to.
    pub record_id: String,
    /// How the client gave the secret.
    pub transport: Transport,
    /// Whether the client is compared at all.
    pub compare: bool,
    /// The client's `User-Agent`.
    pub user_agent: Option<String>,
    /// The client's network.
    pub network: Option<String>,
}

/// What use does to sessions; the same for all.
#[derive(Clone, Copy, Debug)]
pub struct Use {
    /// How long a session is fresh.
    pub fresh_for: Duration,
    /// How long one stands unused, unless it is remembered.
    pub idle: Duration,
    /// Whether use extends a remembered one.
    pub refresh: bool,
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

/// The sessions that stand behind records, with their accounts, in the order of `wanted`: everything that
/// requests need to know of who is calling, in one query.
pub async fn find_live(
    db: impl PgExecutor<'_>,
    wanted: &[Wanted],
    by: Use,
) -> sqlx::Result<Vec<Option<Live>>> {
    let rows = sqlx::query!(
        r#"select w.at as "at!", live.*
           from (
             select * from unnest($1::text[], $2::text[], $3::bool[], $4::text[], $5::text[])
                 with ordinality as w (record_id, transport, compare, user_agent, network, at)
             -- All of them. A limit that PostgreSQL cannot foresee makes the plan for any number look
             -- cheaper than one for this number, so that it does not plan each time anew.
             limit $10
           ) w
           cross join lateral (
             select
               u.id as user_id, u.username, u.email, u.email_verified, u.pending_email, u.name, u.role as "role: Role",
               u.is_active, u.created_at as user_created_at, u.updated_at, u.last_login_at,
               s.id, s.created_at, s.remember, s.transport as "transport: Transport",
               case when due then now() else s.last_seen_at end as "last_seen_at!",
               case when due
                   then least(ends_at_then, case when not s.remember then now() + $8::interval end)
                   else s.expires_at
               end as "expires_at!",
               case when due then ends_at_then else s.ends_at end as "ends_at!",
               fresh_until as "fresh_until!", fresh_until > now() as "is_fresh!",
               host(s.ip) as ip, s.user_agent, s.device, due as "touch_due!",
               coalesce(w.compare and (
                   s.user_agent is distinct from w.user_agent
                   or w.network::cidr <> case family(w.network::inet)
                       when 4 then s.network4 else s.network6
                   end
               ), false) as "differs!",
               s.protected_at is not null as "is_protected!"
             from session_records r
             join sessions s on s.record_id = r.id and s.transport = w.transport
             join users u on u.id = s.user_id
             cross join lateral (select
                 s.last_seen_at < now() - $7::interval as due,
                 least(s.authenticated_at + $6::interval, s.protected_at) as fresh_until,
                 case when $9 then coalesce(now() + s.remember_for, s.ends_at) else s.ends_at end as ends_at_then
             ) used
             where r.id = w.record_id and r.expiry_date > now() and s.expires_at > now() and u.is_active
             -- Each row has one at most; said so, each is looked up by its index, however small the tables are.
             limit 1
           ) live"#,
        &each(wanted, |wanted| wanted.record_id.as_str()) as _,
        &each(wanted, |wanted| wanted.transport.as_str()) as _,
        &each(wanted, |wanted| wanted.compare) as _,
        &each(wanted, |wanted| wanted.user_agent.as_deref()) as _,
        &each(wanted, |wanted| wanted.network.as_deref()) as _,
        interval(by.fresh_for)?,
        interval(by.touch_after)?,
        interval(by.idle)?,
        by.refresh,
        wanted.len() as i64,
    )
    .fetch_all(db)
    .await?;
    let mut found: Vec<_> = wanted.iter().map(|_| None).collect();
    for row in rows {
        let live = Live {
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
                transport: row.transport,
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
        };
        // Ordinality counts from one.
        let place = usize::try_from(row.at - 1).ok().and_then(|at| found.get_mut(at));
        if let Some(place) = place {
            *place = Some(live);
        }
    }
    Ok(found)
}

/// Writes down that sessions are in use. Many requests at once write once: a row that is locked is
/// left to whoever has it. `slack` is how long a record outlives its session. Nobody waits for a disk or a
/// standby to have it: what may be lost is a minute of idle time.
pub async fn touch(
    connection: &mut PgConnection,
    touches: &[Touch],
    by: Use,
    slack: Duration,
) -> sqlx::Result<()> {
    let touched = sqlx::query!(
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
         where s.id = used.id
         returning s.record_id, s.ends_at",
        &each(touches, |touch| touch.id) as _,
        &each(touches, |touch| touch.record_id.as_str()) as _,
        &each(touches, |touch| touch.last_seen_at) as _,
        &each(touches, |touch| touch.expires_at) as _,
        &each(touches, |touch| touch.ends_at) as _,
        &each(touches, |touch| touch.network.as_deref()) as _,
        interval(by.touch_after)?,
    )
    .fetch_all(&mut *connection)
    .await?;
    if by.refresh {
        // The sessions would fall with their records.
        sqlx::query!(
            "update session_records r
             set expiry_date = greatest(r.expiry_date, held.ends_at + $3::interval)
             from (
                 select held.id, w.ends_at
                 from unnest($1::text[], $2::timestamptz[]) as w (id, ends_at)
                 join session_records held on held.id = w.id
                 cross join set_config('synchronous_commit', 'off', true)
                 for update of held skip locked
             ) held
             where r.id = held.id",
            &each(&touched, |touched| touched.record_id.as_str()) as _,
            &each(&touched, |touched| touched.ends_at) as _,
            interval(slack)?,
        )
        .execute(connection)
        .await?;
    }
    Ok(())
}

/// One column of many rows.
fn each<'a, T, C>(rows: &'a [T], column: impl Fn(&'a T) -> C) -> Vec<C> {
    rows.iter().map(column).collect()
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
