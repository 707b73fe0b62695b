//! Everything that can go wrong in a request, and what the client is told of it.

mod database;

use std::sync::Arc;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

pub use self::database::OnConstraint;
use crate::problem::{FieldError, Problem};
use crate::rate_limit::RateLimit;

/// What caused an error; for the log only.
type Source = Box<dyn std::error::Error + Send + Sync>;

/// What a request can end with instead of its answer. Each variant is one `code` of the API.
///
/// The `Display` text is the problem's `detail` and goes to the client, so it never holds a source.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The body is not JSON, or not UTF-8.
    #[error("The body is not valid JSON: {0}.")]
    Malformed(String),
    /// The request names no host, several, or an invalid one.
    #[error(
        "The request needs exactly one Host header that names a valid host, such as auth.example.com or localhost:8080."
    )]
    InvalidHost,
    /// No credential was given where one is needed.
    #[error("Log in with POST /login, then send the cookie or the token.")]
    Unauthenticated,
    /// A session was given, and it does not stand: expired, revoked, or never made.
    #[error("The session has ended. Log in again.")]
    SessionExpired,
    /// An API token was given, and it does not stand.
    #[error("The API token is not valid.")]
    InvalidToken,
    /// Unknown account or wrong password; which of the two is not told.
    #[error("No account has these credentials.")]
    InvalidCredentials,
    /// A sensitive call with a session that is not fresh; holds `FRESH_FOR` in seconds (RFC 9470).
    #[error("Give the password again with POST /me/reauthenticate, then repeat this request.")]
    ReauthenticationRequired(u64),
    /// The account must get a new password before it does anything else.
    #[error("Choose a new password with PUT /me/password first.")]
    PasswordChangeRequired,
    /// An admin's own username, email address or password, changed as if it were another's.
    #[error(
        "Change your own username and email address with PATCH /me, your password with PUT /me/password."
    )]
    OwnAccount,
    /// The account has as many API tokens as it may have.
    #[error("The account has {0} API tokens, as many as it may have. Revoke one first.")]
    TooManyTokens(i64),
    /// An API token or a password where a session is needed.
    #[error("This needs a login; an API token or a password with the request is not enough.")]
    SessionRequired,
    /// An API token that lacks the scope that the call needs.
    #[error("The API token lacks the scope {0}.")]
    InsufficientScope(&'static str),
    /// The caller is known and may not do this.
    #[error("Only an admin may do that.")]
    Forbidden,
    /// The right password of an account that was disabled.
    #[error("This account has been disabled.")]
    AccountDisabled,
    /// The right password of an account whose address must be verified first, and is not.
    #[error("Verify your email address first: follow the link in the mail that was sent to it.")]
    EmailUnverified,
    /// An unknown account or a wrong password at a login, and how many attempts are left.
    #[error("No account has these credentials.")]
    WrongLogin(Option<RateLimit>),
    /// A wrong password from somebody who is already logged in.
    #[error("The password is not right.")]
    WrongPassword,
    /// Somebody other than an admin tried to register while registration is closed.
    #[error("Registration is closed. Ask an admin for an account.")]
    RegistrationClosed,
    /// Logging in by a mailed code, which is switched off.
    #[error("Logging in by mail is off. PORTCULLIS_LOGIN_CODE turns it on.")]
    LoginCodeDisabled,
    /// An unsafe method from a page of another origin.
    #[error("The origin {origin} may not make this request. If it is yours, {remedy}.")]
    CrossOriginRejected {
        /// The page's origin.
        origin: String,
        /// Which setting allows it.
        remedy: &'static str,
    },
    /// Nothing is at this address.
    #[error("There is nothing here.")]
    NotFound,
    /// The address exists, the method does not.
    #[error("This address does not take this method. The Allow header lists those it takes.")]
    MethodNotAllowed,
    /// Another request has renewed the session, and the secret of this one is the old one.
    #[error(
        "Another request has renewed this session. Repeat this one with the cookie or token of that response."
    )]
    SessionRenewed,
    /// Another account has this username, or it is reserved for a former owner.
    #[error("This username is taken.")]
    UsernameTaken,
    /// Another account has this email address.
    #[error("This email address is taken.")]
    EmailTaken,
    /// The account has no address that is to be verified.
    #[error("There is no email address to verify.")]
    NothingToVerify,
    /// Without this account nobody could administer the service.
    #[error("This is the last active admin. Make another account an admin first.")]
    LastAdmin,
    /// The body is over the limit.
    #[error("The body is too large.")]
    BodyTooLarge,
    /// The body is not declared as JSON.
    #[error("Send the body as application/json.")]
    UnsupportedMediaType,
    /// The body is compressed.
    #[error("Send the body without Content-Encoding.")]
    EncodedBody,
    /// The request is well-formed, and something in it is not allowed.
    #[error("The request is not valid: {}.", fields(.0))]
    ValidationFailed(Vec<FieldError>),
    /// A limit on guessing is used up.
    #[error("Too many tries. Try again in {} s.", .0.wait.as_secs_f64().ceil())]
    RateLimited(RateLimit),
    /// The password hashers have more work than they can do in time.
    #[error("Too many logins at once. Try again in a moment.")]
    Busy,
    /// The bodies of requests in progress hold as much memory as they may.
    #[error("Too many request bodies are in progress. Try again in a moment.")]
    TooManyBodies,
    /// PostgreSQL rolled the transaction back because of another one.
    #[error("Another request changed the same data at the same time. Try again in a moment.")]
    Conflict(#[source] Source),
    /// The request took too long.
    #[error("The request took too long. Try again.")]
    Timeout,
    /// PostgreSQL cannot be reached.
    #[error("The database cannot be reached. Try again in a moment.")]
    DatabaseUnavailable(#[source] Source),
    /// A fault of ours.
    #[error("Something went wrong on our side. The request id finds it in the log.")]
    Internal(#[source] Source),
}

/// The result of a handler.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The content coding that bodies may have: none.
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");
/// Seconds after which a 503 is worth another try.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

impl Error {
    /// The status, the `code` and the `title` of the problem.
    #[must_use]
    pub fn parts(&self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::Malformed(_) => (S::BAD_REQUEST, "malformed", "Malformed body"),
            Self::InvalidHost => (S::BAD_REQUEST, "invalid_host", "Invalid host"),
            Self::Unauthenticated => (S::UNAUTHORIZED, "unauthenticated", "Not logged in"),
            Self::SessionExpired => (S::UNAUTHORIZED, "session_expired", "Session expired"),
            Self::InvalidToken => (S::UNAUTHORIZED, "invalid_token", "Invalid API token"),
            Self::InvalidCredentials | Self::WrongLogin(_) => {
                (S::UNAUTHORIZED, "invalid_credentials", "Invalid credentials")
            }
            Self::ReauthenticationRequired(_) => {
                (S::UNAUTHORIZED, "reauthentication_required", "Reauthentication required")
            }
            Self::PasswordChangeRequired => {
                (S::FORBIDDEN, "password_change_required", "Password change required")
            }
            Self::OwnAccount => (S::FORBIDDEN, "own_account", "Your own account"),
            Self::TooManyTokens(_) => (S::CONFLICT, "too_many_tokens", "Too many API tokens"),
            Self::SessionRequired => (S::FORBIDDEN, "session_required", "Session required"),
            Self::InsufficientScope(_) => {
                (S::FORBIDDEN, "insufficient_scope", "Insufficient scope")
            }
            Self::SessionRenewed => (S::CONFLICT, "session_renewed", "Session renewed"),
            Self::LastAdmin => (S::CONFLICT, "last_admin", "Last admin"),
            Self::Forbidden => (S::FORBIDDEN, "forbidden", "Forbidden"),
            Self::AccountDisabled => (S::FORBIDDEN, "account_disabled", "Account disabled"),
            Self::EmailUnverified => {
                (S::FORBIDDEN, "email_unverified", "Email address not verified")
            }
            Self::WrongPassword => (S::FORBIDDEN, "wrong_password", "Wrong password"),
            Self::RegistrationClosed => {
                (S::FORBIDDEN, "registration_closed", "Registration closed")
            }
            Self::LoginCodeDisabled => {
                (S::FORBIDDEN, "login_code_disabled", "Login by mail is off")
            }
            Self::CrossOriginRejected { .. } => {
                (S::FORBIDDEN, "cross_origin_rejected", "Cross-origin request rejected")
            }
            Self::NotFound => (S::NOT_FOUND, "not_found", "Not found"),
            Self::MethodNotAllowed => {
                (S::METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed")
            }
            Self::UsernameTaken => (S::CONFLICT, "username_taken", "Username taken"),
            Self::EmailTaken => (S::CONFLICT, "email_taken", "Email address taken"),
            Self::NothingToVerify => (S::CONFLICT, "nothing_to_verify", "Nothing to verify"),
            Self::BodyTooLarge => (S::PAYLOAD_TOO_LARGE, "body_too_large", "Body too large"),
            Self::UnsupportedMediaType | Self::EncodedBody => {
                (S::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "Unsupported media type")
            }
            Self::ValidationFailed(_) => {
                (S::UNPROCESSABLE_ENTITY, "validation_failed", "Validation failed")
            }
            Self::RateLimited(_) => (S::TOO_MANY_REQUESTS, "rate_limited", "Too many requests"),
            Self::Busy | Self::TooManyBodies => (S::SERVICE_UNAVAILABLE, "busy", "Busy"),
            Self::Timeout => (S::SERVICE_UNAVAILABLE, "timeout", "Time-out"),
            Self::DatabaseUnavailable(_) | Self::Conflict(_) => {
                (S::SERVICE_UNAVAILABLE, "database_unavailable", "Database unavailable")
            }
            Self::Internal(_) => (S::INTERNAL_SERVER_ERROR, "internal", "Internal error"),
        }
    }

    /// The `code` of the problem.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.parts().1
    }

    /// A 422 about one field.
    #[must_use]
    pub fn invalid(field: &str, code: &str, message: &str) -> Self {
        Self::ValidationFailed(vec![FieldError::new(field, code, message)])
    }

    /// A fault of ours, with what caused it for the log.
    pub fn internal(source: impl Into<Source>) -> Self {
        Self::Internal(source.into())
    }

    /// What `WWW-Authenticate` says: on every 401, and where RFC 6750 §3 has it. Never `Basic`, which
    /// makes browsers open a dialog.
    fn challenge(&self) -> Option<HeaderValue> {
        let error = match self {
            Self::SessionExpired | Self::InvalidToken => r#", error="invalid_token""#.to_owned(),
            Self::ReauthenticationRequired(max_age) => {
                // RFC 9470 §3.
                format!(r#", error="insufficient_user_authentication", max_age={max_age}"#)
            }
            Self::InsufficientScope(scope) => {
                format!(r#", error="insufficient_scope", scope="{scope}""#)
            }
            _ if self.parts().0 == StatusCode::UNAUTHORIZED => String::new(),
            _ => return None,
        };
        HeaderValue::from_str(&format!(r#"Bearer realm="portcullis"{error}"#)).ok()
    }

    /// The error for a bare status that a layer or a foreign service answered.
    pub(crate) fn from_status(status: StatusCode) -> Self {
        match status {
            StatusCode::NOT_FOUND => Self::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => Self::MethodNotAllowed,
            StatusCode::PAYLOAD_TOO_LARGE => Self::BodyTooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::UnsupportedMediaType,
            status => Self::internal(format!("answered {status} without a problem")),
        }
    }

    /// The body that tells a client of this error.
    pub(crate) fn problem(&self, request_id: &str) -> Problem {
        let (status, code, title) = self.parts();
        let errors = match self {
            Self::ValidationFailed(errors) => Some(errors.clone()),
            _ => None,
        };
        Problem {
            r#type: format!("urn:portcullis:problem:{code}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: self.to_string(),
            code: code.to_owned(),
            request_id: request_id.to_owned(),
            errors,
        }
    }
}

impl IntoResponse for Error {
    /// A response without a body: the outermost layer writes the problem, with the request's id.
    fn into_response(self) -> Response {
        let mut response = self.parts().0.into_response();
        if let Some(challenge) = self.challenge() {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Self::RateLimited(limit) = &self {
            limit.refuse(response.headers_mut());
        }
        if let Self::WrongLogin(Some(limit)) = &self {
            limit.describe(response.headers_mut());
        }
        if matches!(self, Self::EncodedBody) {
            // RFC 9110 §12.5.3 and §15.5.16.
            response.headers_mut().insert(header::ACCEPT_ENCODING, IDENTITY);
        }
        if response.status() == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        // Load that is shed is no fault, and a line for each request of a storm would be one.
        if response.status().is_server_error() && !matches!(self, Self::Busy | Self::TooManyBodies)
        {
            let source = std::error::Error::source(&self).map(ToString::to_string);
            tracing::error!(code = self.code(), source, "request failed");
        }
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

impl From<FieldError> for Error {
    fn from(fault: FieldError) -> Self {
        Self::ValidationFailed(vec![fault])
    }
}

fn fields(errors: &[FieldError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
