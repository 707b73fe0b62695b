mod search;

use portcullis::config::{Registration, Switch};
use serde_json::{Value, json};

use crate::TestApp;
use crate::app::PASSWORD;

#[tokio::test]
async fn who_registers_is_logged_in_at_once() {
    let app = TestApp::start().await;
    let browser = app.anonymous();
    let alice = json!({"username": " Alice ", "email": " Alice@Example.com ", "name": " Alice ", "password": PASSWORD});
    let answer = browser.post("/users", alice).await.status(201);
    let user = answer.body["user"].clone();
    assert_eq!(
        answer.header("location"),
        Some(&*format!("/users/{}", user["id"].as_str().unwrap()))
    );
    assert_eq!(user["username"], "alice");
    assert_eq!(user["email"], "alice@example.com");
    assert_eq!(user["name"], "Alice");
    assert_eq!(user["role"], "user");
    assert_eq!(user["email_verified"], false);
    assert_eq!(user["is_active"], true);
    assert!(user["last_login_at"].is_string());
    assert_eq!(uuid::Uuid::parse_str(user["id"].as_str().unwrap()).unwrap().get_version_num(), 7);
    assert_eq!(answer.body["session"]["remember"], false);
    assert_eq!(answer.body["token"], Value::Null);
    assert_eq!(browser.get("/me").await.ok(), user);
}

#[tokio::test]
async fn an_app_registers_and_gets_a_token() {
    let app = TestApp::start().await;
    let bob = json!({"email": "bob@example.com", "password": PASSWORD, "transport": "token"});
    let answer = app.anonymous().post("/users", bob).await.status(201);
    assert_eq!(answer.header("set-cookie"), None);
    assert_eq!(answer.body["session"]["remember"], true);
    assert_eq!(answer.body["user"]["username"], Value::Null);
    app.with_token(&answer.token()).get("/me").await.ok();
}

#[tokio::test]
async fn names_are_unique_whatever_their_case() {
    let app = TestApp::start().await;
    let alice = json!({"username": "alice", "email": "alice@example.com", "password": PASSWORD});
    app.anonymous().post("/users", alice).await.status(201);
    let same_name = json!({"username": "ALICE", "password": PASSWORD});
    app.anonymous().post("/users", same_name).await.problem(409, "username_taken");
    let same_email =
        json!({"username": "alice2", "email": "ALICE@example.com", "password": PASSWORD});
    app.anonymous().post("/users", same_email).await.problem(409, "email_taken");
    assert_eq!((app.count("users").await, app.count("session_records").await), (1, 1));
}

#[tokio::test]
async fn of_many_who_register_one_name_at_once_one_gets_it() {
    let app = TestApp::start().await;
    let replica = app.replica().await;
    let tries = (0..8).map(|i| {
        let client = if i % 2 == 0 { &app } else { &replica }.anonymous();
        tokio::spawn(async move {
            client.post("/users", json!({"username": "alice", "password": PASSWORD})).await
        })
    });
    let mut codes = Vec::new();
    for answer in tries.collect::<Vec<_>>() {
        codes.push(answer.await.unwrap().code);
    }
    codes.sort_unstable();
    assert_eq!(codes, [201, 409, 409, 409, 409, 409, 409, 409]);
    assert_eq!((app.count("sessions").await, app.count("session_records").await), (1, 1));
}

#[tokio::test]
async fn everything_that_is_wrong_is_told_at_once() {
    let app = TestApp::start().await;
    let long = "x".repeat(129);
    let longer = format!("{}@example.com", "x".repeat(250));
    for (body, expected) in [
        (json!({"password": PASSWORD}), vec![("username", "required")]),
        (
            json!({"username": "ab", "email": "x", "name": " ", "password": "short"}),
            vec![
                ("password", "too_short"),
                ("username", "too_short"),
                ("email", "invalid"),
                ("name", "too_short"),
            ],
        ),
        (
            json!({"username": "a".repeat(33), "password": long}),
            vec![("password", "too_long"), ("username", "too_long")],
        ),
        (
            json!({"username": "alice@example.com", "password": PASSWORD}),
            vec![("username", "invalid")],
        ),
        (json!({"username": "ali\0ce", "password": PASSWORD}), vec![("username", "invalid")]),
        (json!({"email": longer, "password": PASSWORD}), vec![("email", "too_long")]),
        (json!({"email": "a\0@example.com", "password": PASSWORD}), vec![("email", "invalid")]),
        (
            json!({"username": "alice", "name": "a\0b", "password": PASSWORD}),
            vec![("name", "invalid")],
        ),
        (
            json!({"username": "alice", "name": "x".repeat(201), "password": PASSWORD}),
            vec![("name", "too_long")],
        ),
        (json!({"username": "alice"}), vec![("password", "required")]),
        (
            json!({"username": "alice", "password": PASSWORD, "is_active": true}),
            vec![("is_active", "unknown")],
        ),
        (
            json!({"username": "alice", "password": PASSWORD, "role": "king"}),
            vec![("role", "invalid")],
        ),
    ] {
        let faults = app.anonymous().post("/users", body.clone()).await.faults();
        let faults: Vec<_> = faults.iter().map(|(field, code)| (&**field, &**code)).collect();
        assert_eq!(faults, expected, "{body}");
    }
    assert_eq!((app.count("users").await, app.count("session_records").await), (0, 0));
}

#[tokio::test]
async fn a_password_may_have_any_characters_and_8_to_128_of_them() {
    let app = TestApp::start().await;
    for (i, password) in [
        "8 chars!",
        "   a gap   ",
        "nul\0of\0it",
        "слон на велосипеде",
        "🔑🐘🚲🌧🎻🧵🪐🫖",
        &"one of many ".repeat(11)[..128],
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("user-{i}");
        app.anonymous()
            .post("/users", json!({"username": name, "password": password}))
            .await
            .status(201);
        app.anonymous().post("/login", json!({"username": name, "password": password})).await.ok();
    }
    // NFKC makes one character of these two, seven times.
    let decomposed = json!({"username": "decomposed", "password": "e\u{301}".repeat(7)});
    assert_eq!(app.anonymous().post("/users", decomposed).await.faults()[0].1, "too_short");
}

#[tokio::test]
async fn a_password_that_is_guessed_early_is_refused_wherever_one_is_chosen() {
    let app = TestApp::with(|config| config.password_min_length = 10).await;
    let (user, admin) = (app.user().await, app.admin().await);
    let refused = |password: &str, code: &str| (password.to_owned(), code.to_owned());
    let of_user = format!("{}!", user.username());
    for (password, code) in [
        refused("less than", "too_short"),
        refused("football123", "breached"),
        refused("abcabcabcabc", "guessable"),
        refused("portcullis99", "personal"),
        refused(&of_user, "personal"),
    ] {
        let account = json!({"username": user.username(), "password": password});
        let faults = app.anonymous().post("/users", account).await.faults();
        assert_eq!(faults, [("password".to_owned(), code.clone())], "{password}");
        let change = json!({"current_password": PASSWORD, "new_password": password});
        let faults = user.put("/me/password", change).await.faults();
        assert_eq!(faults, [("new_password".to_owned(), code.clone())], "{password}");
        let set = json!({"password": password});
        let faults = admin.patch(&format!("/users/{}", user.id()), set).await.faults();
        assert_eq!(faults, [("password".to_owned(), code)], "{password}");
    }
    let account = json!({"username": "someone", "password": "abcabcabcabc"});
    let answer = app.anonymous().post("/users", account).await.problem(422, "validation_failed");
    let message = answer.body["errors"][0]["message"].as_str().unwrap();
    assert!(message.contains("Avoid repeated words"), "{message}");
}

#[tokio::test]
async fn only_an_admin_makes_admins() {
    let app = TestApp::start().await;
    let (user, admin) = (app.user().await, app.admin().await);
    let new = |name: &str| json!({"username": name, "password": PASSWORD, "role": "admin"});
    app.anonymous().post("/users", new("mallory")).await.problem(403, "forbidden");
    user.post("/users", new("mallory")).await.problem(403, "forbidden");
    let plain = json!({"username": "mallory", "password": PASSWORD, "role": "user"});
    user.post("/users", plain).await.problem(403, "forbidden");
    let answer = admin.post("/users", new("carol")).await.status(201);
    assert_eq!(answer.body["user"]["role"], "admin");
}

#[tokio::test]
async fn an_admin_makes_accounts_and_stays_who_they_are() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let answer =
        admin.post("/users", json!({"username": "bob", "password": PASSWORD})).await.status(201);
    assert_eq!(answer.header("set-cookie"), None);
    assert!(answer.body.get("session").is_none());
    assert_eq!(answer.body["token"], Value::Null);
    assert_eq!(answer.body["user"]["last_login_at"], Value::Null);
    assert_eq!(admin.get("/me").await.ok()["id"], admin.id());
    let location = answer.header("location").unwrap().to_owned();
    assert_eq!(admin.get(&location).await.ok(), answer.body["user"]);
}

#[tokio::test]
async fn an_admin_makes_accounts_only_with_a_fresh_session_or_a_token_for_it() {
    let app = TestApp::with(|config| config.basic_auth = portcullis::config::Switch::On).await;
    let admin = app.admin().await;
    let new = json!({"username": "mallory", "password": PASSWORD, "role": "admin"});
    let read = admin.token(json!({"name": "t", "scopes": ["read", "write"]})).await;
    let answer = app.with_token(&read).post("/users", new.clone()).await;
    answer.problem(403, "insufficient_scope");
    app.stale().await;
    admin.post("/users", new.clone()).await.problem(401, "reauthentication_required");
    let basic = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        format!("{}:{PASSWORD}", admin.username()),
    );
    let basic = app.anonymous().with("authorization", &format!("Basic {basic}"));
    basic.post("/users", new).await.problem(403, "session_required");
    assert_eq!(app.count("users").await, 1);
}

#[tokio::test]
async fn closed_registration_is_open_to_admins() {
    let app = TestApp::start().await;
    let (user, admin) = (app.user().await, app.admin().await);
    let mut closed = app.config.clone();
    closed.registration = Registration::Closed;
    let closed = app.replica_with(closed).await;
    let bob = json!({"username": "bob", "password": PASSWORD});
    closed.anonymous().post("/users", bob.clone()).await.problem(403, "registration_closed");
    user.to(&closed).post("/users", bob.clone()).await.problem(403, "registration_closed");
    admin.to(&closed).post("/users", bob).await.status(201);
}

#[tokio::test]
async fn a_credential_that_does_not_stand_is_no_hindrance_to_registering() {
    let app = TestApp::start().await;
    for (i, client) in [
        app.with_cookie("nonsense"),
        app.with_token("pcs_AAAAAAAAAAAAAAAAAAAAAA"),
        app.with_token("nonsense"),
        app.anonymous().with("x-api-key", "nonsense"),
    ]
    .into_iter()
    .enumerate()
    {
        let new = json!({"username": format!("user-{i}"), "password": PASSWORD});
        client.post("/users", new).await.status(201);
    }
}

#[tokio::test]
async fn a_program_whose_credential_is_invalid_registers_nobody() {
    let app = TestApp::with(|config| config.basic_auth = Switch::On).await;
    let user = app.user().await;
    let token = user.token(json!({"name": "t", "scopes": ["read", "write"]})).await;
    app.sql("delete from api_tokens").await;
    let new = json!({"username": "carol", "password": PASSWORD});
    app.with_token(&token).post("/users", new.clone()).await.problem(401, "invalid_token");
    let key = app.anonymous().with("x-api-key", &token);
    key.post("/users", new.clone()).await.problem(401, "invalid_token");
    let basic = app.anonymous().with("authorization", "Basic YWxpY2U6d3Jvbmc=");
    basic.post("/users", new).await.problem(401, "invalid_credentials");
    assert_eq!(app.count("users").await, 1);
}

#[tokio::test]
async fn accounts_are_for_admins_to_see() {
    let app = TestApp::start().await;
    let (user, admin) = (app.user().await, app.admin().await);
    let own = format!("/users/{}", user.id());
    for path in ["/users", &own] {
        app.anonymous().get(path).await.problem(401, "unauthenticated");
        user.get(path).await.problem(403, "forbidden");
        admin.get(path).await.ok();
    }
    assert_eq!(admin.get(&own).await.ok()["username"], user.username());
    for path in [
        "/users/nonsense",
        "/users/01a1fdbe-c128-7060-b598-5638a5c14638",
        "/users/%00",
        "/users/%ff",
    ] {
        admin.get(path).await.problem(404, "not_found");
    }
    app.sql("update users set role = 'user'").await;
    admin.get("/users").await.problem(403, "forbidden");
}

#[tokio::test]
async fn the_list_is_paged_newest_first_without_gaps() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    app.sql("insert into users (id, username, password_hash)
             select ('01900000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, 'user' || n, '' from generate_series(1, 120) n").await;
    let all = names(&admin.get("/users?limit=100").await.ok());
    assert_eq!(all.len(), 100);
    assert_eq!(&all[1..3], ["user120", "user119"]);
    assert_eq!(names(&admin.get("/users").await.ok()).len(), 50);

    let (mut seen, mut path) = (Vec::new(), "/users?limit=11".to_owned());
    loop {
        let page = admin.get(&path).await.ok();
        seen.extend(names(&page));
        // A new account on top moves nothing further down.
        app.sql("insert into users (id, username, password_hash)
                 select ('ffffffff-ffff-7fff-8000-' || lpad(count(*)::text, 12, '0'))::uuid, 'late' || count(*), '' from users").await;
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/users?limit=11&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 121);
    assert_eq!(seen[..100], all);
    let exact = admin.get("/users?q=user120").await.ok();
    assert_eq!((names(&exact).len(), &exact["next_cursor"]), (1, &Value::Null));
}

#[tokio::test]
async fn wrong_parameters_are_named() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=-1", "limit"),
        ("limit=ten", "limit"),
        ("limit=99999999999999999999", "limit"),
        ("limit=5&limit=6", "limit"),
        ("cursor=nonsense", "cursor"),
        ("cursor=", "cursor"),
        ("role=king", "role"),
        ("is_active=maybe", "is_active"),
        ("q=%00", "q"),
        ("rolle=admin", "rolle"),
    ] {
        let faults = admin.get(&format!("/users?{query}")).await.faults();
        assert_eq!(faults[0].0, field, "{query}");
    }
}

fn names(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().unwrap();
    items.iter().map(|user| user["username"].as_str().unwrap().to_owned()).collect()
}
