//! Where links in mails lead: `GET /password/reset` and `GET /email/verify`. Programs that look at mails
//! open links, so opening one changes nothing.

use axum::extract::State;
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use serde::Deserialize;
use url::Url;
use utoipa::{IntoParams, IntoResponses};

use crate::extract::Query;
use crate::state::App;

/// What a link holds.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Link {
    /// The token that was mailed.
    token: String,
}

/// What opening it gives.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "for the document alone")]
enum Opened {
    /// The frontend's page
    #[response(status = SEE_OTHER, headers(("location" = String, description = "The page, with `?token=`")))]
    There,
    /// A page that says how to go on, where the frontend has none
    #[response(status = OK, content_type = "text/html")]
    Nowhere(String),
}

/// Open the link to a new password
///
/// Leads on to the frontend's page (`PORTCULLIS_RESET_URL`), with the token. Changes nothing.
#[utoipa::path(get, path = "/password/reset", tag = "mail", params(Link), responses(Opened))]
pub(super) async fn open_reset_link(State(app): State<App>, Query(link): Query<Link>) -> Response {
    open(app.config.reset_url.as_ref(), &link, "PORTCULLIS_RESET_URL", "POST /password/reset")
}

/// Open the link that verifies an address
///
/// Leads on to the frontend's page (`PORTCULLIS_VERIFY_URL`), with the token. Changes nothing.
#[utoipa::path(get, path = "/email/verify", tag = "mail", params(Link), responses(Opened))]
pub(super) async fn open_verify_link(State(app): State<App>, Query(link): Query<Link>) -> Response {
    open(app.config.verify_url.as_ref(), &link, "PORTCULLIS_VERIFY_URL", "POST /email/verify")
}

/// Leads on to the frontend's page with the token, or, where there is none, to one that says how to go
/// on.
fn open(page: Option<&Url>, link: &Link, setting: &str, call: &str) -> Response {
    let Some(page) = page else {
        return Html(format!(
            "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Go on in the app</title>\n\
             <p>Please go back to the app, and enter the code from the mail there.</p>\n\
             <p>For developers: <code>{setting}</code> sets the page of your app that this link leads to. \
             The page gets the token as <code>?token=</code>, and hands it to <code>{call}</code>.</p>\n\
             </html>\n"
        ))
        .into_response();
    };
    let mut page = page.clone();
    page.query_pairs_mut().append_pair("token", &link.token);
    Redirect::to(page.as_str()).into_response()
}
