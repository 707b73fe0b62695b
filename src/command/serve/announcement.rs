//! What a service says when it is ready.

use std::path::Path;
use std::time::Instant;

use super::first_admin::Admins;
use super::listeners::Listeners;
use crate::command::doctor;
use crate::command::{Database, output};
use crate::config::{self, Config, LogFormat};
use crate::mail::Mailer;

/// Says where everything is: a banner for a person, a log line for a machine.
pub(super) async fn announce(
    config: &Config,
    listeners: &Listeners,
    database: &Database,
    mailer: &Mailer,
    admins: &Admins,
    start: Instant,
) {
    for line in config::unknown_variables() {
        tracing::warn!("{line}");
    }
    doctor::warn(config);
    if let Some(url) = config.smtp_url.as_ref().filter(|url| url.exposes_password) {
        tracing::warn!(%url, "PORTCULLIS_SMTP_URL sends its password unencrypted; smtp+starttls:// and smtps:// do not");
    }
    if !mailer.is_on() {
        tracing::warn!("no mail is sent: PORTCULLIS_SMTP_URL is not set");
    }
    if config.smtp_url.is_none()
        && let Err(error) = mailer.try_connection().await
    {
        tracing::warn!(%error, "mails wait in the database");
    }
    let listen = listeners.api.local_addr().unwrap_or(config.listen);
    let metrics = listeners.metrics.as_ref().and_then(|listener| listener.local_addr().ok());
    let (url, data, seconds) =
        (&config.public_url, database.place(), start.elapsed().as_secs_f32());
    let mail = mailer.place();
    if config.log_format == LogFormat::Json {
        let metrics = metrics.map(tracing::field::display);
        tracing::info!(%listen, public_url = %url, metrics, data, mail, seconds, "ready");
        admins.log_password();
        return;
    }
    // cargo names itself to what it runs.
    let program = if std::env::var_os("CARGO").is_some() { "cargo run --" } else { "portcullis" };
    let elsewhere = match database {
        Database::Embedded(_) if config.data_dir != Path::new("./.portcullis") => {
            format!("PORTCULLIS_DATA_DIR={} ", config.data_dir.display())
        }
        _ => String::new(),
    };
    let create = format!("{elsewhere}{program} user create --username admin --role admin");
    let admin = admins.banner(create);
    let swagger_ui = config.swagger_ui.is_on();
    let swagger_ui = swagger_ui.then(|| format!("\n    Swagger UI  {url}/swagger-ui"));
    let metrics = metrics.map(|listen| format!("\n    Metrics     http://{listen}/metrics"));
    let banner = format!(
        "
  Portcullis {version} is ready after {seconds:.1} s.

    Service     {url}  (listens on {listen}){swagger_ui}{metrics}
    Data        {data}
    Mail        {mail}
    Admin       {admin}
    Stop        Ctrl-C

",
        version = env!("CARGO_PKG_VERSION"),
        swagger_ui = swagger_ui.unwrap_or_default(),
        metrics = metrics.unwrap_or_default(),
    );
    // The service needs no reader.
    if let Err(error) = output::print(&banner) {
        tracing::warn!(error, "the banner was not printed");
    }
}
