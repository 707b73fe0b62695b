//! The service: the router with all its layers.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use tower::util::MapResponseLayer;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::config::Config;
use crate::error::Error;
use crate::parameters::Parameters;
use crate::request_id::{RequestId, X_REQUEST_ID};
use crate::state::App;
use crate::{cross_origin, metrics, parameters, rate_limit, request_id, routes, security_headers};

/// Bytes of a request's body.
const BODY_LIMIT: usize = 64 * 1024;
/// How long browsers may remember a preflight's answer.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_secs(600);

/// Every address of the service, behind every layer. The last layer is the outermost: a request meets
/// them from the bottom up.
pub fn router(app: App) -> Router {
    let (api, document) = routes::router().split_for_parts();
    let parameters = (Parameters::of(&document), app.clone());
    let api = api.layer(from_fn_with_state(parameters, parameters::layer));
    let api = api.merge(routes::docs()).fallback(async || Error::NotFound);
    let api = api
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(from_fn_with_state(app.clone(), cross_origin::layer));
    let api = answering(api, &app).layer(cors(&app.config));
    // A proxy asks with the method and the headers of another request. CORS would answer its OPTIONS
    // with a 200, and the proxy would let them pass.
    let (forward_auth, _) = routes::forward_auth().split_for_parts();
    let forward_auth = answering(forward_auth, &app);
    let router = api.merge(forward_auth).layer(from_fn(request_id::layer));
    let router = match app.config.metrics_listen {
        Some(_) => router.layer(from_fn_with_state(app.metrics.answers.clone(), metrics::layer)),
        None => router,
    };
    router.with_state(app)
}

/// Whatever happens is answered, and every error as a problem.
fn answering(router: Router<App>, app: &App) -> Router<App> {
    router
        .layer(from_fn_with_state(app.clone(), time_out))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(write_problem))
        .layer(MapResponseLayer::new(security_headers::of(&app.config)))
}

/// Who may read answers from another origin. Outermost of what answers, so that errors carry it.
fn cors(config: &Config) -> CorsLayer {
    let origins = config.allowed_origins.iter();
    let origins = origins.filter_map(|origin| HeaderValue::from_str(origin.as_str()).ok());
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_credentials(true)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([
            header::CONTENT_TYPE,
            header::AUTHORIZATION,
            HeaderName::from_static("x-api-key"),
            X_REQUEST_ID,
        ])
        .expose_headers([
            X_REQUEST_ID,
            header::RETRY_AFTER,
            header::WWW_AUTHENTICATE,
            rate_limit::STATE,
            rate_limit::POLICY,
            header::LOCATION,
        ])
        .max_age(PREFLIGHT_MAX_AGE)
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
    use crate::metrics::Metrics;

    #[tokio::test]
    async fn a_panic_is_a_problem_that_tells_nothing() {
        let panics = get(async || -> StatusCode { panic!("the secret of the house") });
        let config = Config::defaults().unwrap();
        let pool = crate::store::pool(PgConnectOptions::new_without_pgpass(), &config);
        let app = App::new(config, pool, Metrics::default());
        let router = answering(Router::new().route("/panics", panics), &app);
        let router = router.layer(from_fn(request_id::layer)).with_state(app);
        let request = Request::get("/panics").body(Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        assert!(response.headers().contains_key(X_REQUEST_ID));
        let body = axum::body::to_bytes(response.into_body(), BODY_LIMIT).await.unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert!(body.contains(r#""code":"internal""#) && !body.contains("secret"), "{body}");
    }
}
