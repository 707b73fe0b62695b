//! The service: the router with all its layers.

use std::any::Any;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use tower::util::MapResponseLayer;
use tower_http::catch_panic::CatchPanicLayer;

use crate::error::Error;
use crate::parameters::Parameters;
use crate::request_id::RequestId;
use crate::state::App;
use crate::{
    body, cors, cross_origin, host, metrics, parameters, request_id, routes, security_headers,
};

/// Every address of the service, behind every layer. The last layer is the outermost: a request meets
/// them from the bottom up.
pub fn router(app: App) -> Router {
    let (api, document) = routes::router().split_for_parts();
    let parameters = (Parameters::of(&document), app.clone());
    let api = api.layer(from_fn_with_state(parameters, parameters::layer));
    // Not behind CORS: a proxy asks forward-auth with the method and the headers of another request. CORS would
    // answer its OPTIONS with a 200, and the proxy would let them pass. Swagger UI is for our own origin.
    let (mut same_origin, _) = routes::forward_auth().split_for_parts();
    let mut api = api.fallback(async || Error::NotFound);
    if app.config.swagger_ui.is_on() {
        api = api.merge(routes::document());
        same_origin = same_origin.merge(routes::swagger_ui());
    }
    let api = api
        .layer(from_fn_with_state(app.clone(), body::layer))
        .layer(from_fn_with_state(app.clone(), cross_origin::layer));
    let cors = from_fn_with_state(cors::rules(&app.config), cors::layer);
    let router = answering(api, &app).layer(cors).merge(answering(same_origin, &app));
    let router = router.layer(from_fn_with_state(app.clone(), request_id::layer));
    let router = match app.config.metrics_listen {
        Some(_) => router.layer(from_fn_with_state(app.metrics.answers.clone(), metrics::layer)),
        None => router,
    };
    router.with_state(app)
}

/// Whatever happens is answered, and every error as a problem.
fn answering(router: Router<App>, app: &App) -> Router<App> {
    router
        .layer(from_fn(host::layer))
        .layer(from_fn_with_state(app.clone(), time_out))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(write_problem))
        .layer(MapResponseLayer::new(security_headers::of(&app.config)))
}

/// The layer that writes the body of every error, its own as well as those that the router, the
/// body limit or a foreign service answers without one.
async fn write_problem(request: Request, next: Next) -> Response {
    let request_id = RequestId::of(&request);
    let response = next.run(request).await;
    if response.status().is_success()
        || response.status().is_redirection()
        || response.status().is_informational()
    {
        return response;
    }
    let (mut parts, _) = response.into_parts();
    let problem = match parts.extensions.remove::<Arc<Error>>() {
        Some(error) => error.problem(&request_id),
        None => {
            let error = Error::from_status(parts.status);
            let problem = error.problem(&request_id);
            let (own, _) = error.into_response().into_parts();
            parts.status = own.status;
            parts.headers.extend(own.headers);
            problem
        }
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    let mut response = (parts, axum::Json(problem)).into_response();
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}

async fn time_out(State(app): State<App>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(app.config.request_timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Error::Timeout.into_response(),
    }
}

fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Error::internal(format!("panic: {}", text.unwrap_or("without a message"))).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::StatusCode;
    use axum::routing::get;
    use sqlx::postgres::PgConnectOptions;
    use tower::ServiceExt as _;

    use super::*;
    use crate::config::Config;
    use crate::metrics::Metrics;
    use crate::request_id::X_REQUEST_ID;

    #[tokio::test]
    async fn a_panic_is_a_problem_that_tells_nothing() {
        let panics = get(async || -> StatusCode { panic!("the secret of the house") });
        let config = Config::defaults().unwrap();
        let pool = crate::store::pool(PgConnectOptions::new_without_pgpass(), &config);
        let app = App::new(config, pool, Metrics::default());
        let router = answering(Router::new().route("/panics", panics), &app);
        let named = from_fn_with_state(app.clone(), request_id::layer);
        let router = router.layer(named).with_state(app);
        let request = Request::get("/panics").header("host", "x").body(Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        assert!(response.headers().contains_key(X_REQUEST_ID));
        let body = axum::body::to_bytes(response.into_body(), 64 * 1024).await.unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert!(body.contains(r#""code":"internal""#) && !body.contains("secret"), "{body}");
    }
}
