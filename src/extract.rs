//! axum's `Json`, `Path` and `Query`, with our errors and stricter rules.

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::de::{DeserializeOwned, IgnoredAny, IntoDeserializer as _};
use serde::{Deserialize, Deserializer, Serialize};

use crate::body;
use crate::error::Error;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A JSON object as a request, any JSON as a response.
pub struct Json<T>(pub T);

/// The parameters of the path. One that does not parse names nothing, so it is a 404.
pub struct Path<T>(pub T);

/// The parameters of the query.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, _: &S) -> Result<Self, Error> {
        if !is_json(request.headers()) {
            return Err(Error::UnsupportedMediaType);
        }
        check_coding(request.headers())?;
        let body = body::read(request).await?;
        // Some programs on Windows write a byte order mark; a parser may ignore it (RFC 8259 §8.1).
        let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&body);
        if str::from_utf8(body).is_err() {
            return Err(Error::Malformed("it is not UTF-8".to_owned()));
        }
        // serde would take an array for a struct, field by field.
        if body.trim_ascii_start().first() == Some(&b'[') {
            return Err(match serde_json::from_slice::<IgnoredAny>(body) {
                Ok(_) => Error::invalid("body", "wrong_type", "must be a JSON object"),
                Err(error) => Error::Malformed(position(&error)),
            });
        }
        let mut deserializer = serde_json::Deserializer::from_slice(body);
        let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
            if error.inner().is_data() {
                invalid(&error.path().to_string(), &error.inner().to_string(), "body")
            } else if serde_json::from_slice::<IgnoredAny>(body).is_ok() {
                // A null or a number for an enum is a fault of syntax to serde_json, and to nobody else.
                invalid(&error.path().to_string(), "", "body")
            } else {
                Error::Malformed(position(error.inner()))
            }
        })?;
        deserializer.end().map_err(|error| Error::Malformed(position(&error)))?;
        Ok(Self(value))
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(_) => Err(Error::NotFound),
        }
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        query(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

/// What is written as a query is.
///
/// # Errors
/// A 422 that names what is wrong.
pub fn query<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    let deserializer =
        serde_urlencoded::Deserializer::new(url::form_urlencoded::parse(text.as_bytes()));
    serde_path_to_error::deserialize(deserializer)
        .map_err(|error| invalid(&error.path().to_string(), &error.inner().to_string(), "query"))
}

/// For fields of a `PATCH`: what is absent is `None`, what is null is `Some(None)`.
///
/// # Errors
/// Those of the value.
pub fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// For optional fields that are either left out or hold a value, never null.
///
/// # Errors
/// Those of the value.
pub fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// For optional fields that are one word out of a list: serde would also take an object for it.
///
/// # Errors
/// Those of the word.
pub fn word<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let word = String::deserialize(deserializer)?;
    T::deserialize(word.into_deserializer()).map(Some)
}

/// As [`word`], for optional lists of such words.
///
/// # Errors
/// Those of the words.
pub fn words<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<T>>, D::Error> {
    let words = Vec::<String>::deserialize(deserializer)?;
    words
        .into_iter()
        .map(|word| T::deserialize(word.into_deserializer()))
        .collect::<Result<_, _>>()
        .map(Some)
}

fn is_json(headers: &HeaderMap) -> bool {
    let essence = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map(|value| value.trim().to_ascii_lowercase());
    essence.is_some_and(|essence| essence == "application/json")
}

/// Rejects a body that is not what it seems: a compressed one (RFC 9110 §8.4), or a part of one (§14.5).
fn check_coding(headers: &HeaderMap) -> Result<(), Error> {
    let codings = headers.get_all(header::CONTENT_ENCODING).iter();
    let mut codings = codings.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let is_plain = |coding: &[u8]| {
        let coding = coding.trim_ascii();
        coding.is_empty() || coding.eq_ignore_ascii_case(b"identity")
    };
    if !codings.all(is_plain) {
        return Err(Error::EncodedBody);
    }
    match headers.contains_key(header::CONTENT_RANGE) {
        true => Err(Error::Malformed("it is only a part (Content-Range)".to_owned())),
        false => Ok(()),
    }
}

/// Where in the text the JSON breaks off, in words that do not repeat the text.
fn position(error: &serde_json::Error) -> String {
    format!("line {}, column {}", error.line(), error.column())
}

/// A 422 from what serde says of a value; `whole` names the value when no field is to blame.
pub(crate) fn invalid(path: &str, message: &str, whole: &str) -> Error {
    let path = if path == "." || path == "?" { whole } else { path };
    let named = |prefix: &str| {
        message.strip_prefix(prefix).and_then(|rest| rest.split('`').next()).map(str::to_owned)
    };
    if let Some(field) = named("missing field `") {
        Error::invalid(&field, "required", "is required")
    } else if let Some(field) = named("unknown field `") {
        Error::invalid(&field, "unknown", "is not known here")
    } else if let Some(field) = named("duplicate field `") {
        Error::invalid(&field, "invalid", "is given twice")
    } else if message.starts_with("unknown variant") {
        let (_, expected) = message.split_once(", expected ").unwrap_or_default();
        let expected = expected.split(" at line ").next().unwrap_or(expected).replace('`', "");
        Error::invalid(path, "invalid", &format!("must be {expected}"))
    } else if let Some((_, expected)) = message.split_once(", expected ") {
        let expected = expected.split(" at line ").next().unwrap_or(expected);
        let expected = if expected.starts_with("struct ") { "a JSON object" } else { expected };
        Error::invalid(path, "wrong_type", &format!("must be {expected}"))
    } else if message.starts_with("must be ") {
        let message = message.split(" at line ").next().unwrap_or(message);
        Error::invalid(path, "invalid", message)
    } else {
        // Among others what the standard library says of numbers, booleans and ids in a query.
        Error::invalid(path, "wrong_type", "must be another kind of value")
    }
}
