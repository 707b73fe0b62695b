//! What happened, as a row for people and a log line for machines.

use serde_json::{Value, json};
use sqlx::PgExecutor;
use uuid::Uuid;

use crate::client::Client;
use crate::store::audit_events::{self, NewAuditEvent};

/// Something that happened.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// An account was made.
    UserCreated,
    /// An account's fields were changed.
    UserUpdated,
    /// An account was deleted.
    UserDeleted,
    /// Somebody logged in.
    LoggedIn,
    /// Somebody tried to log in, and did not.
    LoginFailed,
    /// Somebody logged out.
    LoggedOut,
    /// Somebody who is logged in gave the password again.
    LoginConfirmed,
    /// An account's address was found to be its owner's own.
    EmailVerified,
    /// An account got a new password.
    PasswordChanged,
    /// A session was ended by its owner or an admin, who were after the session itself: what ends
    /// sessions on its way, such as a new password, has a kind of its own.
    SessionRevoked,
    /// A session was used by another client than the one that gave the password.
    SessionProtected,
    /// An API token was made.
    TokenCreated,
    /// An API token was ended.
    TokenRevoked,
    /// A mail could not be sent, and is not tried again.
    MailFailed,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::UserCreated => "user_created",
            Self::UserUpdated => "user_updated",
            Self::UserDeleted => "user_deleted",
            Self::LoggedIn => "logged_in",
            Self::LoginFailed => "login_failed",
            Self::LoggedOut => "logged_out",
            Self::LoginConfirmed => "login_confirmed",
            Self::EmailVerified => "email_verified",
            Self::PasswordChanged => "password_changed",
            Self::SessionRevoked => "session_revoked",
            Self::SessionProtected => "session_protected",
            Self::TokenCreated => "token_created",
            Self::TokenRevoked => "token_revoked",
            Self::MailFailed => "mail_failed",
        }
    }

    fn outcome(self) -> &'static str {
        match self {
            Self::LoginFailed | Self::MailFailed => "failure",
            _ => "success",
        }
    }
}

/// An event under way.
#[derive(Debug)]
pub struct Event<'a> {
    kind: Kind,
    client: &'a Client,
    user_id: Option<Uuid>,
    actor_id: Option<Uuid>,
    session_id: Option<Uuid>,
    details: Value,
    /// The credential that it was done with, unless that is a session.
    credential: Option<Value>,
}

impl<'a> Event<'a> {
    /// Something that happens by a request of this client.
    #[must_use]
    pub fn new(kind: Kind, client: &'a Client) -> Self {
        Self {
            kind,
            client,
            user_id: None,
            actor_id: None,
            session_id: None,
            details: json!({}),
            credential: None,
        }
    }

    /// The account that it happens to.
    #[must_use]
    pub fn to(self, user_id: Uuid) -> Self {
        Self { user_id: Some(user_id), ..self }
    }

    /// The account that does it.
    #[must_use]
    pub fn by(self, actor_id: Uuid) -> Self {
        Self { actor_id: Some(actor_id), ..self }
    }

    /// The account that does it, to itself.
    #[must_use]
    pub fn by_own(self, user_id: Uuid) -> Self {
        self.to(user_id).by(user_id)
    }

    /// The API token that the account does it with.
    #[must_use]
    pub fn with_token(self, id: Uuid) -> Self {
        Self { credential: Some(json!({"by": "api_token", "api_token_id": id})), ..self }
    }

    /// It was done with a password that came with the request.
    #[must_use]
    pub fn with_password(self) -> Self {
        Self { credential: Some(json!({"by": "basic"})), ..self }
    }

    /// The session that it happens to.
    #[must_use]
    pub fn session(self, session_id: Uuid) -> Self {
        Self { session_id: Some(session_id), ..self }
    }

    /// More about it: nothing secret, and nothing that tells who a person is.
    #[must_use]
    pub fn details(self, details: Value) -> Self {
        Self { details, ..self }
    }

    /// Writes it down, in the transaction of what it tells, and logs it. A transaction that fails
    /// afterwards takes back the row, and not the line.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn record(&self, db: impl PgExecutor<'_>) -> sqlx::Result<()> {
        let text = |id: Option<Uuid>| id.map(|id| id.to_string());
        tracing::info!(
            event = self.kind.as_str(),
            outcome = self.kind.outcome(),
            user_id = text(self.user_id),
            actor_id = text(self.actor_id),
            session_id = text(self.session_id),
            ip = self.client.ip.map(tracing::field::display),
            details = %self.all_details(),
        );
        self.record_silently(db).await
    }

    /// As [`Event::record`], without a line in the log: for many at once.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn record_silently(&self, db: impl PgExecutor<'_>) -> sqlx::Result<()> {
        let event = NewAuditEvent {
            kind: self.kind.as_str(),
            outcome: self.kind.outcome(),
            user_id: self.user_id,
            actor_id: self.actor_id,
            session_id: self.session_id,
            ip: self.client.ip.map(|ip| ip.to_string()),
            user_agent: self.client.user_agent.as_deref(),
            request_id: self.client.request_id.as_deref(),
            details: &self.all_details(),
            // A failure is written while nothing is locked, and may come after the account's end.
            needs_account: self.kind.outcome() == "failure" && self.user_id.is_some(),
        };
        audit_events::insert(db, &event).await
    }

    fn all_details(&self) -> Value {
        let mut details = self.details.clone();
        if let (Some(details), Some(Value::Object(more))) =
            (details.as_object_mut(), &self.credential)
        {
            details.extend(more.clone());
        }
        details
    }
}
