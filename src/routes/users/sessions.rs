//! `/users/{id}/sessions`: where an account is logged in, for admins.

use axum::extract::State;
use axum::http::StatusCode;
use uuid::Uuid;

use crate::account::{self, Actor};
use crate::auth::{Admin, FreshAdmin};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::extract::{Json, Path, Query};
use crate::page::{Page, PageQuery};
use crate::problem_examples::problems;
use crate::session;
use crate::state::App;
use crate::store::sessions::{self, Session};
use crate::store::{self, users};

problems!(ListProblems: Error::Forbidden, Error::InsufficientScope("admin"));
problems!(RevokeProblems: Error::Forbidden, Error::InsufficientScope("admin"), Error::SessionRequired, Error::ReauthenticationRequired(900));

/// List an account's sessions
///
/// Where it is logged in, the newest login first.
#[utoipa::path(
    get, path = "/users/{id}/sessions", tag = "users",
    params(("id" = Uuid, Path, description = "The account's id"), PageQuery),
    security(("cookie" = []), ("bearer" = []), ("api_key" = [])),
    responses((status = OK, body = Page<Session>), ListProblems),
)]
pub(crate) async fn list_user_sessions(
    State(app): State<App>,
    _: Admin,
    Path(id): Path<Uuid>,
    Query(paging): Query<PageQuery>,
) -> Result<Json<Page<Session>>> {
    let (paging, by) = (paging.check()?, session::by_use(&app.config));
    users::find(&app.pool, id).await?.ok_or(Error::NotFound)?;
    let rows = sessions::list(&app.pool, id, None, &paging, by).await?;
    Ok(Json(paging.page(rows, |session| session.id)))
}

/// Revoke an account's sessions and API tokens
///
/// All of them, with the next request, on every replica. Emails that open the account become invalid, and devices that
/// the account knows are forgotten.
#[utoipa::path(
    delete, path = "/users/{id}/sessions", tag = "users",
    params(("id" = Uuid, Path, description = "The account's id")),
    security(("cookie" = []), ("bearer" = []), ("api_key" = [])),
    responses((status = NO_CONTENT, description = "The sessions and API tokens are revoked"), RevokeProblems),
)]
pub(crate) async fn revoke_user_sessions(
    State(app): State<App>,
    client: Client,
    FreshAdmin(admin): FreshAdmin,
    Path(id): Path<Uuid>,
) -> Result<StatusCode> {
    let mut transaction = store::begin(&app.pool).await?;
    account::lock_out(&mut transaction, id, Actor::Admin(&admin), &client).await?;
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
