//! `/openapi.json`, `/swagger-ui` and the redirect to it from `/`; `PORTCULLIS_SWAGGER_UI` turns them off.

use std::io::Read as _;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::get;
use flate2::read::GzDecoder;
use tower::util::MapResponseLayer;
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::config::Config as Settings;
use crate::error::Error;
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
    let swagger_ui = swagger_ui.layer(from_fn(negotiate));
    swagger_ui.layer(MapResponseLayer::new(security_headers::of_swagger_ui()))
}

/// The layer that decompresses the files, which the binary holds compressed, for clients that do not accept gzip
/// (RFC 9110 §12.5.3).
async fn negotiate(request: Request, next: Next) -> Response {
    let accepts = accepts_gzip(request.headers());
    let (mut parts, mut body) = next.run(request).await.into_parts();
    parts.headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
    if parts.headers.contains_key(header::CONTENT_ENCODING) && !accepts {
        parts.headers.remove(header::CONTENT_ENCODING);
        parts.headers.remove(header::CONTENT_LENGTH);
        body = match decompressed(body).await {
            Ok(file) => file.into(),
            Err(error) => return Error::internal(error).into_response(),
        };
    }
    Response::from_parts(parts, body)
}

async fn decompressed(body: Body) -> Result<Vec<u8>, axum::Error> {
    let compressed = to_bytes(body, usize::MAX).await?;
    let mut file = Vec::new();
    GzDecoder::new(&*compressed).read_to_end(&mut file).map_err(axum::Error::new)?;
    Ok(file)
}

/// Whether `gzip` or `*` is in the list, with a weight above zero. The more specific one counts.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let lists = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|it| it.to_str().ok());
    let (mut gzip, mut any) = (None, None);
    for element in lists.flat_map(|list| list.split(',')) {
        let mut parts = element.split(';').map(str::trim);
        let coding = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
        let is_accepted = weight.is_none_or(|weight| weight.parse().is_ok_and(|q: f32| q > 0.0));
        match coding {
            "*" => any = Some(is_accepted),
            _ if ["gzip", "x-gzip"].iter().any(|it| coding.eq_ignore_ascii_case(it)) => {
                gzip = Some(is_accepted);
            }
            _ => {}
        }
    }
    gzip.or(any).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_accepted_when_the_header_says_so() {
        let accepts = |list: &'static str| {
            let list = HeaderValue::from_static(list);
            accepts_gzip(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, list)]))
        };
        for yes in
            ["gzip", "deflate, gzip;q=0.5", "*", "GZIP", "br, *;q=0.1", "gzip, *;q=0", ", gzip ,"]
        {
            assert!(accepts(yes), "{yes}");
        }
        for no in
            ["", "identity", "gzip;q=0", "br", "*;q=0", "gzip;q=0.0, *", "gzip; q=0", "gzipped"]
        {
            assert!(!accepts(no), "{no}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
