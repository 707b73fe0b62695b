//! The resources, one file each: requests, handlers and what the OpenAPI document says of them.

mod audit;
mod docs;
mod email;
mod forward_auth;
mod health;
mod link;
mod login;
mod me;
mod password;
mod session;
mod users;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::state::App;

pub use docs::{document, swagger_ui};
pub use forward_auth::router as forward_auth;

/// Every call of the API, but for the one that is for proxies.
#[must_use]
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(users::create_user, users::list_users))
        .routes(routes!(login::login))
        .routes(routes!(login::logout))
        .routes(routes!(login::code::request_login_code))
        .routes(routes!(login::code::verify_login_code))
        .routes(routes!(password::forgot_password))
        .routes(routes!(link::open_reset_link, password::reset_password))
        .routes(routes!(link::open_verify_link, email::verify_email))
        .routes(routes!(session::get_session))
        .routes(routes!(me::get_me, me::update_me, me::delete_me))
        .routes(routes!(me::password::change_password))
        .routes(routes!(me::password::reauthenticate))
        .routes(routes!(me::email::request_verification))
        .routes(routes!(me::sessions::list_my_sessions, me::sessions::revoke_my_sessions))
        .routes(routes!(me::sessions::revoke_my_session))
        .routes(routes!(me::tokens::list_my_tokens, me::tokens::create_my_token))
        .routes(routes!(me::tokens::revoke_my_token))
        .routes(routes!(me::activity::list_my_activity))
        .routes(routes!(users::one::get_user, users::one::update_user, users::one::delete_user))
        .routes(routes!(users::sessions::list_user_sessions, users::sessions::revoke_user_sessions))
        .routes(routes!(users::tokens::list_user_tokens, users::tokens::revoke_user_tokens))
        .routes(routes!(users::tokens::revoke_user_token))
        .routes(routes!(audit::list_events))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
}
