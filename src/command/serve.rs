//! `portcullis serve`: the service, from its start to its end.

mod announcement;
mod listeners;

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::announcement::announce;
use self::listeners::Listeners;
use crate::audit::{Event, Kind};
use crate::client::Client;
use crate::command::{Database, refused};
use crate::config::Config;
use crate::mail::{self, Mailer};
use crate::metrics::Metrics;
use crate::password::NewPassword;
use crate::problem::FieldError;
use crate::state::App;
use crate::store::users::NewUser;
use crate::supervise::{Task, supervise};
use crate::{app, exposition, server, store, sweep};

/// The setting that holds the first admin's password.
const ADMIN_PASSWORD: &str = "PORTCULLIS_ADMIN_PASSWORD";
/// How long mails on their way have when the service ends.
const FINISH_MAILS_WITHIN: Duration = Duration::from_secs(5);
/// How long connections have to come back when the service ends.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// Serves until Ctrl-C or SIGTERM.
///
/// # Errors
/// One line for the operator.
pub async fn run(config: Config, metrics: Metrics) -> Result<(), String> {
    let start = Instant::now();
    let mut stop = stop_signal()?;
    // A port that is taken is told before a database is started.
    let listeners = Listeners::bind(&config).await?;
    let mailer = Mailer::new(&config)?;
    let first_admin = first_admin(&config)?;
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
        Ok((app, admin)) => {
            announce(&config, &listeners, &database, &mailer, admin, start).await;
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

/// Brings the database up to date, and returns what the service shares and whether there is an admin.
async fn prepare(
    config: &Config,
    database: &Database,
    first_admin: Option<NewUser>,
    metrics: Metrics,
) -> Result<(App, bool), String> {
    store::migrate(&database.options())
        .await
        .map_err(|error| format!("the database could not be brought up to date: {error}"))?;
    let app = App::new(config.clone(), store::pool(database.options(), config), metrics);
    let admin = make_first_admin(&app, first_admin).await?;
    Ok((app, admin))
}

/// Changes when the service is told to stop. The second time ends the process at once.
fn stop_signal() -> Result<watch::Receiver<()>, String> {
    let listen = |kind| signal(kind).map_err(|error| error.to_string());
    let (mut interrupt, mut terminate) =
        (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let (sender, receiver) = watch::channel(());
    tokio::spawn(async move {
        for time in 1.. {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
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

/// The first admin of the settings, checked like any other account.
fn first_admin(config: &Config) -> Result<Option<NewUser>, String> {
    if config.admin_password.is_none() {
        return Ok(None);
    }
    let username = config.admin_username.as_deref();
    let email = config.admin_email.as_deref();
    let username = username.map(|text| names::username("PORTCULLIS_ADMIN_USERNAME", text));
    let email = email.map(|text| names::email("PORTCULLIS_ADMIN_EMAIL", text));
    let told = |value: Option<&str>, fault: FieldError| {
        format!("{}=\"{}\" {}", fault.field, value.unwrap_or_default(), fault.message)
    };
    let (name, address) = (config.admin_username.as_deref(), config.admin_email.as_deref());
    Ok(Some(NewUser {
        username: username.transpose().map_err(|fault| told(name, fault))?,
        email: email.transpose().map_err(|fault| told(address, fault))?,
        name: None,
        role: Role::Admin,
        // The operator's word.
        email_verified: true,
        must_change_password: false,
        password_proven: true,
    }))
}

/// Makes the first admin if there is none, and says whether there is one then.
async fn make_first_admin(app: &App, admin: Option<NewUser>) -> Result<bool, String> {
    let told = |error: sqlx::Error| format!("the first admin could not be made: {error}");
    let there = users::any_admin(&app.pool).await.map_err(told)?;
    let (Some(admin), Some(password), false) = (admin, &app.config.admin_password, there) else {
        return Ok(there);
    };
    let new = NewPassword { field: ADMIN_PASSWORD, password, names: admin.names() };
    let hash = app.hasher.hash_new(new).await.map_err(refused)?;
    let mut transaction = store::begin(&app.pool).await.map_err(told)?;
    match users::insert_first_admin(&mut *transaction, &admin, &hash).await.map_err(told)? {
        Some(admin) => {
            let client = Client::operator();
            let created = Event::new(Kind::UserCreated, &client).to(admin.id);
            created
                .details(json!({"role": admin.role}))
                .record(&mut *transaction)
                .await
                .map_err(told)?;
            transaction.commit().await.map_err(told)?;
        }
        // Another replica was faster, or somebody has the name.
        None if users::any_admin(&app.pool).await.map_err(told)? => {}
        None => {
            tracing::warn!("no first admin was made: an account that is no admin has its name");
            return Ok(false);
        }
    }
    Ok(true)
}
