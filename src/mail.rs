//! Mails: what they say, how they go, and when.

mod delivery;
mod letter;
mod mailer;

pub use self::delivery::{deliver_due, run};
pub use self::letter::Letter;
pub use self::mailer::{BoxError, Mailer, Outgoing};
