//! `portcullis serve`: the service, from its start to its end.

mod announcement;
mod first_admin;
mod listeners;

use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::announcement::announce;
use self::first_admin::Admins;
use self::listeners::Listeners;
use crate::command::{Database, known_passwords, refusal};
use crate::config::Config;
use crate::error::Error;
use crate::mail::{self, Mailer};
use crate::metrics::Metrics;
use crate::session::trial;
use crate::state::App;
use crate::store::users::NewUser;
use crate::supervise::{Task, supervise};
use crate::{app, exposition, server, store, sweep};

/// How long mails on their way have when the service ends.
const FINISH_MAILS_WITHIN: Duration = Duration::from_secs(5);
/// How long connections have to come back when the service ends.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// Serves until Ctrl-C, SIGTERM or SIGHUP.
///
/// # Errors
/// One line for the operator.
pub async fn run(config: Config, metrics: Metrics) -> Result<(), String> {
    let start = Instant::now();
    let mut stop = stop_signal()?;
    // A port that is taken is told before a database is started.
    let listeners = Listeners::bind(&config).await?;
    let mailer = Mailer::new(&config)?;
    let first_admin = first_admin::wanted(&config)?;
    let mut database = tokio::select! {
        database = Database::start(&config) => database?,
        _ = stop.changed() => return Ok(()),
    };
    let prepared = tokio::select! {
        prepared = prepare(&config, &database, first_admin, metrics) => prepared,
        _ = stop.changed() => {
            database.close().await;
            return Ok(());
        }
    };
    let served = match prepared {
        Ok((app, admins)) => {
            announce(&config, &listeners, &database, &mailer, &admins, start).await;
            drop(admins);
            let pool = app.pool.clone();
            let mut beside = JoinSet::new();
            let panics = app.metrics.panics.clone();
            let swept = app.clone();
            beside.spawn(supervise(Task::Sweep, panics.clone(), move || sweep::run(swept.clone())));
            if let Some(listener) = listeners.metrics {
                // It supervises its tasks itself.
                let served = exposition::serve(listener, app.clone());
                beside.spawn(served);
            }
            let checked = app.clone();
            beside.spawn(async move {
                known_passwords::warn(&checked.config, &checked.pool, &checked.hasher).await;
            });
            // What is not sent here may be sent by another replica.
            let mails = mailer.is_on().then(|| {
                let (app, stop) = (app.clone(), stop.clone());
                let run = move || mail::run(app.clone(), mailer.clone(), stop.clone());
                tokio::spawn(supervise(Task::Outbox, panics, run))
            });
            let stopping = async move { drop(stop.changed().await) };
            let router = app::router(app);
            let served = tokio::select! {
                () = server::serve(listeners.api, router, &config, stopping) => Ok(()),
                () = database.died() => {
                    Err("the embedded PostgreSQL has stopped; see its log".to_owned())
                }
            };
            beside.abort_all();
            // A mail that is cut off will be sent twice.
            if let (Ok(()), Some(mails)) = (&served, mails) {
                let _ = tokio::time::timeout(FINISH_MAILS_WITHIN, mails).await;
            }
            // What was cut off at the end of the grace period may still hold connections.
            let _ = tokio::time::timeout(CLOSE_WITHIN, pool.close()).await;
            served
        }
        Err(error) => Err(error),
    };
    database.close().await;
    served.inspect(|()| tracing::info!("stopped"))
}

/// Brings the database up to date, and returns what the service shares and the admins that there are.
async fn prepare(
    config: &Config,
    database: &Database,
    first_admin: Option<NewUser>,
    metrics: Metrics,
) -> Result<(App, Admins), String> {
    database.wait(config).await?;
    store::migrate(&database.options())
        .await
        .map_err(|error| format!("the database could not be brought up to date: {error}"))?;
    let app = App::new(config.clone(), store::pool(database.options(), config), metrics);
    try_login(&app).await?;
    let admins = first_admin::create(&app, first_admin).await?;
    Ok((app, admins))
}

/// Tries once what a login writes, so that a service that nobody can log in to does not start. A database that only
/// reads, or that cannot be reached at this moment, may be back before the first login.
async fn try_login(app: &App) -> Result<(), String> {
    let tried = async { trial::log_in(store::begin(&app.pool).await?, &app.config).await };
    let Err(error) = tried.await else { return Ok(()) };
    let (message, remedy) = (refusal::message(&error), refusal::remedy(&error));
    match Error::from(error) {
        Error::DatabaseUnavailable(_) | Error::Timeout => {
            tracing::warn!(message, "a login could not be tried on the database");
            Ok(())
        }
        _ => Err(format!("nobody could log in, since PostgreSQL says: {message}. {remedy}")),
    }
}

/// Whether the process was started to ignore SIGHUP. Only Linux tells.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 == 1)
}

/// Changes when the service is told to stop. The second time ends the process at once.
fn stop_signal() -> Result<watch::Receiver<()>, String> {
    let listen = |kind| signal(kind).map_err(|error| error.to_string());
    let (mut interrupt, mut terminate) =
        (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    // The terminal is gone, unless the service was started to outlive it (nohup).
    let mut hangup = if ignores_hangup() { None } else { Some(listen(SignalKind::hangup())?) };
    let (sender, receiver) = watch::channel(());
    tokio::spawn(async move {
        for time in 1.. {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                () = async {
                    match &mut hangup {
                        Some(hangup) => drop(hangup.recv().await),
                        None => std::future::pending().await,
                    }
                } => {}
            }
            if time > 1 {
                tracing::warn!("told to stop again: ending at once");
                std::process::exit(130);
            }
            tracing::info!("told to stop");
            sender.send_replace(());
        }
    });
    Ok(receiver)
}
