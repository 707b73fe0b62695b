//! Whether a credential is still valid, asked again once its account is locked.

use sqlx::PgExecutor;
use uuid::Uuid;

/// A credential that was valid when the request began.
#[derive(Clone, Debug)]
pub enum Checked {
    /// A session, with the record of the secret. A renewal replaces the record, which stays valid for a while.
    Session {
        /// The session.
        id: Uuid,
        /// The hashed id of its record.
        record_id: String,
    },
    /// An API token.
    ApiToken(Uuid),
    /// A password, by the `credential_version` that the account had when it was right.
    Password(i64),
}

/// Whether the credential still opens the account, whose row is locked. Whatever revokes a credential locks that
/// row first, so the answer holds until the end of the transaction.
pub async fn is_valid(
    db: impl PgExecutor<'_>,
    user_id: Uuid,
    checked: &Checked,
) -> sqlx::Result<bool> {
    let (session, api_token, version) = match checked {
        Checked::Session { id, record_id } => (Some((id, record_id)), None, None),
        Checked::ApiToken(id) => (None, Some(id), None),
        Checked::Password(version) => (None, None, Some(version)),
    };
    sqlx::query_scalar!(
        r#"select exists (
             select from users u
             where u.id = $1 and u.is_active and (
                 exists (
                     select from sessions s
                     where s.id = $2 and s.user_id = u.id and s.expires_at > now()
                         and s.record_id = coalesce(
                             (
                                 select r.renewed_as from session_records r
                                 where r.id = $3 and r.expiry_date > now()
                             ),
                             $3
                         )
                 )
                 or exists (
                     select from api_tokens t
                     where t.id = $4 and t.user_id = u.id
                         and (t.expires_at is null or t.expires_at > now())
                 )
                 or u.credential_version = $5
             )
         ) as "is_valid!""#,
        user_id,
        session.map(|(id, _)| id),
        session.map(|(_, record_id)| record_id),
        api_token,
        version,
    )
    .fetch_one(db)
    .await
}
