//! Errors as the OpenAPI document shows them: a response a status, an example a code, made from
//! `Error` itself.

use std::collections::BTreeMap;
use std::time::Duration;

use utoipa::openapi::example::{Example, ExampleBuilder};
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::{ContentBuilder, Object, Ref, RefOr, Response, ResponseBuilder, Type};

use crate::config::Rate;
use crate::error::Error;
use crate::rate_limit::RateLimit;

/// The headers of a limit. `POST /login` has them in a 401, too.
pub(crate) const LIMIT: (&str, &str) =
    ("ratelimit-policy", "The limit: its name, how many (`q`), in how many seconds (`w`)");
pub(crate) const LEFT: (&str, &str) =
    ("ratelimit", "What is left of it (`r`), and the seconds until there is more (`t`)");

/// The content type of every error.
const PROBLEM: &str = "application/problem+json";

/// An example for each code, by status.
pub(crate) type Examples = BTreeMap<String, BTreeMap<String, RefOr<Example>>>;

/// A limit that is used up.
pub(crate) fn rate_limited() -> Error {
    let policy = "account";
    let rate = Rate { burst: 10, interval: Duration::from_secs(60) };
    Error::RateLimited(RateLimit { policy, rate, left: 0, wait: Duration::from_secs(42) })
}

/// The responses that these errors come to: one a status, with an example a code.
pub(crate) fn problem_responses(errors: &[Error]) -> BTreeMap<String, RefOr<Response>> {
    responses_of(examples(errors))
}

/// An example of each of these errors.
pub(crate) fn examples(errors: &[Error]) -> Examples {
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
pub(crate) fn examples_of(response: &RefOr<Response>) -> BTreeMap<String, RefOr<Example>> {
    let RefOr::T(response) = response else { return BTreeMap::new() };
    let Some(RefOr::T(content)) = response.content.get(PROBLEM) else { return BTreeMap::new() };
    content.examples.clone().into_iter().collect()
}

/// One response a status, with all its examples.
pub(crate) fn responses_of(examples: Examples) -> BTreeMap<String, RefOr<Response>> {
    let responses = examples.into_iter().map(|(status, examples)| {
        // RFC 6750 §3.1 has a challenge for it.
        let insufficient_scope = examples.contains_key("insufficient_scope");
        let codes = examples.keys().map(|code| format!("`{code}`")).collect::<Vec<_>>();
        let content = ContentBuilder::new()
            .schema(Some(Ref::from_schema_name("Problem")))
            .examples_from_iter(examples)
            .build();
        let mut response =
            ResponseBuilder::new().description(codes.join(", ")).content(PROBLEM, content).build();
        let challenge = ("www-authenticate", "A Bearer challenge (RFC 6750)");
        let retry_after = ("retry-after", "Seconds to wait before the next try");
        let headers = match status.as_str() {
            "401" => vec![challenge],
            "403" if insufficient_scope => vec![challenge],
            "429" => vec![retry_after, LIMIT, LEFT],
            "503" => vec![retry_after],
            _ => vec![],
        };
        for (name, description) in headers {
            response.headers.insert(name.to_owned(), header(description));
        }
        (status, RefOr::T(response))
    });
    responses.collect()
}

/// A header that holds a text.
pub(crate) fn header(description: &str) -> RefOr<Header> {
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
                $crate::problem_examples::problem_responses(&[$($error),+])
            }
        }
    };
}
pub(crate) use problems;
