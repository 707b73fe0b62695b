//! Mails that anybody may ask for.

use crate::client::Client;
use crate::error::{Error, OnConstraint as _, Result};
use crate::state::App;
use crate::store::outbox::{self, NewMail};
use crate::throttle;

/// Has a mail sent that somebody asks for, within the limit on such mails. Whose it is, is looked for
/// when it is sent: neither the answer nor its time tells whether an account has the address.
///
/// # Errors
/// `RateLimited`, `SessionExpired`, and those of the database.
pub async fn ask(app: &App, client: &Client, mail: &NewMail<'_>) -> Result<()> {
    let mut connection = app.pool.acquire().await?;
    throttle::count_mail(&mut connection, app, client, mail.kind, mail.email).await?;
    let asked = outbox::insert(&mut *connection, mail).await;
    // The account of somebody who is logged in may be gone by now.
    asked.on_constraint("outbox_user_id_fkey", || Error::SessionExpired)
}
