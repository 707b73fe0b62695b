//! `/users`: making accounts, and the admin's view of them.

pub(super) mod one;
pub(super) mod sessions;
pub(super) mod tokens;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse as _, Response};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use utoipa::{IntoParams, ToSchema};

use crate::account::{self, Actor};
use crate::auth::{Admin, CurrentUser, MaybeAdmin, NamedSessions};
use crate::client::Client;
use crate::config::Registration;
use crate::error::{Error, Result};
use crate::extract::{Json, Query, given, word};
use crate::page::{Page, PageQuery};
use crate::password::NewPassword;
use crate::problem::FieldError;
use crate::problem_examples::{problems, rate_limited};
use crate::routes::login::{Tokens, Wanted, hand_out};
use crate::session;
use crate::state::App;
use crate::store;
use crate::store::former_usernames;
use crate::store::outbox::{self, MailKind, NewMail};
use crate::store::sessions::{Session, Transport};
use crate::store::users::{self, Filter, NewUser, Role, User};
use crate::store::{known_devices, registrations};
use crate::{names, schemas, throttle};

/// An account to make. At least one of `username` and `email` is given.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"username": "alice", "email": "alice@example.com", "name": "Alice", "password": "correct horse battery staple"}))]
pub(super) struct CreateUser {
    /// Or an email address.
    #[schema(schema_with = schemas::username)]
    username: Option<String>,
    /// Or a username.
    #[schema(schema_with = schemas::email)]
    email: Option<String>,
    /// How the person wants to be called.
    #[schema(schema_with = schemas::name)]
    name: Option<String>,
    /// 8 to 128 characters (the service may ask for more), any characters; none that leaks often, is
    /// guessed at once, or is made of the account's names.
    #[schema(value_type = String, format = Password, min_length = 8, max_length = 128)]
    password: SecretString,
    /// Only for admins.
    #[serde(default, deserialize_with = "word")]
    #[schema(nullable = false)]
    role: Option<Role>,
    /// Only for admins: whether the owner must choose a new password before anything else.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false)]
    must_change_password: Option<bool>,
    /// As at login.
    remember: Option<bool>,
    /// As at login.
    remember_for: Option<String>,
    /// As at login.
    #[serde(default, deserialize_with = "word")]
    #[schema(nullable = false)]
    transport: Option<Transport>,
}

/// An account that was made, and the login that came with it.
#[derive(Serialize, ToSchema)]
pub(super) struct Registered {
    /// The account.
    user: User,
    /// The session that was begun; absent when an admin made the account, and when its address is to be
    /// verified first.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    session: Option<Session>,
    /// The session's secret, to be sent as `Authorization: Bearer`; null when a cookie holds it, and
    /// when there is no session.
    #[schema(required, example = "pcs_WkSzIYsmLt-laosGwUXNHA")]
    token: Option<String>,
    /// As at login.
    #[schema(required, example = "pcd_XIkE-uXzyYXTgeTxAln2VzuZTUU0eSSf")]
    device_token: Option<String>,
}

/// A registration whose account is created when the address is verified.
#[derive(Serialize, ToSchema)]
pub(super) struct RegistrationPending {
    /// For apps: send it with `POST /email/verify` and with the first login. Null when a cookie holds it.
    #[schema(required, example = "pcd_XIkE-uXzyYXTgeTxAln2VzuZTUU0eSSf")]
    device_token: Option<String>,
}

/// Which accounts to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListUsers {
    /// A part of username, email address or name, taken literally, without case and without control
    /// characters.
    #[param(pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    q: Option<String>,
    /// Only accounts with this role.
    role: Option<Role>,
    /// Only accounts that may (or may not) log in.
    is_active: Option<bool>,
}

problems!(CreateUserProblems: Error::SessionExpired, Error::InvalidToken, Error::ReauthenticationRequired(900), Error::SessionRequired, Error::InsufficientScope("admin"), Error::PasswordChangeRequired, Error::Forbidden, Error::RegistrationClosed, Error::UsernameTaken, Error::EmailTaken, rate_limited(), Error::Busy);
problems!(ListProblems: Error::Forbidden, Error::InsufficientScope("admin"));

/// Register, or make an account as an admin
///
/// Anyone may register while registration is open, and is logged in at once, unless the service wants
/// addresses verified first. An admin makes accounts at any time, with a fresh session or a token with
/// the scope `admin`, with a `role`, and stays who they are. Sends a verification email if the request has an address.
/// Where the service does not tell which addresses are taken, a registration with one is a 202, and the
/// account is made when the address is verified.
#[utoipa::path(
    post, path = "/users", tag = "session", request_body = CreateUser,
    security((), ("cookie" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = CREATED, body = Registered, headers(
            ("location" = String, description = "Where the account is"),
            ("set-cookie" = String, description = "The session cookie, with `transport: \"cookie\"`, and one by which the account knows this browser"),
        )),
        (status = ACCEPTED, body = RegistrationPending, description = "A mail to the address tells how to go on", headers(
            ("set-cookie" = String, description = "With `transport: \"cookie\"`, the secret by which the account will recognise this browser"),
        )),
        CreateUserProblems,
    ),
)]
pub(super) async fn create_user(
    State(app): State<App>,
    MaybeAdmin(admin): MaybeAdmin,
    client: Client,
    NamedSessions(replaces): NamedSessions,
    Json(request): Json<CreateUser>,
) -> Result<Response> {
    if admin.is_none() {
        if app.config.registration == Registration::Closed {
            return Err(Error::RegistrationClosed);
        }
        if request.role.is_some() || request.must_change_password.is_some() {
            return Err(Error::Forbidden);
        }
    }
    let (transport, remember) = (request.transport, request.remember);
    let wanted = Wanted::new(&app, transport, remember, request.remember_for.as_deref())?;
    let new = request.check(&app, admin.is_none())?;
    let hasher = app.hasher.for_client(&client);
    let place = hasher.admit().await?;
    if admin.is_none() {
        throttle::count_name(&app, &client).await?;
    }
    let (field, password, names) = ("password", &request.password, new.names());
    let hash = hasher.hash_new_at(place, NewPassword { field, password, names }).await?;
    if let Some(admin) = admin {
        return make_as_admin(&app, &client, &admin, &new, &hash).await;
    }
    match &new.email {
        Some(email) if app.config.registration_privacy.is_on() => {
            return make_when_verified(&app, &client, &wanted, &new, &hash, email).await;
        }
        _ if app.config.require_verified_email.is_on() => {
            return make_unverified(&app, &client, &wanted, &new, &hash).await;
        }
        _ => {}
    }
    let begin = wanted.begin(&client, "registration", &replaces, None);
    let begun = session::begin(&app, begin, async |connection| {
        let user = account::create(connection, &new, &hash, Actor::Registrant, &client).await?;
        count_mail(connection, &app, &client, &new).await?;
        let credential_version = users::FIRST_CREDENTIAL_VERSION;
        users::record_login(connection, user.id, credential_version)
            .await?
            .ok_or_else(|| Error::internal("an account that was just created is not there"))
    });
    let begun = begun.await?;
    let (cookies, tokens) = hand_out(&begun, &app.cookies);
    let location = location(&begun.user);
    let Tokens { token, device_token } = tokens;
    let body = Registered { user: begun.user, session: Some(begun.session), token, device_token };
    Ok((StatusCode::CREATED, location, cookies, Json(body)).into_response())
}

/// Creates an account for somebody else.
async fn make_as_admin(
    app: &App,
    client: &Client,
    admin: &CurrentUser,
    new: &NewUser,
    hash: &str,
) -> Result<Response> {
    let mut transaction = store::begin(&app.pool).await?;
    let user = account::create(&mut transaction, new, hash, Actor::Admin(admin), client).await?;
    transaction.commit().await?;
    let location = location(&user);
    let body = Json(Registered { user, session: None, token: None, device_token: None });
    Ok((StatusCode::CREATED, location, body).into_response())
}

/// Creates the account of somebody who may log in when the address is verified. It recognises the client
/// from now on.
async fn make_unverified(
    app: &App,
    client: &Client,
    wanted: &Wanted,
    new: &NewUser,
    hash: &str,
) -> Result<Response> {
    let device = client.new_device();
    let mut transaction = store::begin(&app.pool).await?;
    let user = account::create(&mut transaction, new, hash, Actor::Registrant, client).await?;
    known_devices::insert(&mut *transaction, user.id, &device.secret.hash()).await?;
    count_mail(&mut transaction, app, client, new).await?;
    transaction.commit().await?;
    let location = location(&user);
    let (cookie, device_token) = wanted.hand_out_device(&device, &app.cookies);
    let body = Json(Registered { user, session: None, token: None, device_token });
    Ok((StatusCode::CREATED, location, cookie, body).into_response())
}

/// Counts the mail to whoever registers with an address.
async fn count_mail(
    connection: &mut PgConnection,
    app: &App,
    client: &Client,
    new: &NewUser,
) -> Result<()> {
    let Some(email) = &new.email else { return Ok(()) };
    throttle::count_mail(connection, app, client, MailKind::VerifyEmail, email).await
}

/// Has a mail sent to the address of an account that is to be made. Whether there is an account with
/// that address is looked for when the mail is sent, and told in the mail alone.
async fn make_when_verified(
    app: &App,
    client: &Client,
    wanted: &Wanted,
    new: &NewUser,
    hash: &str,
    email: &str,
) -> Result<Response> {
    // Usernames are for all to see.
    if let Some(username) = &new.username
        && (users::has_username(&app.pool, username).await?
            || former_usernames::is_reserved(&app.pool, username, None).await?)
    {
        return Err(Error::UsernameTaken);
    }
    let device = client.new_device();
    let mut transaction = store::begin(&app.pool).await?;
    count_mail(&mut transaction, app, client, new).await?;
    let id = registrations::insert(&mut *transaction, new, hash, &device.secret.hash()).await?;
    let mail = NewMail::to_address(MailKind::VerifyEmail, email);
    let mail = NewMail { registration_id: Some(id), ..mail };
    outbox::insert(&mut *transaction, &mail).await?;
    transaction.commit().await?;
    let (cookie, device_token) = wanted.hand_out_device(&device, &app.cookies);
    Ok((StatusCode::ACCEPTED, cookie, Json(RegistrationPending { device_token })).into_response())
}

/// List accounts
///
/// The newest first, a page at a time.
#[utoipa::path(
    get, path = "/users", tag = "users", params(ListUsers, PageQuery),
    security(("cookie" = []), ("bearer" = []), ("api_key" = [])),
    responses((status = OK, body = Page<User>), ListProblems),
)]
pub(super) async fn list_users(
    State(app): State<App>,
    _: Admin,
    Query(query): Query<ListUsers>,
    Query(paging): Query<PageQuery>,
) -> Result<Json<Page<User>>> {
    let paging = paging.check()?;
    if query.q.as_ref().is_some_and(|q| q.chars().any(char::is_control)) {
        return Err(Error::invalid("q", "invalid", "must not have control characters"));
    }
    let filter = Filter { q: query.q.as_deref(), role: query.role, is_active: query.is_active };
    let mut connection = app.pool.acquire().await?;
    let rows = users::list(&mut connection, &filter, &paging).await?;
    Ok(Json(paging.page(rows, |user| user.id)))
}

impl CreateUser {
    /// The names in their stored form, or all that is wrong with the request at once.
    fn check(&self, app: &App, by_registrant: bool) -> Result<NewUser> {
        let mut faults: Vec<FieldError> =
            app.hasher.fault("password", &self.password).into_iter().collect();
        let mut take = |text: &Option<String>, field: &str, read: names::Read| {
            read(field, text.as_deref()?).map_err(|fault| faults.push(fault)).ok()
        };
        let username = take(&self.username, "username", names::username);
        let email = take(&self.email, "email", app.config.new_email());
        let name = take(&self.name, "name", names::name);
        if self.email.is_none() && by_registrant && app.config.require_verified_email.is_on() {
            faults.push(FieldError::new("email", "required", "is required"));
        } else if self.username.is_none() && self.email.is_none() {
            faults.push(FieldError::new("username", "required", "or email is required"));
        }
        if faults.is_empty() {
            Ok(NewUser {
                username,
                email,
                name,
                role: self.role.unwrap_or_default(),
                email_verified: false,
                must_change_password: self.must_change_password.unwrap_or_default(),
                password_proven: false,
            })
        } else {
            Err(Error::ValidationFailed(faults))
        }
    }
}

fn location(user: &User) -> AppendHeaders<[(header::HeaderName, String); 1]> {
    AppendHeaders([(header::LOCATION, format!("/users/{}", user.id))])
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        let given = json!({"username": "alice", "password": "hunter2"});
        let request: CreateUser = from_value(given).unwrap();
        assert!(!format!("{request:?}").contains("hunter2"));
    }
}
