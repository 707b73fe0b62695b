//! `/openapi.json`, `/swagger-ui` and the way to it from `/`.

use axum::Router;
use axum::body::Bytes;
use axum::http::header;
use axum::response::Redirect;
use axum::routing::get;
use tower::util::MapResponseLayer;
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::state::App;
use crate::{openapi, security_headers};

/// The document, and Swagger UI with its assets from the binary.
pub fn router() -> Router<App> {
    let document = Bytes::from(openapi::json().unwrap_or_default());
    let config = Config::new(["/openapi.json"])
        .try_it_out_enabled(true)
        .with_credentials(true)
        .display_request_duration(true)
        // Or a page of another host would be told of every service that is not on localhost.
        .validator_url("none");
    let swagger_ui: Router<App> = SwaggerUi::new("/swagger-ui").config(config).into();
    let headers = MapResponseLayer::new(security_headers::of_swagger_ui());
    Router::new()
        .route("/", get(|| async { Redirect::temporary("/swagger-ui/") }))
        .route(
            "/openapi.json",
            get(async move || ([(header::CONTENT_TYPE, "application/json")], document.clone())),
        )
        .merge(swagger_ui.layer(headers))
}
