//! What happened to accounts.

use serde::Serialize;
use serde_json::Value;
use sqlx::PgExecutor;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::page::Paging;
use crate::{schemas, timestamp};

/// Something that happened.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({"id": "019a5f3c-9c2a-7b54-8e76-1a3c5e7f9b0d", "at": "2026-11-21T11:12:20Z", "kind": "logged_in", "outcome": "success", "user_id": "019a5f3c-7a10-7c60-9d6e-0c8f6f1a2b3c", "actor_id": "019a5f3c-7a10-7c60-9d6e-0c8f6f1a2b3c", "session_id": "019a5f3c-7a28-70f2-8a51-5be1d0a4c7e9", "ip": "203.0.113.9", "user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "request_id": "019a5f3c-7a1f-7a02-b1c3-9d5e7f1a3b5c", "details": {"remember": false, "transport": "cookie"}}))]
pub struct AuditEvent {
    /// Names the event.
    pub id: Uuid,
    /// When it happened.
    #[serde(serialize_with = "timestamp::serialize")]
    pub at: OffsetDateTime,
    /// What happened. New kinds may come, so treat it as an open string.
    #[schema(example = "logged_in")]
    pub kind: String,
    /// `success` or `failure`.
    #[schema(example = "success")]
    pub outcome: String,
    /// The account that it happened to; null when there is none.
    #[schema(required)]
    pub user_id: Option<Uuid>,
    /// The account that did it; null when nobody was logged in, and for an operator.
    #[schema(required)]
    pub actor_id: Option<Uuid>,
    /// The session that it happened to.
    #[schema(required)]
    pub session_id: Option<Uuid>,
    /// The address that the request came from.
    #[schema(required, example = "203.0.113.9")]
    pub ip: Option<String>,
    /// The `User-Agent` of the request.
    #[schema(required)]
    pub user_agent: Option<String>,
    /// The id of the request, as in the log.
    #[schema(required)]
    pub request_id: Option<String>,
    /// More about it.
    #[schema(schema_with = schemas::details)]
    pub details: Value,
}

/// An event that is to be written down.
#[derive(Debug)]
pub struct NewAuditEvent<'a> {
    /// What happened.
    pub kind: &'a str,
    /// `success` or `failure`.
    pub outcome: &'a str,
    /// The account that it happened to.
    pub user_id: Option<Uuid>,
    /// The account that did it.
    pub actor_id: Option<Uuid>,
    /// The session that it happened to.
    pub session_id: Option<Uuid>,
    /// The address that the request came from.
    pub ip: Option<String>,
    /// The user agent of the request.
    pub user_agent: Option<&'a str>,
    /// The id of the request.
    pub request_id: Option<&'a str>,
    /// More about it.
    pub details: &'a Value,
    /// Whether to write nothing when the account is gone, whose events have been made nobody's.
    pub needs_account: bool,
}

/// Which events to list.
#[derive(Debug, Default)]
pub struct Filter<'a> {
    /// Only what happened to this account.
    pub user_id: Option<Uuid>,
    /// Only events of this kind.
    pub kind: Option<&'a str>,
    /// Only what happened at this time or later.
    pub since: Option<OffsetDateTime>,
}

/// A page of what happened to an account, the newest first, for its owner: where the requests of
/// others came from is not theirs to know.
pub async fn list_own(
    db: impl PgExecutor<'_>,
    user_id: Uuid,
    paging: &Paging,
) -> sqlx::Result<Vec<AuditEvent>> {
    sqlx::query_as!(
        AuditEvent,
        "select id, at, kind, outcome, user_id, actor_id, session_id,
             case when coalesce(actor_id, $1) = $1 then host(ip) end as ip,
             case when coalesce(actor_id, $1) = $1 then user_agent end as user_agent,
             case when coalesce(actor_id, $1) = $1 then request_id end as request_id,
             details
         from audit_events
         where user_id = $1 and id < $2
         order by id desc
         limit $3",
        user_id,
        paging.before,
        paging.limit + 1,
    )
    .fetch_all(db)
    .await
}

/// Writes an event down.
pub async fn insert(db: impl PgExecutor<'_>, event: &NewAuditEvent<'_>) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into audit_events
             (id, kind, outcome, user_id, actor_id, session_id, ip, user_agent, request_id, details)
         select $1, $2, $3, $4, $5, $6, $7::text::inet, $8, $9, $10
         where not $11 or exists (select from users where id = $4 for key share)",
        Uuid::now_v7(),
        event.kind,
        event.outcome,
        event.user_id,
        event.actor_id,
        event.session_id,
        event.ip,
        event.user_agent,
        event.request_id,
        event.details,
        event.needs_account,
    )
    .execute(db)
    .await
    .map(drop)
}

/// A page of events, the newest first.
pub async fn list(
    db: impl PgExecutor<'_>,
    filter: &Filter<'_>,
    paging: &Paging,
) -> sqlx::Result<Vec<AuditEvent>> {
    sqlx::query_as!(
        AuditEvent,
        "select id, at, kind, outcome, user_id, actor_id, session_id,
             case when shown then host(ip) end as ip,
             case when shown then user_agent end as user_agent,
             case when shown then request_id end as request_id,
             details
         from audit_events e
         cross join lateral (
             -- what is still to be removed of a deleted account is not shown
             select not exists (
                 select from anonymizations a where a.user_id = coalesce(e.actor_id, e.user_id)
             ) as shown
         ) whether
         where ($1::uuid is null or user_id = $1)
             and ($2::text is null or kind = $2)
             and ($3::timestamptz is null or at >= $3)
             and id < $4
         order by id desc
         limit $5",
        filter.user_id,
        filter.kind,
        filter.since,
        paging.before,
        paging.limit + 1,
    )
    .fetch_all(db)
    .await
}
