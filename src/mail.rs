//! Mails: who may ask for them, what they say, how they go, and when.

mod asking;
mod compose;
mod connection;
mod delivery;
mod letter;
mod mailer;

pub use self::asking::ask;
pub use self::connection::greeting;
pub use self::delivery::{deliver_due, run};
pub use self::letter::Letter;
pub use self::mailer::{BoxError, Mailer, Outgoing, Support};
