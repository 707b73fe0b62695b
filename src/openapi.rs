//! The OpenAPI document: its head, and what holds for every call.
//!
//! Handlers say what is their own; the errors that follow from a call's nature (it needs a login,
//! it reads a body, it can be slow) are added here, each with an example made from `Error` itself.

use std::collections::BTreeMap;

use axum::http::Method;
use utoipa::OpenApi;
use utoipa::openapi::example::{Example, ExampleBuilder};
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{ContentBuilder, Object, Ref, RefOr, Response, ResponseBuilder, Type};

use crate::error::Error;
use crate::problem::{FieldError, Problem};
use crate::{credential, routes, token};

/// The content type of every error.
const PROBLEM: &str = "application/problem+json";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Portcullis",
        description = "Login, logout, the current user: sessions in PostgreSQL for every frontend and backend.\n\n\
            Browsers hold a session in a cookie that scripts cannot read; apps ask for `transport: \"token\"` \
            and send the token as `Authorization: Bearer`. Every error is a `Problem` (RFC 9457) whose `code` \
            tells programs what happened. Every answer carries `x-request-id`.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    servers((url = "/", description = "This service")),
    tags(
        (name = "session", description = "Log in, be known, log out"),
        (name = "me", description = "The own account"),
        (name = "users", description = "Accounts, for admins; and registration"),
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
    let components = document.components.get_or_insert_default();
    let cookie = ApiKeyValue::with_description(
        "portcullis",
        "The session cookie, set by `POST /login`. Behind https its name is `__Host-portcullis`.",
    );
    components.add_security_scheme("cookie", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some(format!(
            "The `token` of a login with `transport: \"token\"` (it starts with `{}`), or an API \
             token (`{}`).",
            credential::SESSION_TOKEN_PREFIX,
            token::PREFIX,
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
    document
}

/// The document as it is served and committed.
///
/// # Errors
/// None: the document is plain data.
pub fn json() -> serde_json::Result<String> {
    document().to_pretty_json().map(|json| json + "\n")
}

/// Adds the errors that follow from what kind of call it is, and the header of every answer.
fn complete(operation: Option<&mut Operation>, method: Method) {
    let Some(operation) = operation else { return };
    let mut errors = vec![Error::internal("")];
    if operation.tags.iter().flatten().all(|tag| tag != "service") {
        errors.extend([Error::Timeout, Error::DatabaseUnavailable("".into())]);
    }
    // A list with an empty alternative is for calls that take a credential and need none.
    let anonymous = SecurityRequirement::default();
    if operation.security.as_ref().is_some_and(|schemes| !schemes.contains(&anonymous)) {
        errors.extend([Error::Unauthenticated, Error::SessionExpired, Error::InvalidToken]);
    }
    let takes_api_key = |requirement: &SecurityRequirement| *requirement == api_key();
    if operation.security.iter().flatten().any(takes_api_key) {
        let scope = if method.is_safe() { "read" } else { "write" };
        errors.push(Error::InsufficientScope(scope));
    }
    if !method.is_safe() {
        errors.push(Error::CrossOriginRejected("https://other.example".to_owned()));
    }
    if operation.request_body.is_some() {
        errors.push(Error::Malformed("line 1, column 2".to_owned()));
        errors.extend([Error::BodyTooLarge, Error::UnsupportedMediaType]);
        errors.push(Error::invalid("password", "required", "is required"));
    } else {
        errors.push(Error::invalid("x", "unknown", "is not known here"));
    }
    let mut parameters = operation.parameters.iter().flatten();
    if parameters.any(|p| matches!(p, RefOr::T(p) if p.parameter_in == ParameterIn::Path)) {
        errors.push(Error::NotFound);
    }
    let responses = &mut operation.responses.responses;
    let mut examples = examples(&errors);
    for (status, response) in responses.iter() {
        examples.entry(status.clone()).or_default().extend(examples_of(response));
    }
    examples.retain(|_, examples| !examples.is_empty());
    responses.extend(responses_of(examples));
    for response in responses.values_mut() {
        if let RefOr::T(response) = response {
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

/// An example for each code, by status.
type Examples = BTreeMap<String, BTreeMap<String, RefOr<Example>>>;

/// The responses that these errors come to: one a status, with an example a code.
pub(crate) fn problem_responses(errors: &[Error]) -> BTreeMap<String, RefOr<Response>> {
    responses_of(examples(errors))
}

fn examples(errors: &[Error]) -> Examples {
    let mut examples = Examples::new();
    for error in errors {
        let (status, code, title) = error.parts();
        let problem = error.problem("019a5f3c-7a10-7c60-9d6e-0c8f6f1a2b3c");
        let example =
            ExampleBuilder::new().summary(title).value(serde_json::to_value(problem).ok());
        let of_status = examples.entry(status.as_u16().to_string()).or_default();
        of_status.insert(code.to_owned(), RefOr::T(example.build()));
    }
    examples
}

/// The examples that a handler's own problems came with.
fn examples_of(response: &RefOr<Response>) -> BTreeMap<String, RefOr<Example>> {
    let RefOr::T(response) = response else { return BTreeMap::new() };
    let Some(RefOr::T(content)) = response.content.get(PROBLEM) else { return BTreeMap::new() };
    content.examples.clone().into_iter().collect()
}

fn responses_of(examples: Examples) -> BTreeMap<String, RefOr<Response>> {
    let responses = examples.into_iter().map(|(status, examples)| {
        let codes = examples.keys().map(|code| format!("`{code}`")).collect::<Vec<_>>();
        let content = ContentBuilder::new()
            .schema(Some(Ref::from_schema_name("Problem")))
            .examples_from_iter(examples)
            .build();
        let mut response =
            ResponseBuilder::new().description(codes.join(", ")).content(PROBLEM, content).build();
        let (name, description) = match status.as_str() {
            "401" => ("www-authenticate", "A Bearer challenge (RFC 6750)"),
            "503" => ("retry-after", "Seconds to wait before the next try"),
            _ => return (status, RefOr::T(response)),
        };
        response.headers.insert(name.to_owned(), header(description));
        (status, RefOr::T(response))
    });
    responses.collect()
}

fn header(description: &str) -> RefOr<Header> {
    let header = HeaderBuilder::new()
        .schema(Some(Object::with_type(Type::String)))
        .description(Some(description));
    RefOr::T(header.build())
}

/// Declares a type that stands for some errors in a handler's `responses(…)`.
macro_rules! problems {
    ($name:ident: $($error:expr),+ $(,)?) => {
        struct $name;

        impl utoipa::IntoResponses for $name {
            fn responses() -> std::collections::BTreeMap<String, utoipa::openapi::RefOr<utoipa::openapi::Response>> {
                $crate::openapi::problem_responses(&[$($error),+])
            }
        }
    };
}
pub(crate) use problems;
