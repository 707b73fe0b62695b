//! The one form of an error's body: `application/problem+json` (RFC 9457).

use serde::Serialize;
use utoipa::ToSchema;

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
    #[schema(example = "No account has these credentials.")]
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
#[derive(Clone, Debug, Serialize, ToSchema, thiserror::Error)]
#[error("{field} {message}")]
pub struct FieldError {
    /// The field's name, or its path; `body` or `query` when it is the whole of that.
    #[schema(example = "password")]
    pub field: String,
    /// The kind of fault: `required`, `unknown`, `wrong_type`, `too_short`, `too_long`, `invalid`;
    /// of a new password also `breached`, `personal`, `guessable`, and `unchanged` where it must be changed.
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
