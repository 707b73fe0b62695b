//! `GET /healthz` and `GET /readyz`: for probes and load balancers.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{Error, Result};
use crate::extract::Json;
use crate::problem_examples::problems;
use crate::state::App;

/// The state of the service.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    /// Always `ok`: what is not well is an error.
    #[schema(example = "ok")]
    status: &'static str,
}

problems!(ReadyProblems: Error::DatabaseUnavailable("".into()), Error::Timeout);

/// Whether the process is alive
///
/// Asks nothing of the database, so that its loss restarts no replica.
#[utoipa::path(get, path = "/healthz", tag = "service", responses((status = OK, body = Health)))]
pub(super) async fn healthz() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Whether requests can be answered
///
/// Asks the database; a load balancer sends requests elsewhere while it does not answer.
#[utoipa::path(get, path = "/readyz", tag = "service", responses((status = OK, body = Health), ReadyProblems))]
pub(super) async fn readyz(State(app): State<App>) -> Result<Json<Health>> {
    app.lookups.ping().await?;
    Ok(Json(Health { status: "ok" }))
}
