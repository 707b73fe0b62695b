//! Requests whose sessions are looked up together: each is answered for itself.

use portcullis::config::Switch;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::TestApp;
use crate::app::{Answer, Client, PASSWORD};

/// The answers to `GET /me`, asked all at once.
pub async fn all_at_once(callers: &[Client]) -> Vec<Answer> {
    let mut asked = JoinSet::new();
    for (at, caller) in callers.iter().cloned().enumerate() {
        asked.spawn(async move { (at, caller.get("/me").await) });
    }
    let mut answers = asked.join_all().await;
    answers.sort_by_key(|(at, _)| *at);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

#[tokio::test]
async fn of_many_at_once_each_is_who_it_is() {
    let app = TestApp::start().await;
    let (mut callers, mut expected) = (vec![], vec![]);
    for _ in 0..8 {
        let user = app.user().await;
        let login =
            json!({"identifier": user.username(), "password": PASSWORD, "transport": "token"});
        let token = app.anonymous().post("/login", login).await.status(200).token();
        let ended = user.login().await.cookie();
        user.login().await.status(200);
        callers.extend([
            app.with_token(&token),
            app.with_cookie(&ended),
            app.with_cookie(token.trim_start_matches("pcs_")),
            user.clone(),
        ]);
        expected.extend([
            user.user["id"].clone(),
            Value::Null,
            Value::Null,
            user.user["id"].clone(),
        ]);
    }
    for _ in 0..10 {
        for (answer, expected) in all_at_once(&callers).await.into_iter().zip(&expected) {
            match expected {
                Value::Null => drop(answer.problem(401, "session_expired")),
                id => assert_eq!(answer.ok()["id"], *id),
            }
        }
    }
}

#[tokio::test]
async fn a_logout_counts_at_once_while_others_are_looked_up() {
    // More logins than the default allows to one account.
    let app = TestApp::with(|config| config.throttle = Switch::Off).await;
    let other = app.user().await;
    let busy = vec![other.clone(); 32];
    let load = tokio::spawn(async move {
        loop {
            all_at_once(&busy).await.into_iter().for_each(|answer| drop(answer.ok()));
        }
    });
    let user = app.user().await;
    for _ in 0..50 {
        let secret = user.login().await.cookie();
        user.call("/logout").await.status(204);
        app.with_cookie(&secret).get("/me").await.problem(401, "session_expired");
    }
    assert!(!load.is_finished(), "an answer to the load was wrong");
    load.abort();
}
