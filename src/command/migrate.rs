//! `portcullis migrate`: brings the schema up to date. With `--own`, gives the database to an ordinary role first.

use std::borrow::Cow;

use clap::Args;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};
use url::Url;

use crate::command::{Database, output};
use crate::config::{self, Config, database_url};
use crate::store::{self, ownership};

/// The variable that names a superuser, for `--own`.
const SUPERUSER_URL: &str = "PORTCULLIS_SUPERUSER_URL";

/// What to do besides.
#[derive(Args, Debug)]
pub struct Migrate {
    /// First give the database to an ordinary role
    ///
    /// Makes the role of DATABASE_URL an ordinary role that owns the database. Connects as the superuser of
    /// PORTCULLIS_SUPERUSER_URL. If it is not set, the role of DATABASE_URL must be a superuser. Creates the role with
    /// the password of DATABASE_URL if it does not exist. If the role is the superuser that initdb created, the
    /// superuser is renamed to postgres, and a new role gets the old name. Objects and grants of other roles stay. Can
    /// be run again.
    #[arg(long)]
    own: bool,
}

/// Brings the schema up to date.
///
/// # Errors
/// One line for the operator.
pub async fn run(config: &Config, migrate: &Migrate) -> Result<(), String> {
    if migrate.own {
        let Some(url) = &config.database_url else {
            return Err("migrate --own needs DATABASE_URL: the embedded PostgreSQL has an ordinary role already".to_owned());
        };
        own(url).await?;
    }
    let database = Database::join(config).await?;
    database.wait(config).await?;
    let migrated = store::migrate(&database.options()).await.map_err(|error| error.to_string());
    database.close().await;
    migrated
}

/// Makes the role of `url` an ordinary one that owns the database of `url`.
async fn own(url: &SecretString) -> Result<(), String> {
    let owner = options("DATABASE_URL", url)?;
    let role = owner.get_username().to_owned();
    let database = owner.get_database().unwrap_or(&role).to_owned();
    let (variable, superuser) = match config::superuser_url()? {
        // Whatever database it names, ownership is changed in that of the service.
        Some(url) => (SUPERUSER_URL, options(SUPERUSER_URL, &url)?.database(&database)),
        None => ("DATABASE_URL", owner.clone()),
    };
    let mut connection = connect(variable, &superuser).await?;
    let failed = |error: sqlx::Error| format!("the ownership was not changed: {error}");
    if !ownership::is_superuser(&mut connection).await.map_err(failed)? {
        if variable == "DATABASE_URL"
            && ownership::is_owner(&mut connection).await.map_err(failed)?
        {
            return output::print(&format!(
                "{role} owns the database {database} already, and is no superuser\n"
            ));
        }
        return Err(format!(
            "the role of {variable} is not a superuser: set {SUPERUSER_URL} to the URL of one"
        ));
    }
    let password = password(url);
    let renamed = ownership::make_ordinary(&mut connection, &role, password.as_deref()).await;
    // Printing may fail, and the work must be finished all the same.
    let printed = renamed.map_err(failed)?.map_or(Ok(()), |name| {
        output::print(&format!(
            "the superuser {role} is now called {name}; {role} is an ordinary role\n"
        ))
    });
    let objects = ownership::take_over(&mut connection, &role).await.map_err(failed)?;
    // Nothing hangs on how it is closed.
    let _ = connection.close().await;
    // Another server, or another password than the role had before, shows here.
    let mut connection = connect("DATABASE_URL", &owner).await?;
    let is_owner = ownership::is_owner(&mut connection).await.map_err(failed)?
        && !ownership::is_superuser(&mut connection).await.map_err(failed)?;
    let _ = connection.close().await;
    if !is_owner {
        return Err(format!(
            "{role} does not own the database of DATABASE_URL: {SUPERUSER_URL} must lead to the same server"
        ));
    }
    printed?;
    output::print(&format!(
        "{role} owns the database {database} ({objects} objects changed their owner)\n"
    ))
}

fn options(variable: &str, url: &SecretString) -> Result<PgConnectOptions, String> {
    database_url::parse(url.expose_secret())
        .map(|options| options.application_name("portcullis migrate"))
        .map_err(|error| format!("{variable} {error} (its value is not shown)"))
}

async fn connect(variable: &str, options: &PgConnectOptions) -> Result<PgConnection, String> {
    let connected = options.connect().await;
    connected.map_err(|error| format!("{variable}: PostgreSQL cannot be reached: {error}"))
}

/// The password in a URL, as sqlx reads it.
fn password(url: &SecretString) -> Option<String> {
    let url = Url::parse(url.expose_secret()).ok()?;
    let in_query = || url.query_pairs().find(|(name, _)| name == "password").map(|pair| pair.1);
    let in_front = url.password().map(|encoded| {
        // These two mean themselves here, and not in a form.
        let form = format!("={}", encoded.replace('+', "%2B").replace('&', "%26"));
        let decoded = url::form_urlencoded::parse(form.as_bytes()).next();
        decoded.map(|pair| pair.1.into_owned()).unwrap_or_default()
    });
    in_front.or_else(|| in_query().map(Cow::into_owned)).filter(|password| !password.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_the_decoded_one_of_the_url() {
        for (url, expected) in [
            ("postgres://alice@localhost/x", None),
            ("postgres://alice:@localhost/x", None),
            ("postgres://alice:hunter2@localhost/x", Some("hunter2")),
            ("postgres://alice:a%40b+c&d%25=e@localhost/x", Some("a@b+c&d%=e")),
            ("postgres:///x?user=alice&password=a%40b%2B", Some("a@b+")),
            ("postgres://alice@localhost/x?host=/run/postgresql", None),
        ] {
            assert_eq!(password(&url.into()).as_deref(), expected, "{url}");
        }
    }
}
