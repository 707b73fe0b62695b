//! `portcullis user list`: all accounts, or those that match.

use clap::Args;
use sqlx::PgPool;
use uuid::Uuid;

use crate::command::{failed, output};
use crate::page::Paging;
use crate::store::users::{self, Filter, Role, User};
use crate::timestamp;

/// Accounts that are read, and printed, at a time.
const AT_ONCE: i64 = 500;
const TITLES: [&str; 6] = ["USERNAME", "EMAIL", "ROLE", "STATUS", "LAST LOGIN", "ID"];

/// Which accounts to list, and how.
#[derive(Args, Debug)]
pub struct List {
    /// Only accounts whose username, email address or name contains this text
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Only accounts with this role
    #[arg(long)]
    role: Option<Role>,
    /// Only accounts that may log in
    #[arg(long)]
    active: bool,
    /// Only accounts that may not log in
    #[arg(long, conflicts_with = "active")]
    disabled: bool,
    /// Print each account as a line of JSON, like GET /users
    #[arg(long)]
    json: bool,
}

impl List {
    /// Prints the accounts, the newest first.
    pub(super) async fn run(&self, pool: &PgPool) -> Result<(), String> {
        let is_active = (self.active || self.disabled).then_some(self.active);
        let filter = Filter { q: self.search.as_deref(), role: self.role, is_active };
        let mut paging = Paging { limit: AT_ONCE, before: Uuid::max() };
        let titles = TITLES.map(str::to_owned);
        let mut table = Table::default();
        table.fit(std::slice::from_ref(&titles));
        let mut text = String::new();
        loop {
            let mut connection = pool.acquire().await.map_err(failed)?;
            let rows = users::list(&mut connection, &filter, &paging).await.map_err(failed)?;
            drop(connection);
            let page = paging.page(rows, |user| user.id);
            if self.json {
                for user in &page.items {
                    text += &serde_json::to_string(user).map_err(|error| error.to_string())?;
                    text += "\n";
                }
            } else {
                let cells = page.items.iter().map(cells).collect::<Result<Vec<_>, _>>()?;
                table.fit(&cells);
                if paging.before == Uuid::max() {
                    text += &table.line(&titles);
                }
                text.extend(cells.iter().map(|cells| table.line(cells)));
            }
            if output::print_more(&text)?.is_break() {
                return Ok(());
            }
            text.clear();
            match page.items.last().filter(|_| page.next_cursor.is_some()) {
                Some(last) => paging.before = last.id,
                None => return Ok(()),
            }
        }
    }
}

fn cells(user: &User) -> Result<[String; 6], String> {
    let last_login = user.last_login_at.as_ref().map(timestamp::format);
    let last_login = last_login.transpose().map_err(|error| error.to_string())?;
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    Ok([
        or_none(user.username.clone()),
        or_none(user.email.clone()),
        user.role.as_str().to_owned(),
        if user.is_active { "active" } else { "disabled" }.to_owned(),
        or_none(last_login),
        user.id.to_string(),
    ])
}

/// Columns that are as wide as the widest cell so far.
#[derive(Default)]
struct Table {
    widths: [usize; 6],
}

impl Table {
    fn fit(&mut self, rows: &[[String; 6]]) {
        for row in rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
    }

    fn line(&self, cells: &[String; 6]) -> String {
        let cells = cells.iter().zip(self.widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    }
}
