//! A database that the service shares with others: its tables are in a schema of its own.

use std::path::Path;

use portcullis::store;
use serde_json::json;
use sqlx::{ConnectOptions as _, Executor as _};

use crate::TestApp;
use crate::app::PASSWORD;
use crate::cluster::Database;
use crate::serve::{Directory, Service, command, refusal};

/// A service on an empty database, after a statement, with a search path of the connection's own.
async fn after(statement: &str, search_path: Option<&str>) -> TestApp {
    let mut database = Database::empty().await;
    let mut connection = database.options.connect().await.unwrap();
    connection.execute(statement).await.unwrap();
    if let Some(search_path) = search_path {
        database.options = database.options.clone().options([("search_path", search_path)]);
    }
    TestApp::on_database(database, |_| {}).await
}

fn url(app: &TestApp, search_path: Option<&str>) -> String {
    let options = search_path.map(|path| format!("&options=-c%20search_path%3D{path}"));
    app.database_url() + &options.unwrap_or_default()
}

async fn doctor(url: &str) -> (String, bool) {
    let directory = Directory::new();
    let mut command = command(&directory.0, &[("DATABASE_URL", url)]);
    let output = tokio::task::spawn_blocking(move || command.arg("doctor").output());
    let output = output.await.unwrap().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (text.replace("\n         ", " "), output.status.success())
}

#[tokio::test]
async fn everything_works_in_the_first_schema_of_the_search_path() {
    for (statement, search_path) in [
        ("create schema authorization current_user", None),
        ("create schema auth", Some("auth")),
        ("create schema \"Odd-Name\"", Some("\"Odd-Name\",public")),
    ] {
        let app = after(statement, search_path).await;
        let user = app.user().await;
        user.post("/me/reauthenticate", json!({"password": PASSWORD})).await.ok();
        let token = user.token(json!({"name": "t"})).await;
        app.with_token(&token).get("/me").await.ok();
        user.login().await.status(200);
        user.call("/logout").await.status(204);
        assert_eq!(store::sessions::count(&app.pool).await.unwrap(), app.count("sessions").await);
        app.sql("update session_records set expiry_date = now() - interval '1 second'").await;
        app.sql("update sessions set expires_at = now() - interval '1 second'").await;
        assert!(app.sweep().await > 0);
        let foreign =
            "select from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace";
        assert_eq!(app.sql(foreign).await, 0, "{statement}");

        let url = url(&app, search_path);
        let (text, healthy) = doctor(&url).await;
        assert!(healthy && text.contains("ok       what a login writes is accepted"), "{text}");
        let directory = Directory::new();
        let service = Service::start(&directory.0, &[("DATABASE_URL", &url)]);
        let login = json!({"identifier": user.username(), "password": PASSWORD});
        let browser = app.anonymous().at(&service.base);
        browser.post("/login", login).await.status(200);
        browser.get("/me").await.ok();
    }
}

#[tokio::test]
async fn a_schema_that_is_created_later_hides_no_account() {
    let app = TestApp::start().await;
    let user = app.user().await;
    app.sql("create schema authorization current_user").await;
    app.sql("delete from _sqlx_migrations where version = 10").await;
    app.sql("alter table outbox drop column traceparent").await;
    store::migrate(&app.database_options()).await.unwrap();
    let hidden = "select from pg_class where relnamespace = current_schema()::regnamespace";
    assert_eq!(app.sql(hidden).await, 0);
    app.sql("select traceparent from public.outbox").await;
    user.get("/me").await.ok();
    user.login().await.status(200);
}

#[tokio::test]
async fn tables_of_another_application_stop_the_start_with_the_remedy() {
    let database = Database::empty().await;
    let mut connection = database.options.connect().await.unwrap();
    connection.execute("create table users (id int)").await.unwrap();
    let directory = Directory::new();
    let url = database.url();
    let line = refusal(&directory.0, &[("DATABASE_URL", &url)], &[]);
    assert!(line.contains("needs a database, or at least a schema, of its own"), "{line}");
    connection.execute("create schema authorization current_user").await.unwrap();
    Service::start(&directory.0, &[("DATABASE_URL", &url)]);
}

#[tokio::test]
async fn the_start_and_doctor_try_what_a_login_needs_and_leave_nothing() {
    let app = TestApp::start().await;
    let (directory, url) = (Directory::new(), app.database_url());
    for (broken, mended, said, remedy) in [
        (
            "revoke insert on session_records from current_user",
            "grant insert on session_records to current_user",
            "permission denied for table session_records",
            "`portcullis migrate --own`",
        ),
        (
            "revoke update on throttles from current_user",
            "grant update on throttles to current_user",
            "permission denied for table throttles",
            "`portcullis migrate --own`",
        ),
        (
            "alter table sessions add column tenant int not null",
            "alter table sessions drop column tenant",
            "null value in column \"tenant\"",
            "of its own",
        ),
    ] {
        app.sql(broken).await;
        let (text, healthy) = doctor(&url).await;
        assert!(!healthy && text.contains(said) && text.contains(remedy), "{text}");
        let line = refusal(&directory.0, &[("DATABASE_URL", &url)], &[]);
        assert!(line.contains(said) && line.contains(remedy), "{line}");
        app.sql(mended).await;
    }
    drop(Service::start(&directory.0, &[("DATABASE_URL", &url)]));
    for table in ["users", "session_records", "sessions", "throttles", "audit_events"] {
        assert_eq!(app.count(table).await, 0, "{table}");
    }
    // A database that only reads may accept writes before the first login.
    let name = app.database_options().get_database().unwrap().to_owned();
    app.sql(&format!("alter database {name} set default_transaction_read_only = on")).await;
    drop(Service::start(&directory.0, &[("DATABASE_URL", &url)]));
    let log = std::fs::read_to_string(directory.0.join("log")).unwrap();
    assert!(log.contains("a login could not be tried"), "{log}");
}

#[tokio::test]
async fn a_statement_that_is_wrong_is_an_internal_error_and_no_outage() {
    let app = TestApp::start().await;
    let user = app.user().await;
    app.sql("alter table session_records rename to elsewhere").await;
    let login = json!({"identifier": user.username(), "password": PASSWORD});
    app.anonymous().post("/login", login.clone()).await.problem(500, "internal");
    app.sql("alter table elsewhere rename to session_records").await;
    app.sql("alter table throttles rename to elsewhere").await;
    app.anonymous().post("/login", login).await.problem(500, "internal");
    app.anonymous().get("/readyz").await.ok();
}

/// Calls `each` with every file below a folder.
fn files(folder: &Path, each: &mut impl FnMut(&Path, &str)) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files(&path, each),
            false => each(&path, &String::from_utf8_lossy(&std::fs::read(&path).unwrap())),
        }
    }
}

/// Words after which SQL names a table.
const TABLE_FOLLOWS: [&str; 7] = ["from", "join", "into", "update", "table", "only", "references"];

#[test]
fn no_sql_names_a_schema() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut named = Vec::new();
    let mut check_tables = |path: &Path, sql: &str| {
        let words: Vec<_> = sql.split_whitespace().collect();
        // `is distinct from` and `extract(epoch from …)` are followed by values.
        let is_of_table =
            |three: &&[&str]| three[0] != "distinct" && !three[0].contains("extract(");
        for three in words.windows(3).filter(is_of_table) {
            let (before, table) = (three[1].to_lowercase(), three[2].replace(['"', '('], ""));
            let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
            let table = table.split(|c| !is_name(c)).next().unwrap_or_default();
            if TABLE_FOLLOWS.contains(&&*before) && table.trim_end_matches('.').contains('.') {
                named.push(format!("{}: {table}", path.display()));
            }
        }
    };
    let mut queries = 0;
    files(&root.join(".sqlx"), &mut |path, text| {
        let query: serde_json::Value = serde_json::from_str(text).unwrap();
        check_tables(path, query["query"].as_str().unwrap());
        queries += 1;
    });
    assert!(queries > 90, "{queries}");
    files(&root.join("migrations"), &mut check_tables);
    // SQL that is not checked when it is built, and names that are given to libraries.
    let mut check_text = |path: &Path, text: &str| {
        for part in ["public.", "\"public\"", "'public'", "schema public", "with_schema_name"] {
            if text.contains(part) {
                named.push(format!("{}: {part}", path.display()));
            }
        }
    };
    for folder in ["src", "migrations", ".sqlx"] {
        files(&root.join(folder), &mut check_text);
    }
    assert!(named.is_empty(), "{named:#?}");
}
