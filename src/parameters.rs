//! No call that has query parameters takes one that the OpenAPI document does not list: a misspelt filter must not
//! list everything. Where a call has none, any are ignored: links and monitors add their own.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use axum::extract::{MatchedPath, Request};
use axum::http::Method;
use url::form_urlencoded;
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::{OpenApi, RefOr};

use crate::config::Config;
use crate::credential;
use crate::error::{Error, Result};

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

    /// Rejects a request with an unknown parameter (422).
    pub(crate) fn check(&self, request: &Request, config: &Config) -> Result<()> {
        match self.unknown(request, config) {
            Some(name) => Err(Error::invalid(&name, "unknown", "is not known here")),
            None => Ok(()),
        }
    }

    fn unknown(&self, request: &Request, config: &Config) -> Option<String> {
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
        if known.is_empty() {
            return None;
        }
        form_urlencoded::parse(query.as_bytes())
            .map(|(name, _)| name)
            .filter(|name| !(config.api_key_query.is_on() && name == credential::API_KEY))
            .find(|name| !known.contains(name.as_ref()))
            .map(|name| name.into_owned())
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
