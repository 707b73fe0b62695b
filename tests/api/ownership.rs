//! The role of the service: it owns its database, and is no superuser.

use std::fs;

use portcullis::embedded::Embedded;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection};

use crate::TestApp;
use crate::embedded::Dir;
use crate::serve::{Directory, command, refusal};

/// Runs `portcullis migrate --own`, and returns what it prints.
fn own(directory: &Directory, environment: &[(&str, &str)]) -> String {
    let output = command(&directory.0, environment).args(["migrate", "--own"]).output().unwrap();
    let log = fs::read_to_string(directory.0.join("log")).unwrap();
    assert!(output.status.success(), "{log}");
    String::from_utf8(output.stdout).unwrap()
}

/// Gives a server the roles that earlier versions had: one superuser, called as the service's role.
async fn make_old(server: &Embedded) {
    let superuser = server.superuser_options().database("postgres");
    let mut connection = superuser.connect().await.unwrap();
    for statement in
        ["drop database portcullis", "drop role portcullis", "create role helper superuser login"]
    {
        connection.execute(statement).await.unwrap();
    }
    connection.close().await.unwrap();
    let mut helper = superuser.clone().username("helper").connect().await.unwrap();
    helper.execute("alter role postgres rename to portcullis").await.unwrap();
    helper.close().await.unwrap();
    let mut old = superuser.username("portcullis").connect().await.unwrap();
    old.execute("drop role helper").await.unwrap();
    old.execute("create database portcullis").await.unwrap();
    old.close().await.unwrap();
}

async fn is_superuser(connection: &mut PgConnection) -> bool {
    let is = "select rolsuper from pg_roles where rolname = current_user";
    sqlx::query_scalar(is).fetch_one(connection).await.unwrap()
}

/// The owners of the database and of all that is in it, with how much each has.
async fn owners(connection: &mut PgConnection) -> Vec<(String, i64)> {
    sqlx::query_as(
        "select pg_get_userbyid(owner)::text, count(*) from (
             select datdba as owner from pg_database where datname = current_database()
             union all select relowner from pg_class where relnamespace = 'public'::regnamespace
             union all select proowner from pg_proc where pronamespace = 'public'::regnamespace
             union all select typowner from pg_type where typnamespace = 'public'::regnamespace
         ) objects group by 1 order by 1",
    )
    .fetch_all(connection)
    .await
    .unwrap()
}

/// Registers somebody, and deletes what has expired: all that the service does with its database.
async fn works(options: PgConnectOptions) {
    let app = TestApp::over(options, |_| {}).await;
    let user = app.user().await;
    let admin = app.admin().await;
    let found = admin.get(&format!("/users?q={}", user.username())).await.ok();
    assert_eq!(found["items"].as_array().unwrap().len(), 1);
    app.sql("update sessions set expires_at = now() - interval '1 second'").await;
    assert!(app.sweep().await >= 2);
}

#[tokio::test]
async fn the_embedded_servers_role_owns_its_database_and_is_no_superuser() {
    let dir = Dir::new();
    let server = Embedded::start(&dir.0.join("data")).await.unwrap();
    let mut connection = server.connect_options().connect().await.unwrap();
    assert!(!is_superuser(&mut connection).await);
    works(server.connect_options()).await;
    let owners = owners(&mut connection).await;
    assert_eq!((owners.len(), &*owners[0].0), (1, "portcullis"), "{owners:?}");
    // A command that joins has no more rights.
    let joined = Embedded::join_or_start(&dir.0.join("data")).await.unwrap();
    assert!(!is_superuser(&mut joined.connect_options().connect().await.unwrap()).await);
    connection.close().await.unwrap();
    server.stop().await.unwrap();
}

#[tokio::test]
async fn an_embedded_cluster_of_an_earlier_version_is_upgraded_at_the_next_start() {
    let dir = Dir::new();
    let data = dir.0.join("data");
    let server = Embedded::start(&data).await.unwrap();
    make_old(&server).await;
    let old = server.connect_options();
    let mut connection = old.connect().await.unwrap();
    assert!(is_superuser(&mut connection).await);
    portcullis::store::migrate(&old).await.unwrap();
    let insert =
        "insert into users (id, username, password_hash) values (gen_random_uuid(), 'alice', 'x')";
    connection.execute(insert).await.unwrap();
    connection.close().await.unwrap();
    server.stop().await.unwrap();

    for _ in 0..2 {
        let server = Embedded::start(&data).await.unwrap();
        let mut connection = server.connect_options().connect().await.unwrap();
        assert!(!is_superuser(&mut connection).await);
        let owners = owners(&mut connection).await;
        assert_eq!((owners.len(), &*owners[0].0), (1, "portcullis"), "{owners:?}");
        let alice = "select count(*) from users where username = 'alice'";
        let alice: i64 = sqlx::query_scalar(alice).fetch_one(&mut connection).await.unwrap();
        assert_eq!(alice, 1);
        let roles = "select array_agg(rolname::text order by rolname) from pg_roles where rolname !~ '^pg_'";
        let roles: Vec<String> =
            sqlx::query_scalar(roles).fetch_one(&mut connection).await.unwrap();
        assert_eq!(roles, ["portcullis", "postgres"]);
        connection.close().await.unwrap();
        works(server.connect_options()).await;
        server.stop().await.unwrap();
    }
}

#[tokio::test]
async fn migrate_own_gives_the_database_to_a_new_role_and_leaves_other_roles_what_they_have() {
    let server = Embedded::throw_away().await.unwrap();
    let socket = server.connect_options().get_socket().unwrap().display().to_string();
    let superuser = server.superuser_options().database("postgres");
    let mut connection = superuser.connect().await.unwrap();
    connection.execute("create database lock").await.unwrap();
    connection.execute("create role reporting login").await.unwrap();
    connection.execute("alter database lock set log_statement = 'all'").await.unwrap();
    connection.close().await.unwrap();
    let in_lock = superuser.clone().database("lock");
    portcullis::store::migrate(&in_lock).await.unwrap();
    let mut connection = in_lock.connect().await.unwrap();
    for statement in [
        "create schema reporting authorization reporting",
        "create table reporting.totals (n bigint)",
        "alter table reporting.totals owner to reporting",
        "grant select on users to reporting",
        "create view everybody as select username from users",
        "create type colour as enum ('red')",
        "create domain short as text check (length(value) < 9)",
        "create type pair as (a text, b text)",
        "create sequence numbers",
    ] {
        connection.execute(statement).await.unwrap();
    }
    let directory = Directory::new();
    let url = format!("postgres://alice:hunter2%2B@localhost/lock?host={socket}");
    let admin = format!("postgres://postgres@localhost/postgres?host={socket}");
    let settings = [("DATABASE_URL", &*url), ("PORTCULLIS_SUPERUSER_URL", &*admin)];
    let told = own(&directory, &settings);
    assert!(told.contains("alice owns the database lock"), "{told}");
    let found = owners(&mut connection).await;
    assert_eq!((found.len(), &*found[0].0), (1, "alice"), "{found:?}");
    let kept = "select has_table_privilege('reporting', 'public.users', 'select')
                    and (select relowner = 'reporting'::regrole from pg_class where oid = 'reporting.totals'::regclass)
                    and (select nspowner = 'reporting'::regrole from pg_namespace where nspname = 'reporting')
                    and (select not rolsuper and rolpassword like 'SCRAM%' from pg_authid where rolname = 'alice')";
    assert!(sqlx::query_scalar::<_, bool>(kept).fetch_one(&mut connection).await.unwrap());
    // Again, with and without the superuser.
    assert!(own(&directory, &settings).contains("(0 objects changed"));
    assert!(own(&directory, &settings[..1]).contains("alice owns the database lock already"));
    connection.close().await.unwrap();
    works(server.connect_options().username("alice").database("lock")).await;
    let log = server.data_dir().join("server.log");
    assert!(!fs::read_to_string(log).unwrap().contains("hunter2"), "the password is logged");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn migrate_own_renames_the_superuser_that_has_the_services_name() {
    // As a volume of the compose file of earlier versions.
    let server = Embedded::throw_away().await.unwrap();
    let socket = server.connect_options().get_socket().unwrap().display().to_string();
    make_old(&server).await;
    let app = TestApp::over(server.connect_options(), |_| {}).await;
    let user = app.user().await;
    let directory = Directory::new();
    let url = format!("postgres://portcullis@localhost/portcullis?host={socket}");
    // While the service runs.
    let told = own(&directory, &[("DATABASE_URL", &*url)]);
    assert!(told.contains("the superuser portcullis is now called postgres"), "{told}");
    user.get("/me").await.ok();
    let mut connection = server.connect_options().connect().await.unwrap();
    assert!(!is_superuser(&mut connection).await);
    let owners = owners(&mut connection).await;
    assert_eq!((owners.len(), &*owners[0].0), (1, "portcullis"), "{owners:?}");
    connection.close().await.unwrap();
    assert!(own(&directory, &[("DATABASE_URL", &*url)]).contains("already"));
    works(server.connect_options()).await;
    server.stop().await.unwrap();
}

#[tokio::test]
async fn migrate_own_says_what_it_lacks() {
    let app = TestApp::start().await;
    let directory = Directory::new();
    let line = refusal(&directory.0, &[], &["migrate", "--own"]);
    assert!(line.contains("needs DATABASE_URL"), "{line}");
    let mut superuser = app.superuser_options().connect().await.unwrap();
    let role = format!("stranger_{}", std::process::id());
    superuser.execute(&*format!("create role {role} login")).await.unwrap();
    let options = app.database_options().username(&role);
    let url = options.to_url_lossy().to_string();
    let line = refusal(&directory.0, &[("DATABASE_URL", &url)], &["migrate", "--own"]);
    assert!(
        line.contains("not a superuser") && line.contains("PORTCULLIS_SUPERUSER_URL"),
        "{line}"
    );
    for wrong in
        ["mysql://alice:hunter2@localhost", "postgres://127.0.0.1/x?user=alice&passwd=hunter2"]
    {
        let settings = [("DATABASE_URL", &*url), ("PORTCULLIS_SUPERUSER_URL", wrong)];
        let line = refusal(&directory.0, &settings, &["migrate", "--own"]);
        assert!(line.contains("PORTCULLIS_SUPERUSER_URL") && !line.contains("hunter2"), "{line}");
    }
    superuser.execute(&*format!("drop role {role}")).await.unwrap();
}

#[tokio::test]
async fn the_doctor_warns_of_a_superuser() {
    let app = TestApp::start().await;
    let directory = Directory::new();
    for (options, is_super) in [(app.superuser_options(), true), (app.database_options(), false)] {
        let url = options.to_url_lossy().to_string();
        let mut doctor = command(&directory.0, &[("DATABASE_URL", &url)]);
        let output = doctor.arg("doctor").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap().replace("\n         ", " ");
        assert_eq!(
            text.contains("warning  the role of DATABASE_URL is a superuser"),
            is_super,
            "{text}"
        );
        assert_eq!(text.contains("portcullis migrate --own"), is_super, "{text}");
    }
}
