//! `GET /session`.

use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::{Access, CurrentUser, LimitedUser};
use crate::extract::Json;
use crate::store::sessions::Session;
use crate::store::users::User;

/// Who is calling, and by which session.
#[derive(Serialize, ToSchema)]
pub(super) struct Current {
    /// Who is logged in.
    user: User,
    /// The session that says so; absent when another kind of credential does.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    session: Option<Session>,
}

/// Who is calling, and by which session
///
/// What a page asks when it loads, and what a backend asks to which a browser's cookie or an app's
/// token was handed. One query.
#[utoipa::path(
    get, path = "/session", tag = "session", security(("cookie" = []), ("bearer" = []), ("api_key" = [])),
    responses((status = OK, body = Current)),
)]
pub(super) async fn get_session(
    LimitedUser(CurrentUser { user, access }): LimitedUser,
) -> Json<Current> {
    let session = match access {
        Access::Session(current) => Some(current.live.session),
        Access::ApiToken { .. } | Access::Password(_) => None,
    };
    Json(Current { user, session })
}
