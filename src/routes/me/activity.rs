//! `GET /me/activity`: what happened to the caller's own account.

use axum::extract::State;

use crate::auth::CurrentUser;
use crate::error::{Error, Result};
use crate::extract::{Json, Query};
use crate::page::{Page, PageQuery};
use crate::problem_examples::problems;
use crate::state::App;
use crate::store::audit_events::{self, AuditEvent};

problems!(ActivityProblems: Error::InsufficientScope("read"));

/// What happened to your account
///
/// Logins, failed ones too, and changes; the newest first.
#[utoipa::path(
    get, path = "/me/activity", tag = "me", params(PageQuery),
    security(("cookie" = []), ("bearer" = []), ("api_key" = [])),
    responses((status = OK, body = Page<AuditEvent>), ActivityProblems),
)]
pub(crate) async fn list_my_activity(
    State(app): State<App>,
    CurrentUser { user, .. }: CurrentUser,
    Query(paging): Query<PageQuery>,
) -> Result<Json<Page<AuditEvent>>> {
    let paging = paging.check()?;
    let rows = audit_events::list_own(&app.pool, user.id, &paging).await?;
    Ok(Json(paging.page(rows, |event| event.id)))
}
