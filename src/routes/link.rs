//! Links in mails. Programs that look at mails open them, so opening one changes nothing.

use axum::response::{Html, IntoResponse as _, Redirect, Response};
use serde::Deserialize;
use url::Url;
use utoipa::IntoParams;

/// What a link holds.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Link {
    /// The token that was mailed.
    token: String,
}

/// Leads on to the frontend's page with the token, or, where there is none, to one that says how to go
/// on.
pub(super) fn open(page: Option<&Url>, link: &Link, setting: &str, call: &str) -> Response {
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
