//! The resources, one file each: requests, handlers and what the OpenAPI document says of them.

mod docs;
mod health;
mod login;
mod me;
mod session;
mod users;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::state::App;

pub use docs::router as docs;

/// Every call of the API.
#[must_use]
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(login::login))
        .routes(routes!(login::logout))
        .routes(routes!(session::get_session))
        .routes(routes!(me::get_me))
        .routes(routes!(me::reauthenticate))
        .routes(routes!(users::create_user, users::list_users))
        .routes(routes!(users::get_user))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
}
