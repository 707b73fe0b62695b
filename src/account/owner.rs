//! The owner of an account, who changes it.

use crate::auth::CurrentUser;
use crate::error::Result;
use crate::state::App;
use crate::throttle;

/// The owner of an account. Each call decides by the constructor whether it counts as a change.
#[derive(Clone, Copy, Debug)]
pub struct AccountOwner<'a> {
    current: &'a CurrentUser,
    app: &'a App,
}

impl<'a> AccountOwner<'a> {
    /// An owner who changes something or adds something. Takes one change from the account's limit.
    ///
    /// # Errors
    /// `RateLimited`, and those of the database.
    pub async fn changing(current: &'a CurrentUser, app: &'a App) -> Result<Self> {
        throttle::count_write(app, current.user.id).await?;
        Ok(Self { current, app })
    }

    /// An owner who revokes or deletes something. Not limited: an intruder who has exhausted the account's limit must
    /// not keep the owner from it.
    #[must_use]
    pub fn revoking(current: &'a CurrentUser, app: &'a App) -> Self {
        Self { current, app }
    }

    /// The caller.
    pub(super) fn current(self) -> &'a CurrentUser {
        self.current
    }

    /// The service.
    pub(super) fn app(self) -> &'a App {
        self.app
    }
}
