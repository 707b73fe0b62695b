//! `/users/{id}`: one account, for admins.

use axum::extract::State;
use axum::http::StatusCode;
use secrecy::SecretString;
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::account::{self, Actor};
use crate::auth::{Admin, FreshAdmin};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::extract::{Json, Path, given, present, word};
use crate::password::NewPassword;
use crate::problem_examples::problems;
use crate::routes::me::UpdateMe;
use crate::state::App;
use crate::store::users::{self, Role, User};
use crate::{schemas, store};

/// What to change. An absent field is kept; null clears a name or an address.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"is_active": false}))]
pub(crate) struct UpdateUser {
    /// Null takes it away.
    #[serde(default, deserialize_with = "present")]
    #[schema(schema_with = schemas::username)]
    username: Option<Option<String>>,
    /// Null takes it away.
    #[serde(default, deserialize_with = "present")]
    #[schema(schema_with = schemas::email)]
    email: Option<Option<String>>,
    /// Null takes it away.
    #[serde(default, deserialize_with = "present")]
    #[schema(schema_with = schemas::name)]
    name: Option<Option<String>>,
    /// Another role revokes the account's sessions. A demotion also revokes API tokens with the scope `admin`.
    #[serde(default, deserialize_with = "word")]
    #[schema(nullable = false)]
    role: Option<Role>,
    /// Disabling an account revokes its sessions and API tokens.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false)]
    is_active: Option<bool>,
    /// A new password, as at registration. It revokes the account's sessions and API tokens.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, format = Password, nullable = false, min_length = 8, max_length = 128)]
    password: Option<SecretString>,
    /// Whether the owner must choose a new password before anything else.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false)]
    must_change_password: Option<bool>,
}

problems!(GetProblems: Error::Forbidden, Error::InsufficientScope("admin"));
problems!(UpdateProblems: Error::Forbidden, Error::InsufficientScope("admin"), Error::SessionRequired, Error::ReauthenticationRequired(900), Error::OwnAccount, Error::LastAdmin, Error::UsernameTaken, Error::EmailTaken, Error::Busy);
problems!(DeleteProblems: Error::Forbidden, Error::InsufficientScope("admin"), Error::SessionRequired, Error::ReauthenticationRequired(900), Error::OwnAccount, Error::LastAdmin);

/// Get an account
///
/// Any account, by its id.
#[utoipa::path(
    get, path = "/users/{id}", tag = "users", params(("id" = Uuid, Path, description = "The account's id")),
    security(("cookie" = []), ("bearer" = []), ("api_key" = [])),
    responses((status = OK, body = User), GetProblems),
)]
pub(crate) async fn get_user(
    State(app): State<App>,
    _: Admin,
    Path(id): Path<Uuid>,
) -> Result<Json<User>> {
    users::find(&app.pool, id).await?.map(Json).ok_or(Error::NotFound)
}

/// Change an account
///
/// The owner gets an email about another username. An admin may assign a username that is reserved for another account.
/// The last active admin can be neither demoted nor disabled. Admins change their own username, email address and
/// password with `PATCH /me` and `PUT /me/password`.
///
/// A new password, or `is_active: false`, revokes all sessions and API tokens, forgets all known devices, and makes
/// emailed links and codes invalid. Another role revokes all sessions; a demotion also revokes the API tokens with the
/// scope `admin`. Another email address makes emailed links and codes invalid.
#[utoipa::path(
    patch, path = "/users/{id}", tag = "users", params(("id" = Uuid, Path, description = "The account's id")),
    request_body = UpdateUser, security(("cookie" = []), ("bearer" = []), ("api_key" = [])),
    responses((status = OK, body = User), UpdateProblems),
)]
pub(crate) async fn update_user(
    State(app): State<App>,
    client: Client,
    FreshAdmin(admin): FreshAdmin,
    Path(id): Path<Uuid>,
    Json(request): Json<UpdateUser>,
) -> Result<Json<User>> {
    let takes_over =
        request.username.is_some() || request.email.is_some() || request.password.is_some();
    if id == admin.user.id && takes_over {
        return Err(Error::OwnAccount);
    }
    let password = request.password.as_ref();
    let fault = password.and_then(|password| app.hasher.fault("password", password));
    let names = UpdateMe { username: request.username, email: request.email, name: request.name };
    let mut changes = names.check(&app, fault.into_iter().collect())?;
    changes.role = request.role;
    changes.is_active = request.is_active;
    changes.must_change_password = request.must_change_password;
    if let Some(password) = password {
        let user = users::find(&app.pool, id).await?.ok_or(Error::NotFound)?;
        let given = [&changes.username, &changes.email, &changes.name];
        let given = given.into_iter().flatten().flatten().map(String::as_str);
        let (field, names) = ("password", user.names().into_iter().chain(given).collect());
        let new = NewPassword { field, password, names };
        changes.password_hash = Some(app.hasher.hash_new(new).await?);
    }
    let mut transaction = store::begin(&app.pool).await?;
    let actor = Actor::Admin(&admin);
    let user = account::update(&mut transaction, id, changes, actor, &client).await?;
    transaction.commit().await?;
    Ok(Json(user))
}

/// Delete an account
///
/// Revokes its sessions and API tokens. Its username stays reserved for 30 days, but admins may assign it to another
/// account. The last active admin cannot be deleted.
#[utoipa::path(
    delete, path = "/users/{id}", tag = "users", params(("id" = Uuid, Path, description = "The account's id")),
    security(("cookie" = []), ("bearer" = []), ("api_key" = [])),
    responses((status = NO_CONTENT, description = "The account is gone"), DeleteProblems),
)]
pub(crate) async fn delete_user(
    State(app): State<App>,
    client: Client,
    FreshAdmin(admin): FreshAdmin,
    Path(id): Path<Uuid>,
) -> Result<StatusCode> {
    if id == admin.user.id {
        return Err(Error::OwnAccount);
    }
    let mut transaction = store::begin(&app.pool).await?;
    account::delete(&mut transaction, id, Actor::Admin(&admin), &client).await?;
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        let request: UpdateUser = from_value(json!({"password": "hunter2"})).unwrap();
        assert!(!format!("{request:?}").contains("hunter2"));
    }
}
