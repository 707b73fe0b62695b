//! Passwords that everybody can read in the documentation, and accounts that still have one.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{PgExecutor, PgPool};
use tokio::time::sleep;
use url::Url;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::password::{Hasher, Verdict};
use crate::store::users;

/// The passwords of accounts in this repository: the default of earlier compose files, and the examples.
const OF_ACCOUNTS: [&str; 3] = ["change me now", "correct horse battery staple", "long enough"];
/// The passwords of databases in this repository, and those of every tutorial.
const OF_DATABASES: [&str; 5] = ["portcullis", "postgres", "password", "secret", "changeme"];
/// Each admin costs a hash for each password. The oldest ones are checked.
const ADMINS: i64 = 20;
/// How long the check waits when too many log in.
const PAUSE: Duration = Duration::from_secs(10);

/// Whether this is a password that everybody can read in the documentation.
pub(super) fn is_known(password: &SecretString) -> bool {
    OF_ACCOUNTS.contains(&password.expose_secret())
}

/// The names and hashes of the active admins, for [`of_admins`].
pub(super) async fn admins(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<(String, String)>> {
    users::admin_hashes(db, ADMINS).await
}

/// The names of those admins that have a well-known password.
///
/// # Errors
/// `Busy` when there is too much to hash.
pub(super) async fn of_admins(admins: &[(String, String)], hasher: &Hasher) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for (name, hash) in admins {
        for password in OF_ACCOUNTS.map(SecretString::from) {
            let place = hasher.admit().await?;
            if let Verdict::Right { .. } = hasher.verify(place, &password, Some(hash)).await? {
                found.push(name.clone());
                break;
            }
        }
    }
    Ok(found)
}

/// Whether the password in `DATABASE_URL` is a well-known one, or the role's own name.
pub(super) fn of_database(config: &Config) -> bool {
    let url = config.database_url.as_ref().and_then(|url| Url::parse(url.expose_secret()).ok());
    url.is_some_and(|url| {
        let password = url.password().unwrap_or_default();
        OF_DATABASES.contains(&password) || (!password.is_empty() && password == url.username())
    })
}

/// Reports well-known passwords in the log, when the service has started.
pub(super) async fn warn(config: &Config, pool: &PgPool, hasher: &Hasher) {
    if of_database(config) {
        tracing::warn!("the password in DATABASE_URL is one that everybody knows: change it");
    }
    let found = async {
        let admins = admins(pool).await?;
        loop {
            match of_admins(&admins, hasher).await {
                // People who log in come first.
                Err(Error::Busy) => sleep(PAUSE).await,
                found => return found,
            }
        }
    };
    match found.await {
        Ok(names) => {
            for name in names {
                tracing::error!(
                    name,
                    "an admin has a password that everybody knows: change it with `portcullis user set-password`"
                );
            }
        }
        Err(error) => tracing::warn!(%error, "the passwords of the admins could not be checked"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_of_the_database_is_known_if_it_is_a_default_or_the_name() {
        for (url, is_known) in [
            ("postgres://portcullis:portcullis@postgres/portcullis", true),
            ("postgres://alice:postgres@db.example.com/x", true),
            ("postgres://alice:alice@db.example.com/x", true),
            ("postgres://alice:k7fm-2xqe@db.example.com/x", false),
            ("postgres://portcullis@localhost/portcullis?host=/run/postgresql", false),
        ] {
            let mut config = Config::defaults().unwrap();
            config.database_url = Some(url.into());
            assert_eq!(of_database(&config), is_known, "{url}");
        }
        assert!(!of_database(&Config::defaults().unwrap()));
    }
}
