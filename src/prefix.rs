//! The path below which a proxy serves the service (`PORTCULLIS_PUBLIC_URL=https://example.com/auth`).
//!
//! The proxy may strip the prefix or leave it: both reach the same address. Answers always name our addresses with it.

use axum::Router;
use axum::extract::Request;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderValue, Uri, header};
use axum::response::Response;
use tower::ServiceBuilder;
use tower::util::{MapRequestLayer, MapResponseLayer};

/// Serves a router also below a prefix, if there is one.
pub(crate) fn serve(router: Router, prefix: &str) -> Router {
    if prefix.is_empty() {
        return router;
    }
    let (of_requests, of_answers) = (prefix.to_owned(), prefix.to_owned());
    let request = MapRequestLayer::new(move |mut request: Request| {
        if let Some(uri) = without(request.uri(), &of_requests) {
            *request.uri_mut() = uri;
        }
        request
    });
    let answer = MapResponseLayer::new(move |mut answer: Response| {
        if let Some(location) = answer.headers_mut().get_mut(header::LOCATION)
            && let Some(below) = below(location, &of_answers)
        {
            *location = below;
        }
        answer
    });
    // Around the router, which chooses the route by the path.
    Router::new()
        .fallback_service(ServiceBuilder::new().layer(request).layer(answer).service(router))
}

/// The address without the prefix, if it is below it.
fn without(uri: &Uri, prefix: &str) -> Option<Uri> {
    let rest = uri.path_and_query()?.as_str().strip_prefix(prefix)?;
    let path = match rest.as_bytes().first() {
        Some(b'/') => rest.to_owned(),
        None | Some(b'?') => format!("/{rest}"),
        Some(_) => return None,
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(path).ok()?);
    Uri::from_parts(parts).ok()
}

/// The address with the prefix, if it is one of ours.
fn below(location: &HeaderValue, prefix: &str) -> Option<HeaderValue> {
    let path = location.to_str().ok().filter(|path| path.starts_with('/'))?;
    // `//host` is the address of another service.
    let is_ours = !path.starts_with("//");
    is_ours.then(|| HeaderValue::from_str(&format!("{prefix}{path}")).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_below_the_prefix_loses_it_and_any_other_is_left() {
        let path = |uri: &str| without(&uri.parse().unwrap(), "/auth").map(|uri| uri.to_string());
        assert_eq!(path("/auth/me").as_deref(), Some("/me"));
        assert_eq!(path("/auth").as_deref(), Some("/"));
        assert_eq!(path("/auth/").as_deref(), Some("/"));
        assert_eq!(path("/auth?a=b").as_deref(), Some("/?a=b"));
        assert_eq!(path("http://x/auth/users?q=%20").as_deref(), Some("http://x/users?q=%20"));
        for other in ["/me", "/authentic", "/Auth/me", "/", "/x/auth/me"] {
            assert_eq!(path(other), None, "{other}");
        }
    }

    #[test]
    fn an_address_of_ours_gets_the_prefix_and_no_other_does() {
        let location = |text: &'static str| {
            below(&HeaderValue::from_static(text), "/auth")
                .map(|it| it.to_str().unwrap().to_owned())
        };
        assert_eq!(location("/users/1").as_deref(), Some("/auth/users/1"));
        assert_eq!(location("https://app.example.com/reset"), None);
        assert_eq!(location("//app.example.com/"), None);
    }
}
