use std::time::Duration;

use portcullis::metrics::Metrics;
use portcullis::state::App;
use portcullis::sweep;
use serde_json::{Value, json};
use sqlx::postgres::PgPoolOptions;

use crate::TestApp;
use crate::app::PASSWORD;

#[tokio::test]
async fn a_session_tells_who_is_calling_and_by_what() {
    let app = TestApp::start().await;
    let user = app.user().await.with(
        "user-agent",
        "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    );
    let login = user.login().await.ok();
    let current = user.get("/session").await.ok();
    assert_eq!(current["user"], login["user"]);
    assert_eq!(current["session"], login["session"]);
    let session = &current["session"];
    assert_eq!(session["device"], "Firefox on Linux");
    assert_eq!(session["ip"], "127.0.0.1");
    assert_eq!(session["current"], true);
    for field in ["created_at", "last_seen_at", "expires_at", "fresh_until"] {
        let time = session[field].as_str().unwrap();
        assert!(time.len() == 20 && time.ends_with('Z'), "{field}: {time}");
    }
    let mut fields: Vec<_> = session.as_object().unwrap().keys().map(String::as_str).collect();
    fields.sort_unstable();
    assert_eq!(
        fields,
        [
            "created_at",
            "current",
            "device",
            "expires_at",
            "fresh_until",
            "id",
            "ip",
            "last_seen_at",
            "remember",
            "transport",
            "user_agent",
        ]
    );
}

#[tokio::test]
async fn nobody_is_called_nobody() {
    let app = TestApp::start().await;
    let answer = app.anonymous().get("/session").await.problem(401, "unauthenticated");
    assert_eq!(answer.header("www-authenticate"), Some(r#"Bearer realm="portcullis""#));
    assert_eq!(answer.header("set-cookie"), None);
}

#[tokio::test]
async fn a_secret_works_only_in_the_way_it_was_handed_out() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let cookie = user.login().await.cookie();
    let login = json!({"identifier": user.username(), "password": PASSWORD, "transport": "token"});
    let token = app.anonymous().post("/login", login).await.token();
    app.with_token(&format!("pcs_{cookie}")).get("/me").await.problem(401, "session_expired");
    app.with_cookie(token.strip_prefix("pcs_").unwrap())
        .get("/me")
        .await
        .problem(401, "session_expired");
    app.with_cookie(&token).get("/me").await.problem(401, "session_expired");
    app.with_cookie(&cookie).get("/me").await.ok();
    app.with_token(&token).get("/me").await.ok();
}

#[tokio::test]
async fn what_is_given_on_purpose_wins_and_the_next_kind_is_not_tried() {
    let app = TestApp::start().await;
    let (user, other) = (app.user().await, app.user().await);
    let login = json!({"identifier": other.username(), "password": PASSWORD, "transport": "token"});
    let token = app.anonymous().post("/login", login).await.token();
    let both = user.with("authorization", &format!("Bearer {token}"));
    assert_eq!(both.get("/me").await.ok()["id"], other.id());
    for (name, value, code) in [
        ("authorization", "Bearer pcs_AAAAAAAAAAAAAAAAAAAAAA", "session_expired"),
        ("authorization", "bearer pcs_nonsense", "session_expired"),
        ("authorization", "Bearer nonsense", "invalid_token"),
        ("authorization", "Bearer ", "invalid_token"),
        ("x-api-key", "pct_nonsense", "invalid_token"),
    ] {
        let answer = user.with(name, value).get("/me").await.problem(401, code);
        let challenge = r#"Bearer realm="portcullis", error="invalid_token""#;
        assert_eq!(answer.header("www-authenticate"), Some(challenge));
        assert_eq!(answer.header("set-cookie"), None);
    }
    // Schemes that are not known here, and keys of other services, are no credentials.
    user.with("x-api-key", "sk_of_another_service").get("/me").await.ok();
    for value in ["Basic YTpi", "Digest x", "nonsense"] {
        user.with("authorization", value).get("/me").await.ok();
    }
}

#[tokio::test]
async fn cookies_that_were_never_ours_open_nothing_and_leave_no_trace() {
    let app = TestApp::start().await;
    let long = "A".repeat(4000);
    for cookie in ["", "x", "AAAAAAAAAAAAAAAAAAAAAA", "-1", "null", "%2e%2e", "a b", "\"\"", &long]
    {
        let answer = app.with_cookie(cookie).get("/session").await.problem(401, "session_expired");
        assert_eq!(answer.header("set-cookie"), None, "{cookie}");
    }
    assert_eq!((app.count("sessions").await, app.count("session_records").await), (0, 0));
}

#[tokio::test]
async fn the_database_never_holds_the_secret() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let secret = user.login().await.cookie();
    let rows: Vec<String> = sqlx::query_scalar(
        "select row(s)::text || row(r)::text || encode(r.data, 'escape')
         from sessions s join session_records r on r.id = s.record_id",
    )
    .fetch_all(&app.pool)
    .await
    .unwrap();
    assert_eq!(rows.len(), 1);
    assert!(!rows[0].contains(&secret));
    let id: String =
        sqlx::query_scalar("select id from session_records").fetch_one(&app.pool).await.unwrap();
    app.with_cookie(&id).get("/me").await.problem(401, "session_expired");
}

#[tokio::test]
async fn a_session_ends_when_it_is_idle_and_at_its_end() {
    let app = TestApp::start().await;
    let user = app.user().await;
    app.sql("update sessions set expires_at = now() - interval '1 second'").await;
    user.get("/me").await.problem(401, "session_expired");

    user.login().await.status(200);
    app.sql("update session_records set expiry_date = now() - interval '1 second'").await;
    user.get("/me").await.problem(401, "session_expired");
}

#[tokio::test]
async fn a_session_needs_both_its_rows() {
    let app = TestApp::start().await;
    let user = app.user().await;
    app.sql("delete from session_records").await;
    user.get("/me").await.problem(401, "session_expired");
    assert_eq!(app.count("sessions").await, 0);
    user.login().await.status(200);
    app.sql("delete from sessions").await;
    user.get("/me").await.problem(401, "session_expired");
}

#[tokio::test]
async fn use_keeps_a_session_up_until_its_end() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let times = async || -> (f64, f64, f64) {
        sqlx::query_as(
            "select extract(epoch from now() - last_seen_at)::float8,
                    extract(epoch from expires_at - now())::float8,
                    extract(epoch from ends_at - now())::float8 from sessions",
        )
        .fetch_one(&app.pool)
        .await
        .unwrap()
    };
    let near = |a: f64, b: f64| (a - b).abs() < 20.0;
    let hour = 3600.0;

    let (_, expires, ends) = times().await;
    assert!(near(expires, 12.0 * hour) && near(ends, 7.0 * 24.0 * hour), "{expires} {ends}");

    // Within a minute nothing is written.
    app.sql("update sessions set last_seen_at = now() - interval '50 seconds', expires_at = now() + interval '1 hour'").await;
    user.get("/me").await.ok();
    let (seen, expires, _) = times().await;
    assert!(near(seen, 50.0) && near(expires, hour), "{seen} {expires}");

    // After a minute the idle time starts anew.
    app.sql("update sessions set last_seen_at = now() - interval '61 seconds'").await;
    user.get("/me").await.ok();
    app.touched().await;
    let (seen, expires, _) = times().await;
    assert!(near(seen, 0.0) && near(expires, 12.0 * hour), "{seen} {expires}");

    // But it never goes past the end.
    app.sql("update sessions set last_seen_at = now() - interval '2 minutes', ends_at = now() + interval '2 hours', expires_at = now() + interval '1 hour'").await;
    user.get("/me").await.ok();
    app.touched().await;
    let (_, expires, ends) = times().await;
    assert!(near(expires, 2.0 * hour) && near(ends, 2.0 * hour), "{expires} {ends}");
}

#[tokio::test]
async fn a_remembered_session_has_no_idle_time() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let login = json!({"identifier": user.username(), "password": PASSWORD, "remember": true});
    user.post("/login", login).await.status(200);
    app.sql("update sessions set last_seen_at = now() - interval '20 days', created_at = now() - interval '20 days', ends_at = now() + interval '10 days', expires_at = now() + interval '10 days'").await;
    user.get("/me").await.ok();
    app.touched().await;
    let left: f64 =
        sqlx::query_scalar("select extract(epoch from expires_at - now())::float8 from sessions")
            .fetch_one(&app.pool)
            .await
            .unwrap();
    assert!((left / 86400.0 - 10.0).abs() < 0.01, "{left}");
}

#[tokio::test]
async fn a_short_idle_time_ends_a_session_that_is_not_used_and_none_that_is() {
    let app = TestApp::with(|config| config.session_idle = Duration::from_secs(4)).await;
    let user = app.user().await;
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        user.get("/me").await.ok();
    }
    tokio::time::sleep(Duration::from_millis(4500)).await;
    user.get("/me").await.problem(401, "session_expired");
}

#[tokio::test]
async fn the_session_of_a_disabled_or_deleted_user_is_over_at_once_on_every_replica() {
    let app = TestApp::start().await;
    let replica = app.replica().await;
    let user = app.user().await;
    let secret = user.login().await.cookie();
    replica.with_cookie(&secret).get("/me").await.ok();
    app.sql("update users set is_active = false").await;
    for app in [&app, &replica] {
        app.with_cookie(&secret).get("/me").await.problem(401, "session_expired");
    }
    app.sql("update users set is_active = true").await;
    replica.with_cookie(&secret).get("/me").await.ok();
    app.sql("delete from users").await;
    for app in [&app, &replica] {
        app.with_cookie(&secret).get("/me").await.problem(401, "session_expired");
    }
}

#[tokio::test]
async fn the_sweep_deletes_what_has_expired_and_nothing_else() {
    let app = TestApp::start().await;
    let (alice, bob) = (app.user().await, app.user().await);
    app.sql("update sessions set expires_at = now() - interval '1 second' where user_id = (select id from users order by id limit 1)").await;
    app.sql("insert into session_records values ('orphan', '', now() - interval '1 second'), ('young orphan', '', now() + interval '1 day')").await;
    assert_eq!(app.sweep().await, 2);
    assert_eq!(app.sweep().await, 0);
    assert_eq!((app.count("sessions").await, app.count("session_records").await), (1, 2));
    alice.get("/me").await.problem(401, "session_expired");
    bob.get("/me").await.ok();
}

#[tokio::test]
async fn sweeps_of_many_replicas_share_the_work() {
    let app = TestApp::start().await;
    app.user().await;
    app.sql("insert into session_records select 'r' || n, '', now() - interval '1 day' from generate_series(1, 5000) n").await;
    app.sql("insert into sessions (id, record_id, user_id, transport, remember, expires_at, ends_at)
             select gen_random_uuid(), 'r' || n, (select id from users), 'cookie', true, now() - interval '1 day', now()
             from generate_series(1, 4000) n").await;
    let sweeps = (0..4).map(|_| {
        let state = app.state.clone();
        tokio::spawn(async move { sweep::once(&state).await })
    });
    for sweep in sweeps.collect::<Vec<_>>() {
        sweep.await.unwrap();
    }
    // A batch that another replica holds may be left to the next round.
    app.sweep().await;
    assert_eq!((app.count("sessions").await, app.count("session_records").await), (1, 1));
}

#[tokio::test]
async fn a_sweep_of_much_rests_most_of_the_time() {
    let app = TestApp::start().await;
    app.sql("insert into session_records select 'r' || n, '', now() - interval '1 day' from generate_series(1, 20000) n").await;
    let options = app.database_options();
    let pool = PgPoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
    let state = App::new(app.config.clone(), pool.clone(), Metrics::default());
    let sweep = tokio::spawn(async move { sweep::once(&state).await });
    let (mut looks, mut rests) = (0, 0);
    while !sweep.is_finished() {
        looks += 1;
        rests += pool.num_idle();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(sweep.await.unwrap(), 20_000);
    assert!(rests * 2 > looks, "{rests} of {looks}");
}

#[tokio::test]
async fn the_session_table_is_swept_and_searched_by_index() {
    let app = TestApp::start().await;
    let plans: Vec<Value> = {
        let mut connection = app.pool.acquire().await.unwrap();
        sqlx::query("set enable_seqscan = off").execute(&mut *connection).await.unwrap();
        let mut plans = Vec::new();
        for query in [
            "select from sessions where expires_at < now() order by expires_at limit 1000",
            "select from session_records where expiry_date < now() order by expiry_date limit 1000",
            "select from sessions where user_id = gen_random_uuid()",
            "select from sessions where record_id = 'x'",
        ] {
            let explain = format!("explain (format json) {query}");
            let plan: Value =
                sqlx::query_scalar(&explain).fetch_one(&mut *connection).await.unwrap();
            plans.push(plan);
        }
        plans
    };
    for plan in plans {
        assert!(plan.to_string().contains("Index"), "{plan}");
        assert!(!plan.to_string().contains("Seq Scan"), "{plan}");
    }
}
