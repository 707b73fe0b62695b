//! `/me`: the caller's own account.

pub(super) mod activity;
pub(super) mod email;
pub(super) mod password;
pub(super) mod sessions;
pub(super) mod tokens;

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::account::{self, AccountOwner, Actor};
use crate::auth::{CurrentUser, FreshUser, LimitedUser};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::extract::{Json, present};
use crate::names;
use crate::problem::FieldError;
use crate::problem_examples::{problems, rate_limited};
use crate::routes::login::ended_session;
use crate::state::App;
use crate::store::users::{Changes, User};
use crate::{schemas, store, throttle};

/// What to change. An absent field is kept, null clears it; a username or an email address is always
/// left.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "Alice"}))]
pub(super) struct UpdateMe {
    /// Null takes it away.
    #[serde(default, deserialize_with = "present")]
    #[schema(schema_with = schemas::username)]
    pub(super) username: Option<Option<String>>,
    /// Null takes it away.
    #[serde(default, deserialize_with = "present")]
    #[schema(schema_with = schemas::email)]
    pub(super) email: Option<Option<String>>,
    /// Null takes it away.
    #[serde(default, deserialize_with = "present")]
    #[schema(schema_with = schemas::name)]
    pub(super) name: Option<Option<String>>,
}

problems!(UpdateProblems: Error::SessionRequired, Error::InsufficientScope("write"), Error::ReauthenticationRequired(900), Error::UsernameTaken, Error::EmailTaken, rate_limited());
problems!(DeleteProblems: Error::SessionRequired, Error::ReauthenticationRequired(900), Error::LastAdmin);

/// The current user
///
/// Returns the authenticated user.
#[utoipa::path(
    get, path = "/me", tag = "me", security(("cookie" = []), ("bearer" = []), ("api_key" = [])),
    responses((status = OK, body = User)),
)]
pub(super) async fn get_me(LimitedUser(current): LimitedUser) -> Json<User> {
    Json(current.user)
}

/// Change your account
///
/// Another username or email address needs a recently authenticated session, since it is a way into the account.
/// The service sends an email to the new address, which waits as `pending_email` until it is verified. The address
/// that the account has ends the wait. The owner gets an email about both. A former username stays reserved for its
/// owner for 30 days. Changes of one account are limited, also those that fail: 429 with the policy `writes`.
#[utoipa::path(
    patch, path = "/me", tag = "me", request_body = UpdateMe,
    security(("cookie" = []), ("bearer" = []), ("api_key" = [])),
    responses((status = OK, body = User), UpdateProblems),
)]
pub(super) async fn update_me(
    State(app): State<App>,
    client: Client,
    current: CurrentUser,
    Json(request): Json<UpdateMe>,
) -> Result<Json<User>> {
    let changes = request.check(&app, vec![])?;
    let owner = AccountOwner::changing(&current, &app).await?;
    if changes.username.is_some() || changes.email.is_some() {
        throttle::count_name(&app, &client).await?;
    }
    let mut transaction = store::begin(&app.pool).await?;
    let (id, actor) = (current.user.id, Actor::Owner(owner));
    let user = account::update(&mut transaction, id, changes, actor, &client).await?;
    transaction.commit().await?;
    Ok(Json(user))
}

/// Delete your account
///
/// Revokes its sessions and API tokens. Its username stays reserved for 30 days, for nobody. The last active admin cannot
/// be deleted.
#[utoipa::path(
    delete, path = "/me", tag = "me", security(("cookie" = []), ("bearer" = [])),
    responses(
        (status = NO_CONTENT, description = "The account is gone", headers(("set-cookie" = String, description = "Removes the cookie, if the session came in it"))),
        DeleteProblems,
    ),
)]
pub(super) async fn delete_me(
    State(app): State<App>,
    client: Client,
    FreshUser(current): FreshUser,
) -> Result<Response> {
    let transport = current.live.session.transport;
    let current = CurrentUser::from(current);
    let mut transaction = store::begin(&app.pool).await?;
    let (id, actor) = (current.user.id, Actor::Owner(AccountOwner::revoking(&current, &app)));
    account::delete(&mut transaction, id, actor, &client).await?;
    transaction.commit().await?;
    Ok(ended_session(&app, transport))
}

impl UpdateMe {
    /// The changes with names in their stored form, or all that is wrong at once, with what was found
    /// wrong before.
    pub(super) fn check(&self, app: &App, mut faults: Vec<FieldError>) -> Result<Changes> {
        let mut read = |field: &str, given: &Option<Option<String>>, read: names::Read| {
            let text = given.as_ref()?;
            let Some(text) = text else { return Some(None) };
            read(field, text).map_err(|fault| faults.push(fault)).ok().map(Some)
        };
        let changes = Changes {
            username: read("username", &self.username, names::username),
            email: read("email", &self.email, app.config.new_email()),
            name: read("name", &self.name, names::name),
            ..Changes::default()
        };
        if faults.is_empty() { Ok(changes) } else { Err(Error::ValidationFailed(faults)) }
    }
}
