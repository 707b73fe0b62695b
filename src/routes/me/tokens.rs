//! `/me/tokens`: API tokens, for programs.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse as _, Response};
use serde::{Deserialize, Deserializer, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::account::{self, AccountOwner, Actor, TokenRequest};
use crate::auth::{CurrentSession, CurrentUser, FreshUser};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::extract::{Json, Path, Query, words};
use crate::page::{Page, PageQuery};
use crate::problem_examples::{problems, rate_limited};
use crate::state::App;
use crate::store;
use crate::store::api_tokens::{self, ApiToken, NewApiToken, Scope};
use crate::token::ApiTokenSecret;
use crate::{schemas, timestamp};

/// A token to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "backup script", "scopes": ["read"], "expires_at": "2027-12-31T00:00:00Z"}))]
pub(crate) struct CreateToken {
    /// What to call it.
    #[schema(schema_with = schemas::token_name)]
    name: String,
    /// What it may do; without it, `["read"]`.
    #[serde(default, deserialize_with = "words")]
    #[schema(nullable = false, min_items = 1)]
    scopes: Option<Vec<Scope>>,
    /// When it expires: after a year unless this says otherwise, and never if it is null.
    #[serde(default, deserialize_with = "expires_at")]
    #[schema(value_type = Option<OffsetDateTime>)]
    expires_at: Option<Option<OffsetDateTime>>,
}

/// A token that was made, and its secret, which is not shown again.
#[derive(Serialize, ToSchema)]
pub(crate) struct NewToken {
    /// The token.
    api_token: ApiToken,
    /// The secret, to be sent as `X-API-Key` or `Authorization: Bearer`.
    #[schema(example = "pct_3nUQq0bC1Yk8mZl2rV5xW7aT9dEfGhIj")]
    token: String,
}

problems!(CreateTokenProblems: Error::SessionRequired, Error::Forbidden, Error::ReauthenticationRequired(900), Error::TooManyTokens(account::MOST_TOKENS), rate_limited());
problems!(TokenProblems: Error::SessionRequired);

/// List your API tokens
///
/// The newest first, those that have ended too. Their secrets are not shown again.
#[utoipa::path(
    get, path = "/me/tokens", tag = "me", params(PageQuery),
    security(("cookie" = []), ("bearer" = [])),
    responses((status = OK, body = Page<ApiToken>), TokenProblems),
)]
pub(crate) async fn list_my_tokens(
    State(app): State<App>,
    CurrentSession { live, .. }: CurrentSession,
    Query(paging): Query<PageQuery>,
) -> Result<Json<Page<ApiToken>>> {
    let paging = paging.check()?;
    let rows = api_tokens::list(&app.pool, live.user.id, &paging).await?;
    Ok(Json(paging.page(rows, |token| token.id)))
}

/// Make an API token
///
/// The secret is in this answer only. Only admins may create a token with the scope `admin`. An account may have
/// 50 tokens that have not expired. The owner gets an email. A token that has expired is deleted after 90 days.
/// Changes of one account are limited, also those that fail: 429 with the policy `writes`.
#[utoipa::path(
    post, path = "/me/tokens", tag = "me", request_body = CreateToken,
    security(("cookie" = []), ("bearer" = [])),
    responses(
        (status = CREATED, body = NewToken, headers(("location" = String, description = "Where the token can be ended"))),
        CreateTokenProblems,
    ),
)]
pub(crate) async fn create_my_token(
    State(app): State<App>,
    client: Client,
    FreshUser(current): FreshUser,
    Json(request): Json<CreateToken>,
) -> Result<Response> {
    let CreateToken { name, scopes, expires_at } = request;
    let fields = ["name", "scopes", "expires_at"];
    let TokenRequest { name, scopes, expires_at } =
        TokenRequest::check(fields, &name, scopes, expires_at)?;
    let current = CurrentUser::from(current);
    let owner = AccountOwner::changing(&current, &app).await?;
    let secret = ApiTokenSecret::generate();
    let (user_id, hash) = (current.user.id, secret.hash());
    let new = NewApiToken { user_id, name: &name, hash: &hash, scopes: &scopes, expires_at };
    let mut transaction = store::begin(&app.pool).await?;
    let actor = Actor::Owner(owner);
    let api_token = account::create_token(&mut transaction, &new, actor, &client).await?;
    transaction.commit().await?;
    let location = AppendHeaders([(header::LOCATION, format!("/me/tokens/{}", api_token.id))]);
    let body = Json(NewToken { api_token, token: secret.expose().to_owned() });
    Ok((StatusCode::CREATED, location, body).into_response())
}

/// End an API token
///
/// The token is invalid from the next request, on every replica.
#[utoipa::path(
    delete, path = "/me/tokens/{id}", tag = "me", params(("id" = Uuid, Path, description = "The token's id")),
    security(("cookie" = []), ("bearer" = [])),
    responses((status = NO_CONTENT, description = "The token has ended"), TokenProblems),
)]
pub(crate) async fn revoke_my_token(
    State(app): State<App>,
    client: Client,
    current: CurrentSession,
    Path(id): Path<Uuid>,
) -> Result<StatusCode> {
    let current = CurrentUser::from(current);
    let (user_id, actor) = (current.user.id, Actor::Owner(AccountOwner::revoking(&current, &app)));
    let mut transaction = store::begin(&app.pool).await?;
    account::revoke_token(&mut transaction, user_id, id, actor, &client).await?;
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// An absent time is `None`, null is `Some(None)`.
fn expires_at<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<OffsetDateTime>>, D::Error> {
    timestamp::deserialize_option(deserializer).map(Some)
}
