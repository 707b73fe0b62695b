//! The first admin: created at the start from the settings, if there is none.

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;

use crate::audit::{Event, Kind};
use crate::client::Client;
use crate::command::{output, refused};
use crate::config::Config;
use crate::password::{self, NewPassword};
use crate::problem::FieldError;
use crate::state::App;
use crate::store::users::{self, NewUser, Role};
use crate::{names, store};

/// The setting that holds the first admin's password.
const ADMIN_PASSWORD: &str = "PORTCULLIS_ADMIN_PASSWORD";

/// The admins that there are after the start.
pub(super) enum Admins {
    /// None yet.
    None,
    /// At least one.
    Some,
    /// This one, just created with a generated password, which nobody knows yet.
    Generated {
        /// The username, or else the email address.
        name: String,
        /// To be shown once.
        password: SecretString,
    },
}

/// The first admin of the settings, checked like any other account.
///
/// # Errors
/// One line for the operator.
pub(super) fn wanted(config: &Config) -> Result<Option<NewUser>, String> {
    let (name, address) = (config.admin_username.as_deref(), config.admin_email.as_deref());
    if name.is_none() && address.is_none() {
        return Ok(None);
    }
    let told = |value: Option<&str>, fault: FieldError| {
        format!("{}=\"{}\" {}", fault.field, value.unwrap_or_default(), fault.message)
    };
    let username = name.map(|text| names::username("PORTCULLIS_ADMIN_USERNAME", text));
    let email = address.map(|text| config.new_email()("PORTCULLIS_ADMIN_EMAIL", text));
    Ok(Some(NewUser {
        username: username.transpose().map_err(|fault| told(name, fault))?,
        email: email.transpose().map_err(|fault| told(address, fault))?,
        name: None,
        role: Role::Admin,
        // The operator's word.
        email_verified: true,
        // A generated password is in a terminal or in the log.
        must_change_password: config.admin_password.is_none(),
        password_proven: true,
    }))
}

/// Creates the first admin if there is none. Without a password in the settings it gets a generated one, which
/// its owner must change.
///
/// # Errors
/// One line for the operator.
pub(super) async fn create(app: &App, wanted: Option<NewUser>) -> Result<Admins, String> {
    let told = |error: sqlx::Error| format!("the first admin could not be created: {error}");
    if users::any_admin(&app.pool).await.map_err(told)? {
        return Ok(Admins::Some);
    }
    let Some(admin) = wanted else { return Ok(Admins::None) };
    let (hash, generated) = match &app.config.admin_password {
        Some(password) => {
            let new = NewPassword { field: ADMIN_PASSWORD, password, names: admin.names() };
            (app.hasher.hash_new(new).await, None)
        }
        None => {
            let password = password::generate();
            (app.hasher.hash_generated(&password).await, Some(password))
        }
    };
    let hash = hash.map_err(refused)?;
    let mut transaction = store::begin(&app.pool).await.map_err(told)?;
    let created = users::insert_first_admin(&mut transaction, &admin, &hash).await.map_err(told)?;
    let Some(created) = created else {
        // Another replica was faster, or somebody has the name.
        if users::any_admin(&app.pool).await.map_err(told)? {
            return Ok(Admins::Some);
        }
        tracing::warn!("no first admin was created: an account that is not an admin has its name");
        return Ok(Admins::None);
    };
    let client = Client::operator();
    let event = Event::new(Kind::UserCreated, &client).to(created.id);
    event.details(json!({"role": created.role})).record(&mut *transaction).await.map_err(told)?;
    transaction.commit().await.map_err(told)?;
    // Only the replica that created the admin knows the password that works.
    let name = created.username.or(created.email).unwrap_or_default();
    Ok(match generated {
        Some(password) => Admins::Generated { name, password },
        None => Admins::Some,
    })
}

impl Admins {
    /// Shows a generated password in the log, for services without a terminal. It is the one secret that the log
    /// ever holds: nobody else knows it, and it must be changed at the first login.
    pub(super) fn log_password(&self) {
        let Self::Generated { name, password } = self else { return };
        let password = password.expose_secret();
        if tracing::enabled!(tracing::Level::WARN) {
            tracing::warn!(name, password, "{CREATED}");
        } else {
            // Whatever the log leaves out, this must be seen.
            output::complain(&format!("portcullis: {CREATED}: name {name}, password {password}"));
        }
    }

    /// What a person reads of the admin; `create` is the command that creates one.
    pub(super) fn banner(&self, create: String) -> String {
        match self {
            Self::None => create,
            Self::Some => "there is one".to_owned(),
            Self::Generated { name, password } => {
                let password = password.expose_secret();
                format!(
                    "{name}, password {password}\n                (shown only now; you must change it after the login)"
                )
            }
        }
    }
}

/// What the README has people search for.
const CREATED: &str =
    "first admin created with a generated password, shown only now: log in and change it";
