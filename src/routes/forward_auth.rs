//! `/forward-auth` and everything under it: whether a request may pass, asked by a reverse proxy.
//!
//! The request is the proxy's, with headers of the one that it asks about: its method, its body and its
//! `Origin` say nothing here. Whatever is not a plain yes is an error, so that proxies stay shut.

mod original;
mod requirements;

use std::sync::Once;

use axum::body::HttpBody as _;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use utoipa::IntoResponses;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::original::Original;
use self::requirements::{Flag, Requirements};
use crate::auth::{Access, CurrentUser};
use crate::config::Registration;
use crate::credential;
use crate::error::{Error, Result};
use crate::problem_examples::problems;
use crate::state::App;
use crate::store::api_tokens::Scope;
use crate::store::users::Role;
use crate::timestamp;

/// Bytes of the way to the login page: nginx takes no more than 4 KB of head from a check.
/// Whether the log has told that strangers may pass.
static WARNED: Once = Once::new();
const LOCATION_MAX: usize = 3072;

/// The check, for every method; the document has it once.
#[must_use]
pub fn router() -> OpenApiRouter<App> {
    let (schemas, paths, _) = routes!(forward_auth);
    OpenApiRouter::new()
        .routes((schemas, paths, any(forward_auth)))
        .route("/forward-auth/", any(forward_auth_below))
        .route("/forward-auth/{*original}", any(forward_auth_below))
}

/// What the proxy is told.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "for the document alone")]
enum Checked {
    /// The request may pass
    #[response(status = OK, headers(
        ("x-auth-user-id" = String, description = "Whose request it is; never changes"),
        ("x-auth-username" = String, description = "Empty without one"),
        ("x-auth-email" = String, description = "In UTF-8; empty without one"),
        ("x-auth-email-verified" = String, description = "`true` if the address is verified by the person who chose the password, else `false`: anybody can register with any address"),
        ("x-auth-role" = String, description = "`admin` when the request may do what admins do, else `user`"),
        ("x-auth-session-id" = String, description = "Empty without a session"),
        ("x-auth-scopes" = String, description = "Those of the API token, with spaces between; empty without one"),
        ("x-auth-fresh-until" = String, description = "Until when the session is or was fresh; empty without one"),
    ))]
    Yes,
    /// The login page, with `?redirect=1`
    #[response(status = FOUND, headers(("location" = String, description = "`PORTCULLIS_LOGIN_URL`, with `?return_to=`")))]
    LogIn,
}

problems!(ForwardAuthProblems:
    Error::Forbidden,
    Error::SessionRequired,
    Error::ReauthenticationRequired(900),
);

/// Whether a request may pass, for reverse proxies
///
/// nginx's `auth_request`, Traefik's `forwardAuth` and Envoy's `ext_authz` ask it with the headers of the
/// request that they are about to let through. Every method is answered as GET is, and so is everything
/// under this path, whose query belongs to the original request and is not looked at. The requirements of
/// the query may also come as a header, `X-Auth-Require: role=admin&fresh=1`; both count.
///
/// Every `X-Auth-*` header is always there, and empty where there is nothing to tell. A body is not read.
///
/// A peer in `PORTCULLIS_TRUSTED_PROXIES` may name the original method (`X-Forwarded-Method`,
/// `X-Original-Method`), by which the scope of an API token is judged: `read` for safe methods, `write` for
/// others and where none is named. It may also name the original URL (`X-Forwarded-Proto`, `-Host` and
/// `-Uri`, or `X-Original-URL`), which becomes the `return_to` of the login page where it is one of ours.
/// A 401 carries that page as `location`, if `PORTCULLIS_LOGIN_URL` is set and a browser may have asked.
#[utoipa::path(
    get, path = "/forward-auth", tag = "proxies", security(("cookie" = []), ("bearer" = []), ("api_key" = [])),
    params(Requirements), responses(Checked, ForwardAuthProblems),
)]
pub(super) async fn forward_auth(State(app): State<App>, request: Request) -> Response {
    if app.config.registration == Registration::Open {
        WARNED.call_once(|| {
            tracing::warn!(
                "a proxy asks /forward-auth while registration is open: everybody who registers passes. Set \
                 PORTCULLIS_REGISTRATION=closed, unless strangers may use the app"
            );
        });
    }
    let (mut parts, body) = request.into_parts();
    let mut response = match check(&app, &mut parts).await {
        Ok(headers) => headers.into_response(),
        Err((error, redirect)) => refuse(&app, &parts, error, redirect),
    };
    // Some proxies announce the original's body and do not send it: their next request is not the rest of
    // this one.
    if !body.is_end_stream() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Under the path, the query is that of the original request.
async fn forward_auth_below(app: State<App>, mut request: Request) -> Response {
    *request.uri_mut() = Uri::from_static("/forward-auth");
    forward_auth(app, request).await
}

/// What is told of somebody who may pass, or why not and whether the login page was asked for.
async fn check(app: &App, parts: &mut Parts) -> Result<HeaderMap, (Error, bool)> {
    let required = Requirements::of(parts).map_err(|error| (error, false))?;
    let redirect = required.iter().any(|required| required.redirect == Some(Flag::On));
    let checked = async {
        let current = CurrentUser::identify_unlimited(parts, app).await?;
        let safe = Original::of(parts, app).is_some_and(|original| original.is_safe());
        current.require_scope(if safe { Scope::Read } else { Scope::Write })?;
        if required.iter().any(|required| required.role == Some(Role::Admin)) {
            current.require_admin()?;
        }
        if required.iter().any(|required| required.fresh == Some(Flag::On)) {
            current.require_fresh(app)?;
        }
        describe(&current)
    };
    checked.await.map_err(|error| (error, redirect))
}

/// Every header is always there: a proxy that only copies must not leave a forged one standing.
fn describe(current: &CurrentUser) -> Result<HeaderMap> {
    let user = &current.user;
    let session = current.session().map(|current| &current.live.session);
    let scopes = match &current.access {
        Access::ApiToken { scopes, .. } => scopes.iter().map(|scope| scope.as_str()).collect(),
        Access::Session(_) | Access::Password(_) => Vec::new(),
    };
    // What the credential may not do here, it should do nowhere.
    let role = if current.require_admin().is_ok() { "admin" } else { "user" };
    let fresh_until = session.map(|session| timestamp::format(&session.fresh_until)).transpose();
    let told = [
        ("x-auth-user-id", user.id.to_string()),
        ("x-auth-username", user.username.clone().unwrap_or_default()),
        ("x-auth-email", user.email.clone().unwrap_or_default()),
        ("x-auth-email-verified", user.owns_email().to_string()),
        ("x-auth-role", role.to_owned()),
        ("x-auth-session-id", session.map(|session| session.id.to_string()).unwrap_or_default()),
        ("x-auth-scopes", scopes.join(" ")),
        ("x-auth-fresh-until", fresh_until.map_err(Error::internal)?.unwrap_or_default()),
    ];
    let told = told.into_iter().map(|(name, text)| {
        let value = HeaderValue::from_bytes(text.as_bytes()).map_err(Error::internal)?;
        Ok((HeaderName::from_static(name), value))
    });
    told.collect()
}

/// The error; where a login is missing, with the way to it, or that way itself.
fn refuse(app: &App, parts: &Parts, error: Error, redirect: bool) -> Response {
    let mut response = error.into_response();
    // Programs are not led to a page.
    if response.status() == StatusCode::UNAUTHORIZED
        && !credential::is_explicit(&parts.headers)
        && let Some(page) = login_page(app, parts)
    {
        if redirect {
            response = StatusCode::FOUND.into_response();
        }
        response.headers_mut().insert(header::LOCATION, page);
    }
    response
}

/// The page to log in, with the way back.
fn login_page(app: &App, parts: &Parts) -> Option<HeaderValue> {
    let page = app.config.login_url.as_ref()?;
    let original = Original::of(parts, app).and_then(|original| original.url(&app.config));
    let returning = original.map(|url| {
        let mut page = page.clone();
        page.query_pairs_mut().append_pair("return_to", url.as_str());
        page
    });
    let fits = returning.as_ref().filter(|page| page.as_str().len() <= LOCATION_MAX);
    HeaderValue::from_str(fits.unwrap_or(page).as_str()).ok()
}
