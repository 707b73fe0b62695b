//! Why PostgreSQL does not let us in, in words for who has to mend it. Passwords are never told.

use std::io::ErrorKind;
use std::time::Duration;

use sqlx::Error;
use sqlx::postgres::PgConnectOptions;

use super::Finding;

/// No answer at all.
pub(super) fn silence(options: &PgConnectOptions, patience: Duration) -> Finding {
    Finding::problem(
        format!(
            "PostgreSQL at {} does not answer within {} s",
            address(options),
            patience.as_secs()
        ),
        "A firewall or security group swallows what is sent, the machine is down, or the address is \
         another one's. Try `pg_isready` with this host and port from here, and see to host and port in \
         DATABASE_URL.",
    )
}

/// What an error means.
pub(super) fn explain(options: &PgConnectOptions, error: &Error) -> Finding {
    let (place, user) = (address(options), options.get_username());
    let database = options.get_database().unwrap_or(user);
    let (what, why) = match error {
        Error::Io(error) => match error.kind() {
            ErrorKind::ConnectionRefused => (
                format!("nothing listens at {place}"),
                "PostgreSQL is not running there, or on another port. Start it, or see to host and port \
                 in DATABASE_URL. In a container localhost is the container itself: name the \
                 database's service, as docker-compose.yml does with postgres."
                    .to_owned(),
            ),
            ErrorKind::NotFound => (
                format!("there is no PostgreSQL socket at {place}"),
                "PostgreSQL is not running, or keeps its socket elsewhere. Start it, or name the \
                 directory of its socket in DATABASE_URL, as in postgres:///portcullis?host=/run/postgresql."
                    .to_owned(),
            ),
            ErrorKind::PermissionDenied => (
                format!("this account may not open {place}"),
                "Run as an account that may, or have DATABASE_URL name a host instead of a socket."
                    .to_owned(),
            ),
            _ if error.to_string().contains("lookup") => (
                format!("there is no host called {}", options.get_host()),
                format!(
                    "The name is not known here ({error}). See to the host in DATABASE_URL; in a \
                     container it must be the name of a service on the same network. A password with \
                     @, :, /, # or % in it must have those percent-encoded, or a part of it is taken \
                     for the host."
                ),
            ),
            _ => (
                format!("{place} cannot be reached: {error}"),
                "See to host and port in DATABASE_URL, and to what is between here and there.".to_owned(),
            ),
        },
        Error::Tls(error) => (
            format!("no TLS with PostgreSQL at {place}: {error}"),
            "DATABASE_URL asks for it by sslmode. If the server's certificate is of a private authority, \
             name that with sslrootcert=/path/to/ca.pem; sslmode=disable is for networks that nobody \
             else is on."
                .to_owned(),
        ),
        Error::Database(error) => match error.code().as_deref() {
            Some("28P01") => (
                format!("PostgreSQL at {place} refuses the password of {user}"),
                "The user or the password in DATABASE_URL is wrong. A password with @, :, /, # or % in \
                 it must have those percent-encoded. In PostgreSQL it is changed with `alter role … \
                 password`."
                    .to_owned(),
            ),
            Some("28000") => (
                format!("PostgreSQL at {place} does not let {user} in: {}", error.message()),
                "There is no such role, or pg_hba.conf has no line that allows it from here, or only \
                 with TLS. Make the role (`create role … login password …`), add the line, or see to the \
                 user, the host and sslmode in DATABASE_URL."
                    .to_owned(),
            ),
            Some("3D000") => (
                format!("PostgreSQL at {place} has no database {database}"),
                format!(
                    "Make it (`createdb --owner {user} {database}`), or see to the name at the end of \
                     DATABASE_URL's path."
                ),
            ),
            Some("53300") => (
                format!("PostgreSQL at {place} has no connection left"),
                "Everything that uses it has more open than it takes, or than this role or database may \
                 have. See who in pg_stat_activity; set PORTCULLIS_DATABASE_CONNECTIONS, which counts \
                 for each replica, to less, or raise max_connections."
                    .to_owned(),
            ),
            Some("57P03") => (
                format!("PostgreSQL at {place} is starting up, or going down"),
                "Try again in a minute. If that stays so, its log says what it is waiting for."
                    .to_owned(),
            ),
            Some("08P01") if error.message().contains("startup parameter") => (
                format!("the pooler at {place} refuses what is asked of it: {}", error.message()),
                "The service asks for time-outs and an isolation level when it connects. Have the pooler ignore \
                 that and set them itself (PgBouncer: ignore_startup_parameters and connect_query), as in \
                 deploy/pgbouncer.ini, or lead DATABASE_URL to PostgreSQL itself."
                    .to_owned(),
            ),
            // What is prepared on a connection is not there, or there already.
            Some("26000" | "42P05") => (
                "the pooler before PostgreSQL loses prepared statements".to_owned(),
                "It hands the server's connections on between transactions, and does not know what each \
                 client has prepared. PgBouncer does since 1.21, with max_prepared_statements = 200, as \
                 in deploy/pgbouncer.ini. Or lead DATABASE_URL to PostgreSQL itself, or to a pool in \
                 session mode. The rest of the database is not looked at through it."
                    .to_owned(),
            ),
            _ => (
                format!("PostgreSQL at {place} refuses: {}", error.message()),
                "Its log says more. See to DATABASE_URL.".to_owned(),
            ),
        },
        error => (
            format!("{place} does not speak like PostgreSQL: {error}"),
            "Another service may listen there. See to host and port in DATABASE_URL.".to_owned(),
        ),
    };
    Finding::problem(what, why)
}

/// Where it should be.
fn address(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    }
}
