//! `/users`: making accounts, and the admin's view of them.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use sqlx::PgExecutor;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::auth::{Admin, MaybeAdmin, OwnCookie};
use crate::client::Client;
use crate::config::Registration;
use crate::error::{Error, OnConstraint as _, Result};
use crate::extract::{Json, Path, Query};
use crate::openapi::problems;
use crate::problem::FieldError;
use crate::routes::login::hand_out;
use crate::session::{self, Begin};
use crate::state::App;
use crate::store::sessions::{Session, Transport};
use crate::store::users::{self, Filter, NewUser, Role, User};
use crate::{names, password};

/// An account to make. At least one of `username` and `email` is given.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"username": "alice", "email": "alice@example.com", "name": "Alice", "password": "correct horse battery staple"}))]
pub(super) struct CreateUser {
    /// 3 to 32 of `a-z 0-9 . _ -`, in any case.
    username: Option<String>,
    /// At most 254 characters.
    email: Option<String>,
    /// At most 200 characters.
    name: Option<String>,
    /// 8 to 128 characters, whichever.
    #[schema(value_type = String, format = Password, min_length = 8, max_length = 128)]
    password: SecretString,
    /// Only for admins.
    #[schema(nullable = false)]
    role: Option<Role>,
    /// As at login.
    remember: Option<bool>,
    /// As at login.
    #[schema(nullable = false)]
    transport: Option<Transport>,
}

/// An account that was made, and the login that came with it.
#[derive(Serialize, ToSchema)]
pub(super) struct Registered {
    /// The account.
    user: User,
    /// The session that was begun; absent when an admin made the account.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    session: Option<Session>,
    /// The session's secret, to be sent as `Authorization: Bearer`; null when a cookie holds it.
    #[schema(required, example = json!(null))]
    token: Option<String>,
}

/// Which accounts to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListUsers {
    /// A part of username, email address or name, taken literally, without case.
    q: Option<String>,
    /// Only accounts with this role.
    role: Option<Role>,
    /// Only accounts that may (or may not) log in.
    is_active: Option<bool>,
    /// How many at the most.
    #[param(minimum = 1, maximum = 100, default = 50)]
    limit: Option<i64>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A page of accounts, the newest first.
#[derive(Serialize, ToSchema)]
pub(super) struct UserPage {
    /// The accounts.
    items: Vec<User>,
    /// What to give as `cursor` for the next page; null on the last one.
    #[schema(required)]
    next_cursor: Option<String>,
}

const PAGE: i64 = 50;

problems!(CreateUserProblems: Error::Forbidden, Error::RegistrationClosed, Error::UsernameTaken, Error::EmailTaken, Error::Busy);
problems!(AdminProblems: Error::Forbidden);

/// Register, or make an account as an admin
///
/// Anyone may register while registration is open, and is logged in at once. An admin makes
/// accounts at any time, with a `role`, and stays who they are.
#[utoipa::path(
    post, path = "/users", tag = "users", request_body = CreateUser,
    responses(
        (status = CREATED, body = Registered, headers(
            ("location" = String, description = "Where the account is"),
            ("set-cookie" = String, description = "The session cookie, with `transport: \"cookie\"`"),
        )),
        CreateUserProblems,
    ),
)]
pub(super) async fn create_user(
    State(app): State<App>,
    MaybeAdmin(admin): MaybeAdmin,
    client: Client,
    OwnCookie(replaces): OwnCookie,
    Json(request): Json<CreateUser>,
) -> Result<Response> {
    if admin.is_none() {
        if app.config.registration == Registration::Closed {
            return Err(Error::RegistrationClosed);
        }
        if request.role.is_some() {
            return Err(Error::Forbidden);
        }
    }
    let new = request.check()?;
    let hash = app.hasher.hash(&request.password).await?;
    if admin.is_some() {
        let user = insert(&app.pool, &new, &hash).await?;
        let location = location(&user);
        let body = Json(Registered { user, session: None, token: None });
        return Ok((StatusCode::CREATED, location, body).into_response());
    }
    let transport = request.transport.unwrap_or_default();
    let begin = Begin {
        client: &client,
        transport,
        remember: request.remember.unwrap_or(transport == Transport::Token),
        replaces: replaces.as_ref(),
        user_id: None,
    };
    let begun = session::begin(&app, begin, async |connection| {
        let user = insert(&mut *connection, &new, &hash).await?;
        let credentials =
            users::Credentials { user_id: user.id, password_hash: hash.into(), is_active: true };
        users::record_login(connection, &credentials, None).await?.ok_or(Error::InvalidCredentials)
    });
    let begun = begun.await?;
    let (set_cookie, token) = hand_out(&begun, &app.cookies);
    let location = location(&begun.user);
    let body = Json(Registered { user: begun.user, session: Some(begun.session), token });
    Ok((StatusCode::CREATED, location, set_cookie, body).into_response())
}

/// List accounts
#[utoipa::path(
    get, path = "/users", tag = "users", params(ListUsers),
    security(("cookie" = []), ("bearer" = [])),
    responses((status = OK, body = UserPage), AdminProblems),
)]
pub(super) async fn list_users(
    State(app): State<App>,
    _: Admin,
    Query(query): Query<ListUsers>,
) -> Result<Json<UserPage>> {
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=100).contains(&limit) {
        return Err(Error::invalid("limit", "invalid", "must be from 1 to 100"));
    }
    if query.q.as_ref().is_some_and(|q| q.chars().any(char::is_control)) {
        return Err(Error::invalid("q", "invalid", "must not have control characters"));
    }
    let filter = Filter {
        q: query.q.as_deref(),
        role: query.role,
        is_active: query.is_active,
        before: query.cursor.as_deref().map(read_cursor).transpose()?,
        // One more than the page tells whether there is another.
        limit: limit + 1,
    };
    let mut items = users::list(&app.pool, &filter).await?;
    let more = items.len() > usize::try_from(limit).unwrap_or(usize::MAX);
    if more {
        items.pop();
    }
    let last = items.last().filter(|_| more);
    let next_cursor = last.map(|user| URL_SAFE_NO_PAD.encode(user.id));
    Ok(Json(UserPage { items, next_cursor }))
}

/// One account
#[utoipa::path(
    get, path = "/users/{id}", tag = "users", params(("id" = Uuid, Path, description = "The account's id")),
    security(("cookie" = []), ("bearer" = [])),
    responses((status = OK, body = User), AdminProblems),
)]
pub(super) async fn get_user(
    State(app): State<App>,
    _: Admin,
    Path(id): Path<Uuid>,
) -> Result<Json<User>> {
    users::find(&app.pool, id).await?.map(Json).ok_or(Error::NotFound)
}

impl CreateUser {
    /// The names in their stored form, or all that is wrong with the request at once.
    fn check(&self) -> Result<NewUser> {
        let mut faults: Vec<FieldError> =
            password::fault("password", &self.password).into_iter().collect();
        let mut take = |text: &Option<String>,
                        field: &str,
                        read: fn(&str, &str) -> Result<String, FieldError>| {
            let read = text.as_deref().map(|text| read(field, text))?;
            read.map_err(|fault| faults.push(fault)).ok()
        };
        let username = take(&self.username, "username", names::username);
        let email = take(&self.email, "email", names::email);
        let name = take(&self.name, "name", names::name);
        if self.username.is_none() && self.email.is_none() {
            faults.push(FieldError::new("username", "required", "or email is required"));
        }
        if faults.is_empty() {
            Ok(NewUser { username, email, name, role: self.role.unwrap_or_default() })
        } else {
            Err(Error::ValidationFailed(faults))
        }
    }
}

async fn insert(db: impl PgExecutor<'_>, new: &NewUser, hash: &str) -> Result<User> {
    users::insert(db, new, hash)
        .await
        .on_constraint("users_username_key", || Error::UsernameTaken)
        .on_constraint("users_email_key", || Error::EmailTaken)
}

fn location(user: &User) -> AppendHeaders<[(header::HeaderName, String); 1]> {
    AppendHeaders([(header::LOCATION, format!("/users/{}", user.id))])
}

fn read_cursor(text: &str) -> Result<Uuid> {
    let id = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| Uuid::from_slice(&bytes).ok());
    id.ok_or_else(|| Error::invalid("cursor", "invalid", "must be a next_cursor of this list"))
}
