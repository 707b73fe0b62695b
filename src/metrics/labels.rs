//! The labels of what is counted by one word.

use prometheus_client::encoding::EncodeLabelSet;

/// What a login that let somebody in counts as; others count as the code of their problem.
pub(super) const SUCCESS: &str = "success";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Login {
    pub(super) outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Throttled {
    pub(super) limit: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Swept {
    pub(super) table: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Panicked {
    pub(super) task: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Mail {
    pub(super) outcome: &'static str,
}

/// What became of a try to send a mail.
#[derive(Clone, Copy, Debug)]
pub enum MailOutcome {
    /// It was handed over.
    Sent,
    /// It is tried again later.
    PutOff,
    /// It is not tried again.
    Failed,
}

impl MailOutcome {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::PutOff => "put_off",
            Self::Failed => "failed",
        }
    }
}
