//! The one form of an error's body: `application/problem+json` (RFC 9457).

use std::sync::Arc;

use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::Error;
use crate::request_id::RequestId;

/// An error, as RFC 9457 writes it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// A URN that names the kind of problem; it holds `code`.
    #[schema(example = "urn:portcullis:problem:invalid_credentials")]
    pub r#type: String,
    /// The kind of problem in words, the same for every occurrence.
    #[schema(example = "Invalid credentials")]
    pub title: String,
    /// The HTTP status.
    #[schema(example = 401)]
    pub status: u16,
    /// What happened this time, for a person.
    #[schema(example = "No account has this name and password.")]
    pub detail: String,
    /// What a program decides by. New codes may come, so treat it as an open string.
    #[schema(example = "invalid_credentials")]
    pub code: String,
    /// The id of the request, as in the `x-request-id` header and the log.
    #[schema(example = "019a5f3c-7a10-7c60-9d6e-0c8f6f1a2b3c")]
    pub request_id: String,
    /// What is wrong with which field; only with `validation_failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub errors: Option<Vec<FieldError>>,
}

/// What is wrong with one field of a request.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FieldError {
    /// The field's name, or its path; `body` when it is the body as a whole.
    #[schema(example = "password")]
    pub field: String,
    /// The kind of fault: `required`, `unknown`, `wrong_type`, `too_short`, `too_long`, `invalid`.
    #[schema(example = "too_short")]
    pub code: String,
    /// The fault in words; it reads on from the field's name.
    #[schema(example = "must have at least 8 characters")]
    pub message: String,
}

impl FieldError {
    /// A fault of one field.
    pub fn new(field: &str, code: &str, message: &str) -> Self {
        Self { field: field.to_owned(), code: code.to_owned(), message: message.to_owned() }
    }
}

/// The layer that writes the body of every error, its own as well as those that the router, the
/// body limit or a foreign service answers without one.
pub async fn write(request: Request, next: Next) -> Response {
    let request_id = RequestId::of(&request);
    let response = next.run(request).await;
    if response.status().is_success()
        || response.status().is_redirection()
        || response.status().is_informational()
    {
        return response;
    }
    let (mut parts, _) = response.into_parts();
    let problem = match parts.extensions.remove::<Arc<Error>>() {
        Some(error) => error.problem(&request_id),
        None => {
            let error = Error::from_status(parts.status);
            let problem = error.problem(&request_id);
            let (own, _) = error.into_response().into_parts();
            parts.status = own.status;
            parts.headers.extend(own.headers);
            problem
        }
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    let mut response = (parts, Json(problem)).into_response();
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}
