//! Mails that anybody may ask for.

use crate::client::Client;
use crate::error::Result;
use crate::state::App;
use crate::store::outbox::{self, NewMail};
use crate::throttle;

/// Has a mail sent that somebody asks for, within the limit on such mails. Whose it is, is looked for
/// when it is sent: neither the answer nor its time tells whether an account has the address.
///
/// # Errors
/// `RateLimited`, and those of the database.
pub async fn ask(app: &App, client: &Client, mail: &NewMail<'_>) -> Result<()> {
    throttle::count_mail(app, client, mail.kind, mail.email).await?;
    Ok(outbox::insert(&app.pool, mail).await?)
}
