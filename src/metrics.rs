//! What Prometheus reads, by the names of its conventions and of OpenTelemetry's.
//!
//! Every label has few values, and none of them is a client's to choose: nobody can make series.

mod answers;
mod hashing;
mod labels;
mod panics;
mod pool;
mod process;
mod registry;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

pub use self::answers::{Answers, layer};
pub(crate) use self::answers::{OTHER, method_name};
pub use self::hashing::Hashing;
pub use self::labels::MailOutcome;
pub use self::panics::Panics;
pub(crate) use self::pool::ACQUIRED;
pub use self::pool::WaitLayer;
pub use self::registry::registry;
use crate::error::{Error, Result};

/// Everything that is counted by those who share the state; a clone counts into the same.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Requests, by how they were answered.
    pub answers: Answers,
    pool_wait: Histogram,
    logins: Family<labels::Login, Counter>,
    throttled: Family<labels::Throttled, Counter>,
    swept: Family<labels::Swept, Counter>,
    mails: Family<labels::Mail, Counter>,
    /// Panics of background tasks.
    pub panics: Panics,
    /// Waits for a reserved connection that ended without one.
    pub reserve_timeouts: Counter,
    /// Sessions that stand, as far as is known.
    pub sessions: Gauge,
    process: process::Process,
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            answers: Answers::default(),
            pool_wait: pool::waits(),
            logins: Family::default(),
            throttled: Family::default(),
            swept: Family::default(),
            mails: Family::default(),
            panics: Panics::default(),
            reserve_timeouts: Counter::default(),
            sessions: Gauge::default(),
            process: process::Process::starting(),
        };
        // What is to grow must be there before, or its first step is not seen.
        for outcome in [labels::SUCCESS, Error::InvalidCredentials.code()] {
            drop(metrics.logins.get_or_create(&labels::Login { outcome }));
        }
        for outcome in [MailOutcome::Sent, MailOutcome::PutOff, MailOutcome::Failed] {
            drop(metrics.mails.get_or_create(&labels::Mail { outcome: outcome.as_str() }));
        }
        metrics
    }
}

impl Metrics {
    /// Counts a login, by `success` or by the code of the problem that it was answered with.
    pub fn count_login<T>(&self, login: &Result<T>) {
        let outcome = login.as_ref().map_or_else(Error::code, |_| labels::SUCCESS);
        self.logins.get_or_create(&labels::Login { outcome }).inc();
    }

    /// Counts a request that was over a limit, by the limit's name.
    pub fn count_throttled(&self, limit: &'static str) {
        self.throttled.get_or_create(&labels::Throttled { limit }).inc();
    }

    /// Counts rows that had expired and were deleted.
    pub fn count_swept(&self, table: &'static str, rows: u64) {
        self.swept.get_or_create(&labels::Swept { table }).inc_by(rows);
    }

    /// Counts a try to send a mail.
    pub fn count_mail(&self, outcome: MailOutcome) {
        self.mails.get_or_create(&labels::Mail { outcome: outcome.as_str() }).inc();
    }
}
