//! Concurrent requests to two instances over one database, at every default isolation level that PostgreSQL has.
//! `RACE_ROUNDS` asks for more rounds.

use portcullis::config::{Config, Switch};
use portcullis::store;
use serde_json::json;
use tokio::task::JoinSet;

use crate::TestApp;
use crate::app::{Answer, PASSWORD};
use crate::throttle::many_logins;

/// Wrong passwords are part of the game here.
fn unlimited(config: &mut Config) {
    config.throttle = Switch::Off;
}

/// The default isolation level of the database. The service asks for its own.
#[derive(Clone, Copy)]
enum Level {
    ReadCommitted,
    RepeatableRead,
    Serializable,
}

impl Level {
    async fn app(self, change: impl FnOnce(&mut Config)) -> TestApp {
        let level = match self {
            Self::ReadCommitted => "read committed",
            Self::RepeatableRead => "repeatable read",
            Self::Serializable => "serializable",
        };
        TestApp::with_default_isolation(level, change).await
    }

    /// A wrong isolation level shows in a few rounds.
    fn rounds(self) -> usize {
        let rounds = std::env::var("RACE_ROUNDS").map_or(15, |rounds| rounds.parse().unwrap());
        match self {
            Self::ReadCommitted => rounds,
            Self::RepeatableRead | Self::Serializable => rounds.div_ceil(4),
        }
    }
}

macro_rules! at_every_isolation_level {
    ($($test:ident),* $(,)?) => {
        at_every_isolation_level!(@ read_committed ReadCommitted $($test)*);
        at_every_isolation_level!(@ repeatable_read RepeatableRead $($test)*);
        at_every_isolation_level!(@ serializable Serializable $($test)*);
    };
    (@ $module:ident $level:ident $($test:ident)*) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $test() {
                    super::$test(super::Level::$level).await;
                }
            )*
        }
    };
}

at_every_isolation_level![
    no_session_made_with_the_old_password_survives_its_change,
    no_session_of_an_account_that_was_disabled_at_once_survives,
    a_session_that_is_revoked_stays_so_against_requests_and_renewals_in_flight,
    two_admins_who_demote_each_other_leave_one,
    after_a_renewal_requests_in_flight_still_find_the_session,
    a_promotion_during_a_deletion_ends_without_a_deadlock,
    a_session_that_was_ended_while_it_waited_ends_no_other,
    unrelated_users_who_log_in_at_once_do_not_disturb_each_other,
    replicas_that_start_at_once_migrate_once,
];

/// In every other round, waits for the first answer that counts. Otherwise a machine may be so fast that what
/// follows always comes before all tries.
async fn first(
    tries: &mut JoinSet<Answer>,
    round: usize,
    counts: impl Fn(&Answer) -> bool,
) -> Vec<Answer> {
    let mut answers = Vec::new();
    while round % 2 == 1
        && !answers.iter().any(&counts)
        && let Some(answer) = tries.join_next().await
    {
        answers.push(answer.unwrap());
    }
    answers
}

async fn no_session_made_with_the_old_password_survives_its_change(level: Level) {
    let app = level.app(unlimited).await;
    let replica = app.replica().await;
    let user = app.user().await;
    let (mut old, mut survivors, mut logins) = (PASSWORD.to_owned(), 0, 0);
    for round in 0..level.rounds() {
        let new = format!("password number {round}");
        let login = json!({"identifier": user.username(), "password": old});
        user.post("/login", login.clone()).await.status(200);
        let mut tries = JoinSet::new();
        for i in 0..6 {
            let client = if i % 2 == 0 { &app } else { &replica }.anonymous();
            let login = login.clone();
            tries.spawn(async move { client.post("/login", login).await });
        }
        let mut answers = first(&mut tries, round, |answer| answer.code == 200).await;
        let change = json!({"current_password": old, "new_password": new});
        let changed = user.put("/me/password", change).await.status(200).cookie();
        answers.extend(tries.join_all().await);
        for answer in answers {
            if answer.code == 200 {
                logins += 1;
                survivors +=
                    usize::from(replica.with_cookie(&answer.cookie()).get("/me").await.code == 200);
            } else {
                answer.problem(401, "invalid_credentials");
            }
        }
        replica.with_cookie(&changed).get("/me").await.ok();
        old = new;
    }
    println!(
        "{survivors} sessions survived {} changes of the password, against {logins} logins",
        level.rounds()
    );
    assert!(logins > 0);
    assert_eq!(survivors, 0);
}

async fn no_session_of_an_account_that_was_disabled_at_once_survives(level: Level) {
    let app = level.app(unlimited).await;
    let replica = app.replica().await;
    let (admin, user) = (app.admin().await, app.user().await);
    let path = format!("/users/{}", user.id());
    let (mut survivors, mut logins) = (0, 0);
    for round in 0..level.rounds() {
        let login = json!({"identifier": user.username(), "password": PASSWORD});
        let mut tries = JoinSet::new();
        for i in 0..6 {
            let client = if i % 2 == 0 { &app } else { &replica }.anonymous();
            let login = login.clone();
            tries.spawn(async move { client.post("/login", login).await });
        }
        let mut answers = first(&mut tries, round, |answer| answer.code == 200).await;
        admin.patch(&path, json!({"is_active": false})).await.ok();
        // Enabled again, so that a session that was left would show.
        let mut cookies = Vec::new();
        answers.extend(tries.join_all().await);
        for answer in answers {
            assert!(matches!(answer.code, 200 | 401 | 403), "{}", answer.text);
            if answer.code == 200 {
                logins += 1;
                cookies.push(answer.cookie());
            }
        }
        admin.patch(&path, json!({"is_active": true})).await.ok();
        for cookie in cookies {
            survivors += usize::from(replica.with_cookie(&cookie).get("/me").await.code == 200);
        }
    }
    println!(
        "{survivors} sessions survived {} disablings, against {logins} logins",
        level.rounds()
    );
    assert!(logins > 0);
    assert_eq!(survivors, 0);
}

async fn a_session_that_is_revoked_stays_so_against_requests_and_renewals_in_flight(level: Level) {
    let app = level.app(many_logins).await;
    let replica = app.replica().await;
    let user = app.user().await;
    let (mut survivors, mut renewed) = (0, 0);
    for round in 0..level.rounds() * 2 {
        let secret = user.login().await.status(200).cookie();
        let mut tries = JoinSet::new();
        for i in 0..6 {
            let client = if i % 2 == 0 { &app } else { &replica }.with_cookie(&secret);
            tries.spawn(async move {
                match i {
                    0 | 1 => client.post("/me/reauthenticate", json!({"password": PASSWORD})).await,
                    _ => client.get("/session").await,
                }
            });
        }
        let is_renewal =
            |answer: &Answer| answer.code == 200 && answer.header("set-cookie").is_some();
        let mut answers = first(&mut tries, round / 2, is_renewal).await;
        tokio::time::sleep(std::time::Duration::from_millis((round % 8) as u64)).await;
        let end = replica.with_cookie(&secret);
        let revoked = match round % 2 {
            0 => end.call("/logout").await.status(204),
            // A renewal may have been faster: then the secret is the old one, which may not revoke.
            _ => end.delete("/me/sessions?include=current").await,
        };
        assert!(matches!(revoked.code, 204 | 401), "{}", revoked.text);
        answers.extend(tries.join_all().await);
        for answer in answers {
            assert!(matches!(answer.code, 200 | 401 | 409), "{}", answer.text);
            renewed += usize::from(is_renewal(&answer));
        }
        if revoked.code == 204 {
            survivors += usize::from(app.with_cookie(&secret).get("/me").await.code == 200);
        }
        app.sql("delete from sessions").await;
        app.sql("delete from session_records").await;
    }
    println!(
        "{survivors} of {} revoked secrets worked afterwards, against {renewed} renewals",
        level.rounds() * 2
    );
    assert!(renewed > 0);
    assert_eq!(survivors, 0);
}

async fn two_admins_who_demote_each_other_leave_one(level: Level) {
    let app = level.app(unlimited).await;
    let replica = app.replica().await;
    let mut without = 0;
    for _ in 0..level.rounds() {
        app.sql("update users set role = 'user'").await;
        let (a, b) = (app.admin().await, app.admin().await);
        let (to_a, to_b) = (format!("/users/{}", a.id()), format!("/users/{}", b.id()));
        let (first, second) = tokio::join!(a.patch(&to_b, json!({"role": "user"})), async {
            b.to(&replica).patch(&to_a, json!({"role": "user"})).await
        },);
        let codes = [first.code, second.code];
        assert!(codes.contains(&200) && codes != [200, 200], "{} {}", first.text, second.text);
        let admins: i64 =
            sqlx::query_scalar("select count(*) from users where role = 'admin' and is_active")
                .fetch_one(&app.pool)
                .await
                .unwrap();
        without += usize::from(admins != 1);
    }
    println!("{without} of {} rounds left no admin", level.rounds());
    assert_eq!(without, 0);
}

async fn after_a_renewal_requests_in_flight_still_find_the_session(level: Level) {
    let app = level.app(many_logins).await;
    let replica = app.replica().await;
    let user = app.user().await;
    let (mut refused, mut alive) = (0, 0);
    for _ in 0..level.rounds() {
        let old = user.login().await.status(200).cookie();
        app.sql("update sessions set last_seen_at = now() - interval '2 minutes'").await;
        let tries: Vec<_> = (0..8)
            .map(|i| {
                let client = if i % 2 == 0 { &app } else { &replica }.with_cookie(&old);
                tokio::spawn(async move { client.get("/me").await })
            })
            .collect();
        let answer = app
            .with_cookie(&old)
            .post("/me/reauthenticate", json!({"password": PASSWORD}))
            .await
            .status(200);
        for app in [&app, &replica] {
            app.with_cookie(&old).get("/me").await.ok();
            app.with_cookie(&answer.cookie()).get("/me").await.ok();
        }
        for attempt in tries {
            let answer = attempt.await.unwrap();
            // They never take the new cookie away.
            assert_eq!(answer.header("set-cookie"), None);
            refused += usize::from(answer.code != 200);
        }
        app.end_grace().await;
        alive += usize::from(replica.with_cookie(&old).get("/me").await.code == 200);
        user.login().await.status(200);
    }
    println!(
        "{refused} requests in flight were rejected, and the old secret worked {alive} times too long, in {} renewals",
        level.rounds()
    );
    assert_eq!((refused, alive), (0, 0));
}

async fn a_promotion_during_a_deletion_ends_without_a_deadlock(level: Level) {
    let app = level.app(unlimited).await;
    let replica = app.replica().await;
    let admin = app.admin().await;
    for _ in 0..level.rounds() {
        let user = app.user().await;
        let path = format!("/users/{}", user.id());
        let rename = |name: &str| json!({"name": name});
        let elsewhere = admin.to(&replica);
        let (promoted, deleted, a, b) = tokio::join!(
            admin.patch(&path, json!({"role": "admin"})),
            user.delete("/me"),
            elsewhere.patch(&path, rename("A")),
            elsewhere.patch(&path, rename("B")),
        );
        for answer in [promoted, deleted, a, b] {
            assert!(matches!(answer.code, 200 | 204 | 401 | 404), "{}", answer.text);
        }
    }
}

async fn a_session_that_was_ended_while_it_waited_ends_no_other(level: Level) {
    let app = level.app(|_| {}).await;
    let user = app.user().await;
    let thief = user.login().await.cookie();
    let owner = app.anonymous();
    let login = json!({"identifier": user.username(), "password": PASSWORD});
    owner.post("/login", login).await.status(200);
    let mut change = store::begin(&app.pool).await.unwrap();
    sqlx::query("select from users for no key update").fetch_all(&mut *change).await.unwrap();
    let waiting = tokio::spawn({
        let client = app.with_cookie(&thief);
        async move { client.delete("/me/sessions").await }
    });
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let end = "delete from sessions where id = (select id from sessions order by id limit 1)";
    assert_eq!(sqlx::query(end).execute(&mut *change).await.unwrap().rows_affected(), 1);
    change.commit().await.unwrap();
    waiting.await.unwrap().problem(401, "session_expired");
    owner.get("/me").await.ok();
}

async fn unrelated_users_who_log_in_at_once_do_not_disturb_each_other(level: Level) {
    let app = level.app(many_logins).await;
    let replica = app.replica().await;
    let mut users = Vec::new();
    for _ in 0..12 {
        users.push(app.user().await);
    }
    for _ in 0..4 {
        let mut logins = JoinSet::new();
        for (i, user) in users.iter().enumerate() {
            let browser = if i % 2 == 0 { &app } else { &replica }.anonymous();
            // They share the limits of their network.
            let login = json!({"identifier": user.username(), "password": PASSWORD});
            logins.spawn(async move { browser.post("/login", login).await });
        }
        for answer in logins.join_all().await {
            answer.status(200);
        }
    }
}

async fn replicas_that_start_at_once_migrate_once(level: Level) {
    let app = level.app(|_| {}).await;
    app.sql("drop schema public cascade").await;
    app.sql("create schema public").await;
    let options = app.database_options();
    let replica = || async { store::migrate(&options).await.unwrap() };
    tokio::join!(replica(), replica(), replica(), replica());
    app.user().await;
}
