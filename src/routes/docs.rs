//! `/openapi.json`, `/swagger-ui` and the redirect to it from `/`; `PORTCULLIS_SWAGGER_UI` turns them off.

use axum::Router;
use axum::body::Bytes;
use axum::http::header;
use axum::response::Redirect;
use axum::routing::get;
use tower::util::MapResponseLayer;
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::config::Config as Settings;
use crate::state::App;
use crate::{openapi, security_headers};

/// The OpenAPI document, and the redirect to Swagger UI.
pub fn document(config: &Settings) -> Router<App> {
    let document = Bytes::from(openapi::json_below(config.public_url.prefix()).unwrap_or_default());
    Router::new().route("/", get(|| async { Redirect::temporary("/swagger-ui/") })).route(
        "/openapi.json",
        get(async move || ([(header::CONTENT_TYPE, "application/json")], document.clone())),
    )
}

/// Swagger UI, with its assets from the binary.
pub fn swagger_ui(config: &Settings) -> Router<App> {
    let config = Config::new([format!("{}/openapi.json", config.public_url.prefix())])
        .try_it_out_enabled(true)
        .with_credentials(true)
        .display_request_duration(true)
        // Or a page of another host would be told of every service that is not on localhost.
        .validator_url("none");
    let swagger_ui: Router<App> = SwaggerUi::new("/swagger-ui").config(config).into();
    swagger_ui.layer(MapResponseLayer::new(security_headers::of_swagger_ui()))
}
