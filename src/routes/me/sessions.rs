//! `/me/sessions`: where the caller's own account is logged in.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::auth::CurrentSession;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::extract::{Json, Path, Query};
use crate::page::{Page, PageQuery};
use crate::problem_examples::problems;
use crate::routes::login::ended_session;
use crate::session;
use crate::state::App;
use crate::store::sessions::{self, Session};

/// Which sessions to end.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct RevokeSessions {
    /// `current` ends the current session too.
    #[param(inline, nullable = false)]
    include: Option<Include>,
}

/// What else to end.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Include {
    /// The current session.
    Current,
}

problems!(SessionProblems: Error::SessionRequired);

/// List your sessions
///
/// Where the account is logged in, the newest login first.
#[utoipa::path(
    get, path = "/me/sessions", tag = "me", params(PageQuery),
    security(("cookie" = []), ("bearer" = [])),
    responses((status = OK, body = Page<Session>), SessionProblems),
)]
pub(crate) async fn list_my_sessions(
    State(app): State<App>,
    CurrentSession { live, .. }: CurrentSession,
    Query(paging): Query<PageQuery>,
) -> Result<Json<Page<Session>>> {
    let (paging, fresh_for) = (paging.check()?, app.config.fresh_for);
    let current = Some(live.session.id);
    let rows = sessions::list(&app.pool, live.user.id, current, &paging, fresh_for).await?;
    Ok(Json(paging.page(rows, |session| session.id)))
}

/// End one of your sessions
///
/// It opens nothing any more with the very next request, on every replica.
#[utoipa::path(
    delete, path = "/me/sessions/{id}", tag = "me", params(("id" = Uuid, Path, description = "The session's id")),
    security(("cookie" = []), ("bearer" = [])),
    responses((status = NO_CONTENT, description = "The session has ended", headers(("set-cookie" = String, description = "Removes the cookie, if it was the current session's"))), SessionProblems),
)]
pub(crate) async fn revoke_my_session(
    State(app): State<App>,
    client: Client,
    current: CurrentSession,
    Path(id): Path<Uuid>,
) -> Result<Response> {
    if !session::revoke(&app, &current, id, &client).await? {
        return Err(Error::NotFound);
    }
    let own = &current.live.session;
    if id == own.id {
        return Ok(ended_session(&app, own.transport));
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// End your sessions
///
/// All but the current one, or, with `?include=current`, all.
#[utoipa::path(
    delete, path = "/me/sessions", tag = "me", params(RevokeSessions),
    security(("cookie" = []), ("bearer" = [])),
    responses((status = NO_CONTENT, description = "The sessions have ended", headers(("set-cookie" = String, description = "Removes the cookie, if it was the current session's"))), SessionProblems),
)]
pub(crate) async fn revoke_my_sessions(
    State(app): State<App>,
    client: Client,
    current: CurrentSession,
    Query(query): Query<RevokeSessions>,
) -> Result<Response> {
    let all = matches!(query.include, Some(Include::Current));
    session::revoke_others(&app, &current, all, &client).await?;
    match all {
        true => Ok(ended_session(&app, current.live.session.transport)),
        false => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}
