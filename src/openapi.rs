//! The OpenAPI document: its head, and what holds for every call.
//!
//! Handlers say what is their own; the errors that follow from a call's nature (it needs a login,
//! it reads a body, it can be slow) are added here, each with an example made from `Error` itself.

use std::collections::BTreeSet;

use axum::http::Method;
use utoipa::OpenApi;
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::schema::ArrayItems;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{ObjectBuilder, Ref, RefOr, Schema, Type};

use crate::error::Error;
use crate::problem::{FieldError, Problem};
use crate::problem_examples::{LEFT, LIMIT, examples, examples_of, header, responses_of};
use crate::token::{self, Purpose as _};
use crate::{credential, cross_origin, routes};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Portcullis",
        description = "Login, logout, the current user: sessions in PostgreSQL for every frontend and backend.\n\n\
            Browsers hold a session in a cookie that scripts cannot read; apps ask for `transport: \"token\"` \
            and send the token as `Authorization: Bearer`. Every error is a `Problem` (RFC 9457) whose `code` \
            tells programs what happened. Every answer carries `x-request-id`. Where a request may carry a \
            password (`Authorization: Basic`, off by default), any call may be a 429, a 503 `busy` or a 403 \
            `email_unverified`.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    servers((url = "/", description = "This service")),
    tags(
        (name = "session", description = "Register, log in, find out who is logged in, log out"),
        (name = "me", description = "The caller's own account"),
        (name = "mail", description = "Forgotten passwords, verified addresses, logins by mail"),
        (name = "users", description = "Accounts, for admins"),
        (name = "proxies", description = "Who sent a request to an app behind a reverse proxy"),
        (name = "service", description = "Whether the service is well"),
    ),
    components(schemas(Problem, FieldError)),
)]
struct Head;

/// The whole document, from the handlers.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    let mut document = Head::openapi();
    document.merge(routes::router().into_openapi());
    document.merge(routes::forward_auth().into_openapi());
    let components = document.components.get_or_insert_default();
    let cookie = ApiKeyValue::with_description(
        "portcullis",
        "The session cookie, set by `POST /login`. Behind https its name is `__Host-portcullis`, \
         or `__Secure-portcullis` with a cookie domain.",
    );
    components.add_security_scheme("cookie", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some(format!(
            "The `token` of a login with `transport: \"token\"` (it starts with `{}`), or an API \
             token (`{}`).",
            credential::SESSION_TOKEN_PREFIX,
            token::ApiToken::PREFIX,
        )))
        .build();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    let api_key = ApiKeyValue::with_description("X-API-Key", "An API token.");
    components.add_security_scheme("api_key", SecurityScheme::ApiKey(ApiKey::Header(api_key)));
    for item in document.paths.paths.values_mut() {
        complete(item.get.as_mut(), Method::GET);
        complete(item.post.as_mut(), Method::POST);
        complete(item.put.as_mut(), Method::PUT);
        complete(item.patch.as_mut(), Method::PATCH);
        complete(item.delete.as_mut(), Method::DELETE);
    }
    name_items(&mut document);
    name_codes(&mut document);
    document
}

/// Has pages refer to the schema of their items: generated clients then have one type for both.
fn name_items(document: &mut utoipa::openapi::OpenApi) {
    let Some(components) = &mut document.components else { return };
    for (name, schema) in &mut components.schemas {
        if let Some(item) = name.strip_prefix("Page_")
            && let RefOr::T(Schema::Object(page)) = schema
            && let Some(RefOr::T(Schema::Array(items))) = page.properties.get_mut("items")
        {
            items.items = ArrayItems::RefOrSchema(Box::new(Ref::from_schema_name(item).into()));
        }
    }
}

/// Adds `ProblemCode`, which lists the codes of all documented errors, for programs that compare with them. Nothing
/// refers to it: `Problem.code` stays open for new codes.
fn name_codes(document: &mut utoipa::openapi::OpenApi) {
    let mut codes =
        BTreeSet::from([Error::NotFound.code(), Error::MethodNotAllowed.code()].map(str::to_owned));
    for item in document.paths.paths.values() {
        let operations = [&item.get, &item.post, &item.put, &item.patch, &item.delete];
        for operation in operations.into_iter().flatten() {
            codes.extend(
                operation.responses.responses.values().flat_map(|it| examples_of(it).into_keys()),
            );
        }
    }
    let description = "The codes of this version. New versions may add others.";
    let schema = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(codes));
    let schema = schema.description(Some(description)).build();
    document
        .components
        .get_or_insert_default()
        .schemas
        .insert("ProblemCode".to_owned(), schema.into());
}

/// The document as it is committed.
///
/// # Errors
/// None: the document is plain data.
pub fn json() -> serde_json::Result<String> {
    json_below("")
}

/// The document as it is served below a prefix, such as `/auth`, if there is one.
///
/// # Errors
/// As for [`json`].
pub fn json_below(prefix: &str) -> serde_json::Result<String> {
    let mut document = document();
    if !prefix.is_empty() {
        for server in document.servers.iter_mut().flatten() {
            server.url = prefix.to_owned();
        }
    }
    document.to_pretty_json().map(|json| json + "\n")
}

/// Adds the errors that follow from what kind of call it is, and the header of every answer.
fn complete(operation: Option<&mut Operation>, method: Method) {
    let Some(operation) = operation else { return };
    let mut errors = vec![Error::internal(""), Error::InvalidHost];
    if operation.tags.iter().flatten().all(|tag| tag != "service") {
        errors.extend([Error::Timeout, Error::DatabaseUnavailable("".into())]);
    }
    // A list with an empty alternative is for calls that take a credential and need none.
    let anonymous = SecurityRequirement::default();
    if operation.security.as_ref().is_some_and(|schemes| !schemes.contains(&anonymous)) {
        errors.extend([Error::Unauthenticated, Error::SessionExpired, Error::InvalidToken]);
        let id = operation.operation_id.as_deref().unwrap_or_default();
        if !["get_me", "get_session", "change_password"].contains(&id) {
            errors.push(Error::PasswordChangeRequired);
        }
    }
    let takes_api_key = |requirement: &SecurityRequirement| *requirement == api_key();
    if operation.security.iter().flatten().any(takes_api_key) {
        let scope = if method.is_safe() { "read" } else { "write" };
        errors.push(Error::InsufficientScope(scope));
    }
    if !method.is_safe() {
        let origin = "https://other.example".to_owned();
        errors.push(Error::CrossOriginRejected { origin, remedy: cross_origin::ANOTHER_ORIGIN });
    }
    if operation.request_body.is_some() {
        errors.push(Error::Malformed("line 1, column 2".to_owned()));
        errors.extend([Error::BodyTooLarge, Error::UnsupportedMediaType, Error::TooManyBodies]);
        errors.push(Error::invalid("password", "required", "is required"));
    }
    let parameters = operation.parameters.iter().flatten();
    for parameter in parameters {
        match parameter {
            RefOr::T(it) if it.parameter_in == ParameterIn::Path => errors.push(Error::NotFound),
            RefOr::T(it) if it.parameter_in == ParameterIn::Query => {
                errors.push(Error::invalid("x", "unknown", "is not known here"));
            }
            _ => {}
        }
    }
    let responses = &mut operation.responses.responses;
    let mut examples = examples(&errors);
    for (status, response) in responses.iter() {
        examples.entry(status.clone()).or_default().extend(examples_of(response));
    }
    examples.retain(|_, examples| !examples.is_empty());
    responses.extend(responses_of(examples));
    let is_login = operation.operation_id.as_deref() == Some("login");
    for (status, response) in responses.iter_mut() {
        if let RefOr::T(response) = response {
            if is_login && status == "401" {
                for (name, description) in [LIMIT, LEFT] {
                    response.headers.insert(name.to_owned(), header(description));
                }
            }
            if response.description.is_empty() {
                response.description = operation.summary.clone().unwrap_or_default();
            }
            let id = header("Names the request, here and in the log");
            response.headers.insert("x-request-id".to_owned(), id);
        }
    }
}

fn api_key() -> SecurityRequirement {
    SecurityRequirement::new("api_key", Vec::<String>::new())
}
