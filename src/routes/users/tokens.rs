//! `/users/{id}/tokens`: an account's API tokens, for admins.

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
use crate::state::App;
use crate::store::api_tokens::{self, ApiToken};
use crate::store::{self, users};

problems!(ListProblems: Error::Forbidden, Error::InsufficientScope("admin"));
problems!(RevokeProblems: Error::Forbidden, Error::InsufficientScope("admin"), Error::SessionRequired, Error::ReauthenticationRequired(900));

/// List an account's API tokens
///
/// The newest first, also those that have expired. Their secrets are never shown.
#[utoipa::path(
    get, path = "/users/{id}/tokens", tag = "users",
    params(("id" = Uuid, Path, description = "The account's id"), PageQuery),
    security(("cookie" = []), ("bearer" = []), ("api_key" = [])),
    responses((status = OK, body = Page<ApiToken>), ListProblems),
)]
pub(crate) async fn list_user_tokens(
    State(app): State<App>,
    _: Admin,
    Path(id): Path<Uuid>,
    Query(paging): Query<PageQuery>,
) -> Result<Json<Page<ApiToken>>> {
    let paging = paging.check()?;
    users::find(&app.pool, id).await?.ok_or(Error::NotFound)?;
    let rows = api_tokens::list(&app.pool, id, &paging).await?;
    Ok(Json(paging.page(rows, |token| token.id)))
}

/// Revoke an account's API tokens
///
/// All of them, with the next request, on every replica.
#[utoipa::path(
    delete, path = "/users/{id}/tokens", tag = "users",
    params(("id" = Uuid, Path, description = "The account's id")),
    security(("cookie" = []), ("bearer" = []), ("api_key" = [])),
    responses((status = NO_CONTENT, description = "The API tokens are revoked"), RevokeProblems),
)]
pub(crate) async fn revoke_user_tokens(
    State(app): State<App>,
    client: Client,
    FreshAdmin(admin): FreshAdmin,
    Path(id): Path<Uuid>,
) -> Result<StatusCode> {
    let mut transaction = store::begin(&app.pool).await?;
    account::revoke_tokens(&mut transaction, id, Actor::Admin(&admin), &client).await?;
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Revoke one of an account's API tokens
///
/// It is invalid with the next request, on every replica.
#[utoipa::path(
    delete, path = "/users/{id}/tokens/{token_id}", tag = "users",
    params(
        ("id" = Uuid, Path, description = "The account's id"),
        ("token_id" = Uuid, Path, description = "The token's id"),
    ),
    security(("cookie" = []), ("bearer" = []), ("api_key" = [])),
    responses((status = NO_CONTENT, description = "The API token is revoked"), RevokeProblems),
)]
pub(crate) async fn revoke_user_token(
    State(app): State<App>,
    client: Client,
    FreshAdmin(admin): FreshAdmin,
    Path((id, token_id)): Path<(Uuid, Uuid)>,
) -> Result<StatusCode> {
    let mut transaction = store::begin(&app.pool).await?;
    let actor = Actor::Admin(&admin);
    account::revoke_token(&mut transaction, id, token_id, actor, &client).await?;
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
