//! What revokes which credential: every credential × every event × every moment, over two instances.
//!
//! [`TABLE`] is the guarantee. The tests try each cell over HTTP, and hold `docs/security.md` to the same table.

mod credential;
mod event;
mod request;

use std::fmt::Write as _;

use portcullis::config::{Rate, Switch};
use serde_json::json;

use self::credential::{Credential, Held};
use self::event::Event;
use crate::smtp::Mailbox;
use crate::{Client, TestApp};

/// When the credential is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// Before the event. It works.
    Before,
    /// The service has read the head of the request, and the event happens before the body arrives.
    BodyInTransit,
    /// The service has checked the credential, and waits for the account's row, which the event changes first.
    WaitingForTheLock,
    /// After the event.
    After,
}

/// For each event, what becomes of each credential in the order of [`Credential::ALL`]: `x` it is revoked, `-` it
/// stays valid, `.` they exclude each other.
const TABLE: [(Event, &str); 22] = [
    (Event::Logout, "x x x - - - - - - - -"),
    (Event::RevokeOne, "x x x x x - - - - - x"),
    (Event::RevokeAll, "x x x - - - x - - - x"),
    (Event::NewPassword, "x x x x x x x x x x x"),
    (Event::NewPasswordKeepingTokens, "x x x - - x x x x x x"),
    (Event::PasswordReset, "x x x x x x x x x x x"),
    (Event::NewPasswordByAdmin, "x x x x x x x x x x x"),
    (Event::NewPasswordByOperator, "x x x x x x x x x x x"),
    (Event::SessionsRevokedByAdmin, "x x x x x - x x x x x"),
    (Event::TokensRevokedByAdmin, "- - - x x - - - - - -"),
    (Event::Disabled, "x x x x x x x x x x x"),
    (Event::DisabledByOperator, "x x x x x x x x x x x"),
    (Event::DisabledAndEnabled, "x x x x x - x x x x x"),
    (Event::DisabledAndEnabledByOperator, "x x x x x - x x x x x"),
    (Event::Promoted, "x x x - . - - - - - -"),
    (Event::Demoted, "x x x - x - - - - - -"),
    (Event::Deleted, "x x x x x x x x x x x"),
    (Event::DeletedByOwner, "x x x x x x x x x x x"),
    (Event::AddressChanged, "- - - - - - - x x x ."),
    (Event::AddressChangedByAdmin, "- - - - - - - x x x x"),
    (Event::UsernameChanged, "- - - - - - - - - - -"),
    (Event::UsernameChangedByAdmin, "- - - - - - - - - - -"),
];

/// Two instances over one database, with a mailbox and an admin.
struct World {
    app: TestApp,
    replica: TestApp,
    mailbox: Mailbox,
    admin: Client,
}

impl World {
    async fn start() -> Self {
        let mailbox = Mailbox::start().await;
        let app = TestApp::with_mail(&mailbox, |config| {
            config.basic_auth = Switch::On;
            config.login_code = Switch::On;
            let plenty = Rate::parse("1000000/1h").unwrap();
            config.throttle_network = plenty;
            config.throttle_registration = plenty;
            config.throttle_mail_network = plenty;
        });
        let app = app.await;
        let (replica, admin) = (app.replica().await, app.admin().await);
        Self { app, replica, mailbox, admin }
    }
}

/// The cells of one moment: how many there are, and those that are not as the table says.
async fn check(moment: Moment) {
    let world = World::start().await;
    let (mut cells, mut wrong) = (0, Vec::new());
    for (event, row) in TABLE {
        for (credential, cell) in Credential::ALL.into_iter().zip(row.split(' ')) {
            // It is used with the secret of the device in one go.
            let is_whole = moment != Moment::WaitingForTheLock || credential != Credential::Device;
            if cell == "." || !is_whole {
                continue;
            }
            cells += 1;
            // A fresh session for the admin, so that no event is refused for its age.
            world.app.sql("update sessions set authenticated_at = now()").await;
            // Of the two changes the request meets the first one.
            let is_between = event.is_undone() && moment == Moment::WaitingForTheLock;
            let is_revoked = cell == "x" || is_between;
            if let Err(why) = check_cell(&world, event, credential, moment, is_revoked).await {
                wrong.push(format!("{credential:?} × {event:?} × {moment:?}: {why}"));
            }
        }
    }
    println!("{moment:?}: {cells} cells, {} wrong", wrong.len());
    assert!(wrong.is_empty(), "{} of {cells} cells:\n{}", wrong.len(), wrong.join("\n"));
}

async fn check_cell(
    world: &World,
    event: Event,
    credential: Credential,
    moment: Moment,
    is_revoked: bool,
) -> Result<(), String> {
    let account = event::Account::create(world, event, credential).await;
    let held = Held::obtain(world, &account, credential).await;
    let answer = match moment {
        Moment::Before => {
            let answer = held.use_it(world, &account, false).await;
            // It may have ended the session that the event needs; that is not what is tried here.
            let _ = event.happen(world, &account, &held).await;
            return if held.worked(&answer) { Ok(()) } else { Err(format!("refused: {answer:?}")) };
        }
        Moment::BodyInTransit => {
            let request = held.begin(world, &account).await;
            event.happen(world, &account, &held).await?;
            held.prepare(world, &account, true).await;
            request.finish().await
        }
        Moment::WaitingForTheLock => {
            let lock = request::Lock::of(&world.app, &account.id).await;
            let (happened, answer) = tokio::join!(event.happen(world, &account, &held), async {
                lock.wait_for(1).await;
                let (answer, ()) = tokio::join!(held.use_it(world, &account, true), async {
                    lock.wait_for(2).await;
                    lock.release().await;
                });
                answer
            });
            happened?;
            answer
        }
        Moment::After => {
            event.happen(world, &account, &held).await?;
            held.use_it(world, &account, true).await
        }
    };
    match (held.worked(&answer), is_revoked) {
        (true, true) => Err("it still works".to_owned()),
        (false, false) => Err(format!("it does not work any more: {answer:?}")),
        (false, true) if !held.was_refused(&answer) => Err(format!("answered {answer:?}")),
        _ => Ok(()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_credential_works_before_the_event() {
    check(Moment::Before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_credential_changes_nothing_while_the_body_is_in_transit() {
    check(Moment::BodyInTransit).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_credential_changes_nothing_while_the_request_waits_for_the_lock() {
    check(Moment::WaitingForTheLock).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_credential_opens_nothing_on_either_instance_after_the_event() {
    check(Moment::After).await;
}

#[test]
fn docs_security_md_has_this_table() {
    let mut table = String::from("| event |");
    for credential in Credential::ALL {
        let _ = write!(table, " {} |", credential.title());
    }
    table += "\n| --- |";
    table += &" --- |".repeat(Credential::ALL.len());
    for (event, row) in TABLE {
        let _ = write!(table, "\n| {} |", event.title());
        for cell in row.split(' ') {
            table += match cell {
                "x" => " revoked |",
                "-" => " valid |",
                _ => " |",
            };
        }
    }
    let page = include_str!("../../docs/security.md");
    assert!(page.contains(&table), "docs/security.md must have this table:\n{table}");
}

/// Every call that changes something on behalf of a caller, by the OpenAPI document: a call that is added later is
/// tried as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_documented_change_checks_the_caller_again_under_the_lock() {
    let world = World::start().await;
    let (mut tried, mut wrong) = (0, Vec::new());
    for call in request::changes() {
        for credential in [Credential::Cookie, Credential::AdminToken, Credential::Basic] {
            world.app.sql("update sessions set authenticated_at = now()").await;
            let account = event::Account::create(&world, Event::Demoted, credential).await;
            let target = event::Account::create(&world, Event::Demoted, credential).await;
            let held = Held::obtain(&world, &account, credential).await;
            let Some(held) = held.for_call(&call, &account, &target).await else { continue };
            // Where the credential does not suffice anyway, there is nothing to check again.
            let lock = request::Lock::of_all(&world.app).await;
            let (answer, ()) = tokio::join!(held.use_it(&world, &account, true), async {
                lock.wait_for_one_or(std::time::Duration::from_millis(400)).await;
                lock.revoke_everything_of(&account.id).await;
            });
            if held.never_suffices(&answer) {
                continue;
            }
            tried += 1;
            if answer.0 != 401 {
                wrong.push(format!("{} by {credential:?}: {answer:?}", call.name));
            }
        }
    }
    println!("{tried} calls by credentials that were revoked meanwhile, {} wrong", wrong.len());
    assert!(tried >= 20, "{tried}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let left = json!(world.app.count("users").await);
    assert_ne!(left, json!(0));
}
