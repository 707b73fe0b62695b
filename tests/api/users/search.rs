//! `GET /users?q=`.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use super::names;
use crate::app::{Answer, Client, PASSWORD, TestApp};

async fn search(admin: &Client, query: &[(&str, &str)]) -> Value {
    Answer::to(admin.request(Method::GET, "/users").query(query)).await.ok()
}

#[tokio::test]
async fn the_search_is_literal_and_without_case() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    for (username, email, name) in [
        ("alice", Some("alice@example.com"), Some("Alice Émile")),
        ("bob_1", None, Some("Bob 100%")),
        ("bob-2", None, Some(r"back\slash")),
    ] {
        let new = json!({"username": username, "email": email, "name": name, "password": PASSWORD});
        admin.post("/users", new).await.status(201);
    }
    for (q, expected) in [
        ("ALI", vec!["alice"]),
        ("@EXAMPLE", vec!["alice"]),
        ("éMILE", vec!["alice"]),
        ("BOB", vec!["bob-2", "bob_1"]),
        ("b_1", vec!["bob_1"]),
        ("%", vec!["bob_1"]),
        ("_", vec!["bob_1"]),
        ("\\", vec!["bob-2"]),
        ("alicealice", vec![]),
        ("' or true --", vec![]),
    ] {
        assert_eq!(names(&search(&admin, &[("q", q)]).await), expected, "{q}");
    }
    assert_eq!(names(&admin.get("/users?role=admin").await.ok()), [admin.username()]);
    app.sql("update users set is_active = false where username = 'alice'").await;
    assert_eq!(names(&admin.get("/users?is_active=false").await.ok()), ["alice"]);
    assert_eq!(
        names(&admin.get("/users?is_active=true&role=user&q=b").await.ok()),
        ["bob-2", "bob_1"]
    );
}

/// More accounts than are looked at one by one, of which the oldest have names that no other has.
async fn crowd(app: &TestApp) {
    app.sql(
        "insert into users (id, username, email, name, password_hash, role)
         select ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'user' || n,
             'user' || n || '@example.com',
             case when n <= 3 then 'Zoë 李 #' || n when n <= 120 then 'Wörld ' || n else 'Alice' end,
             '', case when n = 2 then 'admin' else 'user' end
         from generate_series(1, 7000) n",
    )
    .await;
    app.sql("analyze users").await;
}

#[tokio::test]
async fn the_search_finds_who_is_beyond_the_newest() {
    let app = TestApp::start().await;
    crowd(&app).await;
    let admin = app.admin().await;
    for (q, expected) in [
        ("李", vec!["user3", "user2", "user1"]),
        ("ZOË", vec!["user3", "user2", "user1"]),
        ("ë ", vec!["user3", "user2", "user1"]),
        ("ë 李 #2", vec!["user2"]),
        ("R7@E", vec!["user7"]),
        ("user17@example.com", vec!["user17"]),
        ("#", vec!["user3", "user2", "user1"]),
        ("ë#", vec![]),
        ("user8001", vec![]),
    ] {
        let page = search(&admin, &[("q", q)]).await;
        assert_eq!((names(&page), &page["next_cursor"]), (ids(&expected), &Value::Null), "{q}");
    }
    let admins = search(&admin, &[("q", "zoë"), ("role", "admin")]).await;
    assert_eq!(names(&admins), ["user2"]);
    let disabled = search(&admin, &[("q", "zoë"), ("is_active", "false")]).await;
    assert!(names(&disabled).is_empty());
}

fn ids(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[tokio::test]
async fn the_pages_of_a_search_have_no_gaps() {
    let app = TestApp::start().await;
    crowd(&app).await;
    let admin = app.admin().await;
    // Some with many among the newest, some with none; an empty one is none.
    for (q, expected) in [("wö", 117), ("ser6", 1111), ("", 7001), ("example", 7000)] {
        let (mut seen, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let mut query = vec![("q", q), ("limit", "100")];
            query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let page = search(&admin, &query).await;
            seen.extend(
                page["items"].as_array().unwrap().iter().map(|user| user["id"].to_string()),
            );
            cursor = page["next_cursor"].as_str().map(str::to_owned);
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen.len(), expected, "{q}");
        assert!(seen.is_sorted_by(|a, b| a > b), "{q}");
    }
}

#[tokio::test]
async fn what_few_have_is_found_by_index() {
    let app = TestApp::start().await;
    crowd(&app).await;
    let admin = app.admin().await;
    for (index, query) in [
        ("users_search_idx", [("q", "zoë")]),
        ("users_admin_idx", [("role", "admin")]),
        ("users_disabled_idx", [("is_active", "false")]),
    ] {
        search(&admin, &query).await;
        let scans =
            format!("select idx_scan from pg_stat_user_indexes where indexrelname = '{index}'");
        // PostgreSQL tells what a connection did up to a second later.
        let start = Instant::now();
        loop {
            let scans: i64 = sqlx::query_scalar(&scans).fetch_one(&app.pool).await.unwrap();
            if scans > 0 {
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "{index}");
            tokio::time::sleep(Duration::from_millis(200)).await;
            search(&admin, &query).await;
        }
    }
}
