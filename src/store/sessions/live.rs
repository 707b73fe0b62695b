//! What every request asks of the session that it was made with.

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{Session, Transport, Use};
use crate::store::users::{Role, User};
use crate::store::{each, in_order, interval};

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
    /// Whether a renewal has replaced the secret. It then never counts as recently authenticated.
    pub is_renewed: bool,
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

/// The sessions that stand behind records, with their accounts, in the order of `wanted`: everything that
/// requests need to know of who is calling, in one query.
pub async fn find_live(
    db: &mut PgConnection,
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
               u.id as user_id, u.username, u.email, u.email_verified, u.password_proven, u.pending_email, u.name, u.role as "role: Role",
               u.is_active, u.must_change_password, u.created_at as user_created_at, u.updated_at, u.last_login_at,
               s.id, s.created_at, s.remember, s.transport as "transport: Transport",
               case when due then now() else s.last_seen_at end as "last_seen_at!",
               case when due
                   then least(ends_at_then, case when not s.remember then now() + $8::interval end)
                   else least(s.expires_at, latest_end)
               end as "expires_at!",
               case when due then ends_at_then else least(s.ends_at, latest_end) end as "ends_at!",
               fresh_until as "fresh_until!", fresh_until > now() as "is_fresh!",
               host(s.ip) as ip, s.user_agent, s.device, due as "touch_due!",
               coalesce(w.compare and (
                   s.user_agent is distinct from w.user_agent
                   or w.network::cidr <> case family(w.network::inet)
                       when 4 then s.network4 else s.network6
                   end
               ), false) as "differs!",
               s.protected_at is not null as "is_protected!", r.renewed_as is not null as "is_renewed!"
             from session_records r
             join sessions s on s.record_id = coalesce(r.renewed_as, r.id) and s.transport = w.transport
             join users u on u.id = s.user_id
             -- Null where nothing extends the session.
             cross join lateral (select
                 s.created_at + case when s.remember then $9::interval end as latest_end
             ) login
             cross join lateral (select
                 s.last_seen_at < now() - $7::interval as due,
                 least(
                     s.authenticated_at + $6::interval, s.protected_at,
                     case when r.renewed_as is not null then now() end
                 ) as fresh_until,
                 least(
                     case when $9 is not null then coalesce(now() + s.remember_for, s.ends_at) else s.ends_at end,
                     latest_end
                 ) as ends_at_then
             ) used
             where r.id = w.record_id and r.expiry_date > now() and s.expires_at > now() and u.is_active
                 and (latest_end is null or latest_end > now())
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
        by.remember_max.map(interval).transpose()?,
        wanted.len() as i64,
    )
    .fetch_all(db)
    .await?;
    let found = rows.into_iter().map(|row| {
        let live = Live {
            user: User {
                id: row.user_id,
                username: row.username,
                email: row.email,
                email_verified: row.email_verified,
                password_proven: row.password_proven,
                pending_email: row.pending_email,
                name: row.name,
                role: row.role,
                is_active: row.is_active,
                must_change_password: row.must_change_password,
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
            is_renewed: row.is_renewed,
            touch_due: row.touch_due,
        };
        (row.at, live)
    });
    Ok(in_order(wanted.len(), found))
}
