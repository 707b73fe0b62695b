//! A login that is tried once and rolled back, at the start and by `portcullis doctor`.

use sqlx::{Postgres, Transaction};
use time::OffsetDateTime;
use uuid::Uuid;

use super::by_use;
use crate::audit::{Event, Kind};
use crate::client::Client;
use crate::config::Config;
use crate::store::sessions::{self, NewSession, Transport, Wanted};
use crate::store::throttles::{self, Bucket};
use crate::store::users::{self, NewUser, Role};
use crate::store::{known_devices, session_records};

/// Writes what a registration and a login write, looks the session up, and rolls back.
///
/// # Errors
/// The first one of the database.
pub(crate) async fn log_in(
    mut transaction: Transaction<'_, Postgres>,
    config: &Config,
) -> sqlx::Result<()> {
    let connection = &mut *transaction;
    // Nobody else has these names, so nobody waits for them.
    let unique = Uuid::now_v7();
    let (client, record_id) = (Client::operator(), format!("trial-{unique}"));
    let attempt = Bucket {
        policy: "trial",
        key: unique.as_bytes().to_vec(),
        rate: config.throttle_account,
        refuses: true,
    };
    throttles::take(&mut *connection, &[attempt]).await?;
    let new = NewUser {
        username: Some(record_id.clone()),
        email: None,
        name: None,
        role: Role::User,
        email_verified: false,
        must_change_password: false,
        password_proven: false,
    };
    let user = users::insert(&mut *connection, &new, "").await?;
    let end = OffsetDateTime::now_utc() + config.session_lifetime;
    session_records::insert(&mut *connection, &record_id, end).await?;
    let session = NewSession {
        record_id: &record_id,
        user_id: user.id,
        transport: Transport::Cookie,
        remember: false,
        idle: Some(config.session_idle),
        lifetime: config.session_lifetime,
        fresh_for: config.fresh_for,
        client: &client,
    };
    let session = sessions::insert(connection, &session).await?;
    known_devices::insert(&mut *connection, user.id, unique.as_bytes()).await?;
    let event = Event::new(Kind::LoggedIn, &client).by_own(user.id).session(session.id);
    event.record_silently(&mut *connection).await?;
    let wanted = Wanted {
        record_id,
        transport: Transport::Cookie,
        compare: false,
        user_agent: None,
        network: None,
    };
    sessions::find_live(connection, &[wanted], by_use(config)).await?;
    transaction.rollback().await
}
