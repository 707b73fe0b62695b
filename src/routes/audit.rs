//! `GET /audit`: what happened to everybody's accounts.

use axum::extract::State;
use serde::Deserialize;
use time::OffsetDateTime;
use utoipa::IntoParams;
use uuid::Uuid;

use crate::auth::Admin;
use crate::error::{Error, Result};
use crate::extract::{Json, Query};
use crate::page::{Page, PageQuery};
use crate::problem_examples::problems;
use crate::state::App;
use crate::store::audit_events::{self, AuditEvent, Filter};
use crate::timestamp;

/// Which events to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListEvents {
    /// Only what happened to this account.
    user_id: Option<Uuid>,
    /// Only events of this kind.
    #[param(pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    kind: Option<String>,
    /// Only what happened at this time or later (RFC 3339).
    #[serde(default, deserialize_with = "timestamp::deserialize_option")]
    since: Option<OffsetDateTime>,
}

problems!(AuditProblems: Error::Forbidden, Error::InsufficientScope("admin"));

/// What happened to everybody's accounts
///
/// The newest first.
#[utoipa::path(
    get, path = "/audit", tag = "users", params(ListEvents, PageQuery),
    security(("cookie" = []), ("bearer" = []), ("api_key" = [])),
    responses((status = OK, body = Page<AuditEvent>), AuditProblems),
)]
pub(super) async fn list_events(
    State(app): State<App>,
    _: Admin,
    Query(query): Query<ListEvents>,
    Query(paging): Query<PageQuery>,
) -> Result<Json<Page<AuditEvent>>> {
    let paging = paging.check()?;
    if query.kind.as_ref().is_some_and(|kind| kind.chars().any(char::is_control)) {
        return Err(Error::invalid("kind", "invalid", "must not have control characters"));
    }
    let (user_id, kind, since) = (query.user_id, query.kind.as_deref(), query.since);
    let rows = audit_events::list(&app.pool, &Filter { user_id, kind, since }, &paging).await?;
    Ok(Json(paging.page(rows, |event| event.id)))
}
