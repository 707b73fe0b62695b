//! `/me/sessions`: where the caller's own account is logged in.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::account::{self, AccountOwner, Actor};
use crate::auth::{CurrentSession, CurrentUser, FreshUser};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::extract::{Json, Path, Query};
use crate::page::{Page, PageQuery};
use crate::problem_examples::problems;
use crate::routes::login::ended_session;
use crate::session;
use crate::state::App;
use crate::store;
use crate::store::sessions::{self, Owned, Session};

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
problems!(RevokeSessionsProblems: Error::SessionRequired, Error::ReauthenticationRequired(900));

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
    let (paging, by) = (paging.check()?, session::by_use(&app.config));
    let current = Some(live.session.id);
    let rows = sessions::list(&app.pool, live.user.id, current, &paging, by).await?;
    Ok(Json(paging.page(rows, |session| session.id)))
}

/// End one of your sessions
///
/// The session is invalid from the next request, on every replica. Revoking another session than the current one
/// needs a recently authenticated session. An email address that waits to be verified is dropped.
#[utoipa::path(
    delete, path = "/me/sessions/{id}", tag = "me", params(("id" = Uuid, Path, description = "The session's id")),
    security(("cookie" = []), ("bearer" = [])),
    responses((status = NO_CONTENT, description = "The session has ended", headers(("set-cookie" = String, description = "Removes the cookie, if it was the current session's"))), RevokeSessionsProblems),
)]
pub(crate) async fn revoke_my_session(
    State(app): State<App>,
    client: Client,
    current: CurrentSession,
    Path(id): Path<Uuid>,
) -> Result<Response> {
    let (own, transport) = (current.live.session.id, current.live.session.transport);
    let current = CurrentUser::from(current);
    if id != own {
        current.require_fresh(&app)?;
    }
    let owned = Owned { id, user_id: current.user.id };
    let actor = Actor::Owner(AccountOwner::revoking(&current, &app));
    let mut transaction = store::begin(&app.pool).await?;
    if !account::end_session(&mut transaction, owned, actor, &client).await? {
        return Err(Error::NotFound);
    }
    transaction.commit().await?;
    match id == own {
        true => Ok(ended_session(&app, transport)),
        false => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}

/// End your sessions
///
/// Revokes all but the current one, or, with `?include=current`, all. Needs a recently authenticated session. Also
/// forgets every known device except the one that the request's cookie names, and drops an email address that waits
/// to be verified. API tokens stay valid.
#[utoipa::path(
    delete, path = "/me/sessions", tag = "me", params(RevokeSessions),
    security(("cookie" = []), ("bearer" = [])),
    responses((status = NO_CONTENT, description = "The sessions have ended", headers(("set-cookie" = String, description = "Removes the cookie, if it was the current session's"))), RevokeSessionsProblems),
)]
pub(crate) async fn revoke_my_sessions(
    State(app): State<App>,
    client: Client,
    FreshUser(current): FreshUser,
    Query(query): Query<RevokeSessions>,
) -> Result<Response> {
    let all = matches!(query.include, Some(Include::Current));
    let (own, transport) = (current.live.session.id, current.live.session.transport);
    let current = CurrentUser::from(current);
    let (but, actor) =
        ((!all).then_some(own), Actor::Owner(AccountOwner::revoking(&current, &app)));
    let mut transaction = store::begin(&app.pool).await?;
    account::end_sessions(&mut transaction, current.user.id, but, actor, &client).await?;
    transaction.commit().await?;
    match all {
        true => Ok(ended_session(&app, transport)),
        false => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}
