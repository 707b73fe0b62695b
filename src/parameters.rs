//! No call takes a query parameter that the OpenAPI document does not list: a misspelt filter must
//! not list everything.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use url::form_urlencoded;
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::{OpenApi, RefOr};

use crate::credential;
use crate::error::Error;
use crate::state::App;

/// Links in mails: those that pass them on append parameters of their own.
const FOR_PEOPLE: [&str; 2] = ["/password/reset", "/email/verify"];

/// The names of the query parameters of each call, by path and method.
#[derive(Clone, Debug)]
pub(crate) struct Parameters(Arc<HashMap<String, HashMap<Method, HashSet<String>>>>);

impl Parameters {
    pub(crate) fn of(document: &OpenApi) -> Self {
        let paths = document.paths.paths.iter().map(|(path, item)| {
            let methods = [
                (Method::GET, &item.get),
                (Method::POST, &item.post),
                (Method::PUT, &item.put),
                (Method::PATCH, &item.patch),
                (Method::DELETE, &item.delete),
            ];
            let methods = methods
                .into_iter()
                .filter_map(|(method, operation)| Some((method, names(operation.as_ref()?))));
            (path.clone(), methods.collect())
        });
        Self(Arc::new(paths.collect()))
    }

    fn unknown(&self, request: &Request, app: &App) -> Option<String> {
        let query = request.uri().query()?;
        let path = request.extensions().get::<MatchedPath>()?;
        let method = match *request.method() {
            Method::HEAD => &Method::GET,
            ref method => method,
        };
        if FOR_PEOPLE.contains(&path.as_str()) && method == Method::GET {
            return None;
        }
        let known = self.0.get(path.as_str())?.get(method)?;
        form_urlencoded::parse(query.as_bytes())
            .map(|(name, _)| name)
            .filter(|name| !(app.config.api_key_query.is_on() && name == credential::API_KEY))
            .find(|name| !known.contains(name.as_ref()))
            .map(|name| name.into_owned())
    }
}

/// The layer that answers an unknown parameter with a 422.
pub(crate) async fn layer(
    State((parameters, app)): State<(Parameters, App)>,
    request: Request,
    next: Next,
) -> Response {
    match parameters.unknown(&request, &app) {
        Some(name) => Error::invalid(&name, "unknown", "is not known here").into_response(),
        None => next.run(request).await,
    }
}

fn names(operation: &Operation) -> HashSet<String> {
    let parameters =
        operation.parameters.iter().flatten().filter_map(|parameter| match parameter {
            RefOr::T(parameter) => Some(parameter),
            RefOr::Ref(_) => None,
        });
    let query = parameters.filter(|parameter| parameter.parameter_in == ParameterIn::Query);
    query.map(|parameter| parameter.name.clone()).collect()
}
