//! What a proxy asks for besides a login.

use axum::http::HeaderName;
use axum::http::request::Parts;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::error::Result;
use crate::extract;
use crate::store::users::Role;

const X_AUTH_REQUIRE: HeaderName = HeaderName::from_static("x-auth-require");

/// What a proxy asks for besides a login, in one place or the other.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Requirements {
    /// `admin`: only admins pass; an API token needs the scope `admin`.
    #[param(nullable = false)]
    pub(super) role: Option<Role>,
    /// `1`: only a session passes in which the password was given a short while ago.
    #[param(inline, nullable = false)]
    pub(super) fresh: Option<Flag>,
    /// `1`: where a login is missing, the answer is the redirect to the login page, for proxies that hand
    /// it on.
    #[param(inline, nullable = false)]
    pub(super) redirect: Option<Flag>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq, ToSchema)]
pub(super) enum Flag {
    #[serde(rename = "0")]
    Off,
    #[serde(rename = "1")]
    On,
}

impl Requirements {
    /// Those of the query and of the header together: who can add to them can only shut himself out.
    pub(super) fn of(parts: &Parts) -> Result<Vec<Self>> {
        let query = parts.uri.query().map(extract::query);
        let headers = parts.headers.get_all(X_AUTH_REQUIRE).iter().map(|value| {
            // What is not text is no known requirement.
            extract::query(value.to_str().unwrap_or("x-auth-require"))
        });
        query.into_iter().chain(headers).collect()
    }
}
