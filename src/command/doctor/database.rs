//! Whether PostgreSQL is there and fit for the service.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};
use time::OffsetDateTime;
use tokio::time::timeout;

use super::{Finding, Level, migrations, settings, unreachable};
use crate::command::{Database, known_passwords, refusal};
use crate::config::Config;
use crate::embedded::Embedded;
use crate::password::Hasher;
use crate::session::trial;
use crate::store;
use crate::store::diagnosis::{self, Server};

/// How long PostgreSQL may take to let us in, and again to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The oldest version that the service is meant for.
const OLDEST: i32 = 14;
/// Clocks that differ by more are told.
const CLOCK: time::Duration = time::Duration::seconds(30);
/// A session's record outlives it by a day, by the clock of the machine that made it.
const CLOCK_FAR: time::Duration = time::Duration::hours(12);

/// Connects, and looks. What it writes is rolled back.
pub(super) async fn check(config: &Config) -> Vec<Finding> {
    if config.database_url.is_none() {
        match Embedded::is_made(&config.data_dir).await {
            Ok(true) => {}
            Ok(false) => {
                return vec![Finding::ok(format!(
                    "no embedded PostgreSQL has been made in {} yet: the first start makes it",
                    config.data_dir.display()
                ))];
            }
            Err(error) => return vec![Finding::problem(NOT_THERE, error.to_string())],
        }
    }
    let database = match Database::join(config).await {
        Ok(database) => database,
        Err(line) => return vec![Finding::problem(NOT_THERE, line)],
    };
    // What the service asks for, a pooler may refuse.
    let options = store::with_session_settings(database.options(), config);
    let options = options.application_name("portcullis doctor");
    let findings = match timeout(PATIENCE, options.connect()).await {
        Ok(Ok(connection)) => look(connection, &options, &database.place(), config).await,
        Ok(Err(error)) => vec![unreachable::explain(&options, &error)],
        Err(_) => vec![unreachable::silence(&options, PATIENCE)],
    };
    database.close().await;
    findings
}

const NOT_THERE: &str = "there is no database";

/// Asks the server about itself.
async fn look(
    mut connection: PgConnection,
    options: &PgConnectOptions,
    place: &str,
    config: &Config,
) -> Vec<Finding> {
    let questions = async {
        let is_pooled = is_pooled(&mut connection, options).await?;
        let before = OffsetDateTime::now_utc();
        let server = diagnosis::server(&mut connection).await?;
        let after = OffsetDateTime::now_utc();
        let applied = diagnosis::applied(&mut connection).await?;
        let apart = (before - server.now).max(server.now - after).max(time::Duration::ZERO);
        let mut findings =
            vec![Finding::ok(format!("connected to {place}, version {}", server.version))];
        findings.extend(fitness(&server));
        findings.push(clock(apart));
        findings.push(match is_pooled {
            true => pool(config.database_connections),
            false => connections(&server, config.database_connections),
        });
        let migrations = migrations::compare(&applied, &server);
        let is_complete = migrations.iter().all(|finding| finding.level == Level::Ok);
        findings.extend(migrations);
        // Otherwise a problem or a pending migration is reported already.
        if is_complete && !server.is_standby && !server.is_read_only {
            findings.push(login(&mut connection, config).await?);
        }
        let has_accounts = applied.iter().any(|migration| migration.version == 1);
        let admins = match has_accounts {
            true => known_passwords::admins(&mut connection).await?,
            false => Vec::new(),
        };
        Ok::<_, sqlx::Error>((findings, admins))
    };
    let findings = timeout(PATIENCE, questions).await;
    // Nothing hangs on how it is closed.
    let _ = timeout(PATIENCE, connection.close()).await;
    match findings {
        Ok(Ok((mut findings, admins))) => {
            findings.extend(passwords(&admins, config).await);
            findings
        }
        Ok(Err(error)) => vec![unreachable::explain(options, &error)],
        Err(_) => vec![Finding::problem(
            format!("{place} lets us in, and then does not answer within {} s", PATIENCE.as_secs()),
            "The server is overloaded, or something holds locks on its catalogue. See what it is busy \
             with in pg_stat_activity.",
        )],
    }
}

/// Whether the database accepts what a login writes.
async fn login(connection: &mut PgConnection, config: &Config) -> sqlx::Result<Finding> {
    let transaction = connection.begin().await?;
    Ok(match trial::log_in(transaction, config).await {
        Ok(()) => Finding::ok("what a login writes is accepted (it was rolled back)"),
        Err(error) => Finding::problem(
            format!("what a login writes is not accepted: {}", refusal::message(&error)),
            refusal::remedy(&error),
        ),
    })
}

/// Admins whose password everybody knows.
async fn passwords(admins: &[(String, String)], config: &Config) -> Vec<Finding> {
    match known_passwords::of_admins(admins, &Hasher::new(config)).await {
        Ok(names) => names
            .iter()
            .map(|name| {
                settings::known(
                    config,
                    &format!("the admin {name} has a password that everybody knows"),
                    &format!(
                        "It is in the documentation: anybody can log in with it. Change it with `portcullis \
                         user set-password {name}`."
                    ),
                )
            })
            .collect(),
        Err(error) => vec![Finding::warning(
            "the passwords of the admins could not be checked",
            error.to_string(),
        )],
    }
}

/// Whether the server can do what is asked of it.
fn fitness(server: &Server) -> Vec<Finding> {
    let mut findings = Vec::new();
    if server.version_number / 10_000 < OLDEST {
        findings.push(Finding::warning(
            format!("PostgreSQL {} is older than {OLDEST}", server.version),
            format!("The service is not tried with it. Use PostgreSQL {OLDEST} or newer."),
        ));
    }
    if server.is_standby {
        findings.push(Finding::problem(
            "this PostgreSQL is a standby, which only reads",
            "The service writes at every login. Lead DATABASE_URL to the primary. A URL may name \
             only one host, so after a failover use the address that follows the primary.",
        ));
    } else if server.is_read_only {
        findings.push(Finding::problem(
            "this database takes no writes: default_transaction_read_only is on",
            "The service writes at every login. Providers switch this on when the disk is full; if it is \
             not that, see `alter database … reset default_transaction_read_only` and the role's own \
             settings.",
        ));
    }
    if server.encoding != "UTF8" {
        findings.push(Finding::problem(
            format!("the database's encoding is {}, not UTF8", server.encoding),
            "Names and passwords may hold any character. Make a new one with \
             `create database portcullis encoding 'UTF8' template template0` and lead DATABASE_URL there.",
        ));
    }
    if !server.unlimited.is_empty() {
        findings.push(Finding::warning(
            format!("time-outs are not in force: {}", server.unlimited.join(", ")),
            "The service asks for them, and a pooler does not pass that on. One locked row, or one \
             statement that never ends, can then hold every connection. Have the pooler set them \
             (PgBouncer: connect_query), as in deploy/pgbouncer.ini.",
        ));
    }
    if server.isolation != store::ISOLATION {
        findings.push(Finding::problem(
            format!("the default isolation level is {}, not {}", server.isolation, store::ISOLATION),
            format!(
                "The service asks for {level:?}, and a pooler does not pass that on. Requests that arrive at the \
                 same time then fail with 503. Have the pooler set it (PgBouncer: add `set \
                 session characteristics as transaction isolation level {level}` to connect_query), as in \
                 deploy/pgbouncer.ini, or run `alter database … set default_transaction_isolation = '{level}'`.",
                level = store::ISOLATION,
            ),
        ));
    }
    if server.is_superuser {
        findings.push(Finding::warning(
            "the role of DATABASE_URL is a superuser",
            "A superuser can read and change every database of the server, and run programs on its machine. \
             The service needs only a database that its role owns. Run `portcullis migrate --own`, as \
             docs/upgrading.md shows.",
        ));
    }
    if !server.has_icu {
        findings.push(Finding::problem(
            "the collation \"und-x-icu\" is missing: this PostgreSQL is built without ICU",
            "The search of GET /users fails without it. Use a build with ICU, as those of Debian, \
             Homebrew, the official image and the clouds are.",
        ));
    }
    findings
}

/// How far the clocks of this machine and of PostgreSQL are apart.
fn clock(apart: time::Duration) -> Finding {
    let what = format!(
        "the clocks of this machine and of PostgreSQL differ by {} s",
        apart.whole_seconds()
    );
    let why =
        "Sessions go by PostgreSQL's clock alone, but logs and request ids show this machine's";
    if apart > CLOCK_FAR {
        return Finding::problem(
            what,
            format!(
                "{why}, and with a day's difference sessions end at once. Set both by NTP (`timedatectl \
                 status`)."
            ),
        );
    }
    if apart > CLOCK {
        return Finding::warning(what, format!("{why}. Set both by NTP (`timedatectl status`)."));
    }
    Finding::ok("the clocks of this machine and of PostgreSQL agree")
}

/// Whether the server takes as many connections as the replicas will make.
fn connections(server: &Server, wanted: u32) -> Finding {
    let replicas = u32::try_from(server.connections).unwrap_or(0) / wanted;
    let what = format!(
        "PostgreSQL takes {} connections of this account, and a replica makes up to {wanted}",
        server.connections
    );
    let mend = "Set PORTCULLIS_DATABASE_CONNECTIONS to less, or raise max_connections, and the limits of \
                the role and the database, in PostgreSQL.";
    match replicas {
        0 => Finding::problem(
            what,
            format!("Under load requests will be answered 503 database_unavailable. {mend}"),
        ),
        1 => Finding::warning(
            what,
            format!(
                "There is no room for a second replica, such as the next version's while this one \
                     still runs. {mend}"
            ),
        ),
        _ => Finding::ok(format!("{what}: room for {replicas} replicas")),
    }
}

/// A pooler has limits of its own, which it does not tell.
fn pool(wanted: u32) -> Finding {
    Finding::note(
        "a pooler in transaction mode is before it, and keeps prepared statements",
        format!(
            "It must take {wanted} connections of each replica, and those of commands (PgBouncer: \
             max_client_conn)."
        ),
    )
}

/// Whether two connections that are both open share one of the server's: then something before it
/// hands those on between transactions, and must know what each has prepared.
///
/// # Errors
/// When it does not.
async fn is_pooled(
    connection: &mut PgConnection,
    options: &PgConnectOptions,
) -> sqlx::Result<bool> {
    // Perhaps there is room for one only.
    let Ok(mut second) = options.connect().await else { return Ok(false) };
    let one = diagnosis::backend(connection).await?;
    let is_pooled = one == diagnosis::backend(&mut second).await?;
    if is_pooled {
        // Both prepare a statement of the same name.
        store::ping(&mut *connection).await?;
        store::ping(&mut second).await?;
    }
    let _ = second.close().await;
    Ok(is_pooled)
}

#[cfg(test)]
mod tests {
    use super::Level::{Ok, Problem, Warning};
    use super::*;

    fn server() -> Server {
        Server {
            version: "17.2".to_owned(),
            version_number: 170_002,
            encoding: "UTF8".to_owned(),
            is_standby: false,
            is_read_only: false,
            has_icu: true,
            unlimited: Vec::new(),
            isolation: "read committed".to_owned(),
            schema: Some("auth".to_owned()),
            may_create: true,
            is_superuser: false,
            connections: 97,
            now: OffsetDateTime::UNIX_EPOCH,
        }
    }

    fn fit(change: impl FnOnce(&mut Server)) -> Vec<Level> {
        let mut server = server();
        change(&mut server);
        fitness(&server).iter().map(|finding| finding.level).collect()
    }

    #[test]
    fn a_server_must_be_able_to_do_what_is_asked_of_it() {
        assert_eq!(fit(|_| {}), []);
        assert_eq!(fit(|server| server.version_number = 130_018), [Warning]);
        assert_eq!(fit(|server| server.is_standby = true), [Problem]);
        assert_eq!(fit(|server| server.is_read_only = true), [Problem]);
        assert_eq!(fit(|server| server.encoding = "SQL_ASCII".to_owned()), [Problem]);
        assert_eq!(fit(|server| server.has_icu = false), [Problem]);
        assert_eq!(fit(|server| server.isolation = "repeatable read".to_owned()), [Problem]);
        assert_eq!(fit(|server| server.is_superuser = true), [Warning]);
        assert_eq!(fit(|server| server.unlimited.push("lock_timeout".to_owned())), [Warning]);
    }

    #[test]
    fn clocks_may_differ_a_little() {
        for (seconds, level) in [(0, Ok), (30, Ok), (31, Warning), (50_000, Problem)] {
            assert_eq!(clock(time::Duration::seconds(seconds)).level, level, "{seconds}");
        }
    }

    #[test]
    fn there_must_be_room_for_two_replicas() {
        for (wanted, level) in [(16, Ok), (48, Ok), (49, Warning), (97, Warning), (98, Problem)] {
            assert_eq!(connections(&server(), wanted).level, level, "{wanted}");
        }
    }
}
