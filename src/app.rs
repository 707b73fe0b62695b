//! The service: the router with all its layers.

use std::any::Any;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use tower::ServiceBuilder;
use tower::util::MapResponseLayer;

use crate::error::{Error, Result};
use crate::parameters::Parameters;
use crate::request_id::{self, RequestId};
use crate::state::App;
use crate::{body, cors, cross_origin, host, metrics, prefix, routes, security_headers, supervise};

/// Every address of the service, behind every layer. The last layer is the outermost: a request meets
/// them from the bottom up.
///
/// Few layers do much each, since every one of them costs each request several allocations.
pub fn router(app: App) -> Router {
    let (api, document) = routes::router().split_for_parts();
    // Not behind CORS: a proxy asks forward-auth with the method and the headers of another request. CORS would
    // answer its OPTIONS with a 200, and the proxy would let them pass. Swagger UI is for our own origin.
    let (mut same_origin, _) = routes::forward_auth().split_for_parts();
    let mut api = api.fallback(async || Error::NotFound);
    if app.config.swagger_ui.is_on() {
        api = api.merge(routes::document(&app.config));
        same_origin = same_origin.merge(routes::swagger_ui(&app.config));
    }
    let checked = from_fn_with_state((app.clone(), Parameters::of(&document)), check_call);
    let api = api.layer(ServiceBuilder::new().layer(cors::rules(&app.config)).layer(checked));
    let same_origin = same_origin.layer(from_fn_with_state(app.clone(), respond));
    let router = answering(api.merge(same_origin), &app);
    let router = match app.config.metrics_listen {
        Some(_) => router.layer(from_fn_with_state(app.metrics.answers.clone(), metrics::layer)),
        None => router,
    };
    prefix::serve(router.with_state(app.clone()), app.config.public_url.prefix())
}

/// Names each request, logs it, and answers each error with a problem.
fn answering(router: Router<App>, app: &App) -> Router<App> {
    let headers = MapResponseLayer::new(security_headers::of(&app.config));
    let layers = ServiceBuilder::new().layer(headers);
    router.layer(layers.layer(from_fn_with_state(app.clone(), answer)))
}

/// The outer layer of every address.
async fn answer(State(app): State<App>, request: Request, next: Next) -> Response {
    let answer = async |mut request: Request, id: &RequestId| {
        let checked = host::check(&request).and_then(|()| cors::prepare(&mut request));
        write_problem(or_reject(checked, next.run(request)).await, id)
    };
    request_id::name(&app, request, answer).await
}

/// The inner layer of the API's addresses.
async fn check_call(
    State((app, parameters)): State<(App, Parameters)>,
    mut request: Request,
    next: Next,
) -> Response {
    let checked = cross_origin::check(&request, &app.config);
    let checked = checked.and_then(|()| parameters.check(&request, &app.config));
    // Held until there is an answer.
    let _reservation = body::reserve(&mut request, &app);
    or_reject(checked, respond(State(app), request, next)).await
}

/// Runs a handler. It has an end in time, and a panic is an error.
async fn respond(State(app): State<App>, request: Request, next: Next) -> Response {
    let response = supervise::catch_panic(next.run(request));
    match tokio::time::timeout(app.config.request_timeout, response).await {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => panicked(panic.as_ref()),
        Err(_) => Error::Timeout.into_response(),
    }
}

async fn or_reject(checked: Result<()>, response: impl Future<Output = Response>) -> Response {
    match checked {
        Ok(()) => response.await,
        Err(error) => error.into_response(),
    }
}

/// Writes the body of every error, our own as well as those that the router or a foreign service answers
/// without one.
fn write_problem(response: Response, request_id: &RequestId) -> Response {
    if response.status().is_success()
        || response.status().is_redirection()
        || response.status().is_informational()
    {
        return response;
    }
    let (mut parts, _) = response.into_parts();
    let problem = match parts.extensions.remove::<Arc<Error>>() {
        Some(error) => error.problem(request_id.as_str()),
        None => {
            let error = Error::from_status(parts.status);
            let problem = error.problem(request_id.as_str());
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

fn panicked(panic: &(dyn Any + Send)) -> Response {
    Error::internal(format!("panic: {}", supervise::text_of(panic))).into_response()
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
        let router = Router::new().route("/panics", panics);
        let router = router.layer(from_fn_with_state(app.clone(), respond));
        let router = answering(router, &app).with_state(app);
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
