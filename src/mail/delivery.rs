//! Sends what is in the outbox. Every replica may do so at once.
//!
//! A mail is claimed for a while, then written, then sent, and then deleted: whoever dies on the way
//! leaves it to be sent again, and whoever cannot send it puts it off for longer and longer.

use std::time::Duration;

use opentelemetry::trace::Status;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tracing::{Instrument as _, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::compose;
use super::letter::Letter;
use super::mailer::{BoxError, Mailer, Outgoing, Outlook, outlook};
use crate::audit::{Event, Kind};
use crate::client::Client;
use crate::error::Result;
use crate::metrics::MailOutcome;
use crate::state::App;
use crate::store;
use crate::store::outbox::{self, Mail};
use crate::supervise::{self, Task};
use crate::telemetry::{self, TRACE};

/// How often the outbox is looked at.
const EVERY: Duration = Duration::from_secs(1);
/// Mails at once.
const AT_ONCE: usize = 16;
/// How long sending one may take. A claim lasts longer, so that nobody else sends it meanwhile.
const SEND_WITHIN: Duration = Duration::from_secs(20);
const CLAIM: Duration = Duration::from_secs(60);
/// The pause after the first failure, which doubles with each, up to a limit.
const PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);
/// The pause after a refusal for good: somebody must mend something first.
const PAUSE_OF_REFUSED: Duration = Duration::from_secs(60 * 60);
/// How long a mail is tried.
const KEEP: Duration = Duration::from_secs(24 * 60 * 60);

/// Sends mails until it is told to stop, and then finishes those that it has begun.
pub async fn run(app: App, mailer: Mailer, mut stop: watch::Receiver<()>) {
    let mut under_way = JoinSet::new();
    while !stop.has_changed().unwrap_or(true) {
        if let Err(error) = begin(&app, &mailer, &mut under_way).await {
            tracing::warn!(%error, "the outbox cannot be looked at");
        }
        tokio::select! {
            _ = stop.changed() => break,
            Some(ended) = under_way.join_next() => tell(&app, ended),
            () = sleep(EVERY) => {}
        }
    }
    finish(&app, under_way).await;
}

/// Sends some of the mails that are due, and returns how many it tried.
///
/// # Errors
/// Those of the database.
pub async fn deliver_due(app: &App, mailer: &Mailer) -> sqlx::Result<usize> {
    let mut under_way = JoinSet::new();
    let begun = begin(app, mailer, &mut under_way).await?;
    finish(app, under_way).await;
    Ok(begun)
}

/// Claims as many mails as there is room for, and begins to send them.
async fn begin(app: &App, mailer: &Mailer, under_way: &mut JoinSet<()>) -> sqlx::Result<usize> {
    let room = AT_ONCE.saturating_sub(under_way.len());
    if room == 0 {
        return Ok(0);
    }
    let claimed = outbox::claim(&app.pool, CLAIM, i64::try_from(room).unwrap_or(1)).await?;
    let count = claimed.len();
    for mail in claimed {
        let (app, mailer) = (app.clone(), mailer.clone());
        let span = tracing::info_span!(
            target: TRACE,
            parent: None,
            "mail",
            kind = mail.kind.as_str(),
        );
        telemetry::go_on(&span, mail.traceparent.as_deref());
        under_way.spawn(async move { deliver(&app, &mailer, &mail).await }.instrument(span));
    }
    Ok(count)
}

async fn finish(app: &App, mut under_way: JoinSet<()>) {
    while let Some(ended) = under_way.join_next().await {
        tell(app, ended);
    }
}

/// Reports a delivery that panicked. Its mail is due again when the claim ends.
fn tell(app: &App, ended: Result<(), JoinError>) {
    if let Some(panic) = ended.err().and_then(|error| error.try_into_panic().ok()) {
        supervise::report(Task::Outbox, &app.metrics.panics, panic.as_ref());
    }
}

async fn deliver(app: &App, mailer: &Mailer, mail: &Mail) {
    let done = match send(app, mailer, mail).await {
        Ok(()) => outbox::delete(&app.pool, mail.id).await.map_err(Into::into),
        Err(failure) => {
            Span::current().set_status(Status::error(""));
            put_off(app, mail, failure).await
        }
    };
    if let Err(error) = done {
        tracing::warn!(%error, mail_id = mail.id, "a mail is due again when the claim ends");
    }
}

/// Why a mail was not sent.
struct Failure {
    error: BoxError,
    /// The error and its cause for the log, without the secrets of the mail.
    text: String,
}

impl Failure {
    fn new(error: BoxError, letter: Option<&Letter>) -> Self {
        let mut text = error.to_string();
        // Some errors show their cause themselves.
        let cause = error.source().map(ToString::to_string);
        if let Some(cause) = cause.filter(|cause| !text.contains(cause)) {
            text = format!("{text}: {cause}");
        }
        let text = letter.map(|letter| letter.redact(&text)).unwrap_or(text);
        Self { error, text }
    }
}

/// Sends a mail, if there is still something to say.
async fn send(app: &App, mailer: &Mailer, mail: &Mail) -> Result<(), Failure> {
    let letter = compose::letter(app, &mailer.service, mail).await;
    let letter = letter.map_err(|error| Failure::new(error.into(), None))?;
    let Some(letter) = letter else { return Ok(()) };
    // The same for each try, so that mailboxes can tell a second copy.
    let id = format!("{}-{}", mail.created_at.unix_timestamp(), mail.id);
    let outgoing = Outgoing { to: &mail.email, id: &id, letter: &letter };
    let sent = timeout(SEND_WITHIN, mailer.send(&outgoing)).await;
    let sent = sent.unwrap_or_else(|_| Err("the server took too long".into()));
    sent.map_err(|error| Failure::new(error, Some(&letter)))?;
    app.metrics.count_mail(MailOutcome::Sent);
    let (kind, attempts) = (mail.kind.as_str(), mail.attempts);
    tracing::info!(mail_id = mail.id, kind, attempts, "mail sent");
    Ok(())
}

/// Tries a mail again later, or gives it up.
async fn put_off(app: &App, mail: &Mail, failure: Failure) -> Result<()> {
    let mut transaction = store::begin(&app.pool).await?;
    let (kind, attempts) = (mail.kind.as_str(), mail.attempts);
    let (pause, keep) = match outlook(&failure.error, &mail.email) {
        Outlook::Fair => (pause(attempts), KEEP),
        Outlook::Poor => (PAUSE_OF_REFUSED, KEEP),
        Outlook::Hopeless => (PAUSE_OF_REFUSED, Duration::ZERO),
    };
    let outcome = if outbox::put_off(&mut *transaction, mail.id, pause, keep).await? {
        tracing::warn!(
            mail_id = mail.id,
            kind,
            attempts,
            error = failure.text,
            "a mail is put off"
        );
        MailOutcome::PutOff
    } else {
        let client = Client::operator();
        let failed = Event::new(Kind::MailFailed, &client);
        let failed = mail.user_id.into_iter().fold(failed, Event::to);
        let details = json!({"mail": kind, "attempts": attempts});
        failed.details(details).record(&mut *transaction).await?;
        tracing::warn!(
            mail_id = mail.id,
            kind,
            attempts,
            error = failure.text,
            "a mail is given up"
        );
        MailOutcome::Failed
    };
    transaction.commit().await?;
    app.metrics.count_mail(outcome);
    Ok(())
}

/// How long to wait after so many tries. Those that failed together do not come back together.
fn pause(attempts: i32) -> Duration {
    let doublings = u32::try_from(attempts - 1).unwrap_or_default().min(16);
    let pause = (PAUSE * 2_u32.pow(doublings)).min(LONGEST_PAUSE);
    let pause = pause.mul_f64(rand::random_range(0.75..1.25));
    // PostgreSQL's intervals know no nanoseconds.
    Duration::from_millis(u64::try_from(pause.as_millis()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit_and_differ() {
        let seconds = |attempts| pause(attempts).as_secs_f64();
        for (attempts, middle) in
            [(1, 10.0), (2, 20.0), (3, 40.0), (7, 640.0), (8, 900.0), (99, 900.0)]
        {
            for _ in 0..100 {
                assert!((middle * 0.74..middle * 1.26).contains(&seconds(attempts)), "{attempts}");
            }
        }
        assert_ne!(pause(5), pause(5));
        // How often a server that is away for a day is asked.
        let (mut tries, mut past) = (0, 0.0);
        while past < KEEP.as_secs_f64() {
            tries += 1;
            past += seconds(tries);
        }
        assert!((80..130).contains(&tries), "{tries}");
        assert!(CLAIM > SEND_WITHIN * 2, "writing takes time, too");
    }
}
