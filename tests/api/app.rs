//! The vocabulary of the tests: services, clients and answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use portcullis::config::{Config, SmtpUrl};
use portcullis::mail::{self, Mailer};
use portcullis::metrics::Metrics;
use portcullis::state::App;
use portcullis::{app, server, store, sweep};
use reqwest::header::{COOKIE, HeaderMap, HeaderName, SET_COOKIE};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::net::TcpListener;

use crate::cluster::Database;
use crate::interest;
use crate::smtp::Mailbox;

/// The password of every account that the tests make.
pub const PASSWORD: &str = "correct horse battery staple";

/// A service that listens on a port of its own, on a database of its own.
pub struct TestApp {
    pub base: String,
    pub pool: PgPool,
    pub config: Config,
    pub state: App,
    database: Arc<Database>,
}

impl TestApp {
    /// A service with the default settings, but for bcrypt's cost.
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// A service with some settings changed.
    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::with_default_isolation("read committed", change).await
    }

    /// A service on a database whose transactions have this isolation level by default.
    pub async fn with_default_isolation(level: &str, change: impl FnOnce(&mut Config)) -> Self {
        let database = Database::create().await;
        if level != "read committed" {
            database.set_default_isolation(level).await;
        }
        Self::on(Arc::new(database), quick(change)).await
    }

    /// A service on the database of a server that the test started itself.
    pub async fn over(options: PgConnectOptions, change: impl FnOnce(&mut Config)) -> Self {
        Self::on_database(Database::of(options), change).await
    }

    /// A service on a database that may be empty.
    pub async fn on_database(database: Database, change: impl FnOnce(&mut Config)) -> Self {
        store::migrate(&database.options).await.unwrap();
        Self::on(Arc::new(database), quick(change)).await
    }

    /// A service that hands its mails to a server.
    pub async fn with_mail(mailbox: &Mailbox, change: impl FnOnce(&mut Config)) -> Self {
        let configure = |config: &mut Config| {
            config.smtp_url = Some(SmtpUrl::parse(&mailbox.url()).unwrap());
            config.mail_from = Some("Example <auth@example.com>".parse().unwrap());
            change(config);
        };
        Self::with(configure).await
    }

    /// Sends what is due in the outbox.
    pub async fn deliver(&self) {
        let mailer = Mailer::new(&self.config).unwrap();
        while mail::deliver_due(&self.state, &mailer).await.unwrap() > 0 {}
    }

    /// Deletes what has expired, and returns how many rows that was.
    pub async fn sweep(&self) -> u64 {
        sweep::once(&self.state).await
    }

    /// Somebody who has registered with this address, and has not verified it.
    pub async fn user_at(&self, email: &str) -> Client {
        let mut client = self.anonymous();
        let new = json!({"email": email, "password": PASSWORD});
        client.user = client.post("/users", new).await.status(201).body["user"].clone();
        client
    }

    /// Somebody who has verified the address with the session of the account, and was not notified since.
    pub async fn verified_user_at(&self, email: &str) -> Client {
        let mut client = self.user_at(email).await;
        self.sql("delete from outbox").await;
        let verify = "update users set email_verified = true, password_proven = true
                      where id = $1::text::uuid";
        sqlx::query(verify).bind(client.id()).execute(&self.pool).await.unwrap();
        client.user = client.get("/me").await.ok();
        client
    }

    /// Another instance with the same settings over the same database.
    pub async fn replica(&self) -> Self {
        self.replica_with(self.config.clone()).await
    }

    /// Another instance over the same database.
    pub async fn replica_with(&self, config: Config) -> Self {
        Self::on(Arc::clone(&self.database), config).await
    }

    async fn on(database: Arc<Database>, config: Config) -> Self {
        interest::keep();
        let own = store::pool(database.options.clone(), &config);
        let state = App::new(config.clone(), own, Metrics::default());
        let base = serve(state.clone()).await;
        // What the tests do themselves waits for as long as it takes.
        let options = database.options.clone();
        let options = options.options([("default_transaction_isolation", "read\\ committed")]);
        let pool = PgPoolOptions::new().max_connections(4).connect_lazy_with(options);
        Self { base, pool, config, state, database }
    }

    /// For a pool of the test's own.
    pub fn database_options(&self) -> PgConnectOptions {
        self.database.options.clone()
    }

    /// For what only a superuser may do with the database.
    pub fn superuser_options(&self) -> PgConnectOptions {
        self.database.superuser_options()
    }

    /// For another process that is to use the same database.
    pub fn database_url(&self) -> String {
        self.database.url()
    }

    /// Somebody with a browser who is not logged in.
    pub fn anonymous(&self) -> Client {
        let http = reqwest::Client::builder().cookie_store(true);
        Client::new(&self.base, http.redirect(reqwest::redirect::Policy::none()).build().unwrap())
    }

    /// Somebody who has just registered, and is logged in by a cookie.
    pub async fn user(&self) -> Client {
        self.register("user").await
    }

    /// An admin who is logged in by a cookie.
    pub async fn admin(&self) -> Client {
        let mut admin = self.register("admin").await;
        let promote = "update users set role = 'admin' where id = $1::text::uuid";
        sqlx::query(promote).bind(admin.id()).execute(&self.pool).await.unwrap();
        admin.user = admin.get("/me").await.ok();
        admin
    }

    /// How many rows a table has.
    pub async fn count(&self, table: &str) -> i64 {
        let count = format!("select count(*) from {table}");
        sqlx::query_scalar(&count).fetch_one(&self.pool).await.unwrap()
    }

    /// Makes every session not fresh.
    pub async fn stale(&self) {
        self.sql("update sessions set authenticated_at = now() - interval '1 day'").await;
    }

    /// Ends the time in which a secret that was replaced still finds its session.
    pub async fn end_grace(&self) {
        let end = "update session_records set expiry_date = now() where renewed_as is not null";
        self.sql(end).await;
    }

    /// Runs a statement on the database behind the service's back.
    pub async fn sql(&self, statement: &str) -> u64 {
        sqlx::query(statement).execute(&self.pool).await.unwrap().rows_affected()
    }

    /// Waits until a session is written down as used within the last minute.
    pub async fn touched(&self) {
        self.used("sessions", "last_seen_at").await;
    }

    /// Waits until a row has a time of the last minute.
    pub async fn used(&self, table: &str, column: &str) {
        let used = format!(
            "select exists (select from {table} where {column} > now() - interval '1 minute')"
        );
        let written = async {
            while !sqlx::query_scalar::<_, bool>(&used).fetch_one(&self.pool).await.unwrap() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), written).await.unwrap();
    }

    async fn register(&self, kind: &str) -> Client {
        let mut client = self.anonymous();
        let name = format!("{kind}-{:012x}", rand::random::<u32>());
        let registered =
            client.post("/users", json!({"username": name, "password": PASSWORD})).await;
        client.user = registered.status(201).body["user"].clone();
        client
    }
}

/// The default settings, but for bcrypt's cost and some that are changed.
fn quick(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::defaults().unwrap();
    config.bcrypt_cost = 4;
    change(&mut config);
    config
}

/// Serves on a free port until the test ends, and returns where.
pub async fn serve(state: App) -> String {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let config = Arc::clone(&state.config);
    tokio::spawn(async move {
        server::serve(listener, app::router(state), &config, std::future::pending()).await;
    });
    base
}

/// Somebody who sends requests.
#[derive(Clone)]
pub struct Client {
    base: String,
    http: reqwest::Client,
    headers: HeaderMap,
    /// The account, as it was when the client registered.
    pub user: Value,
}

impl Client {
    fn new(base: &str, http: reqwest::Client) -> Self {
        Self { base: base.to_owned(), http, headers: HeaderMap::new(), user: Value::Null }
    }

    /// The same client, but sending these headers with every request.
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut client = self.clone();
        client.headers.append(HeaderName::try_from(name).unwrap(), value.parse().unwrap());
        client
    }

    /// The same client, talking to another instance.
    pub fn to(&self, app: &TestApp) -> Self {
        self.at(&app.base)
    }

    /// The same client, talking to what serves there.
    pub fn at(&self, base: &str) -> Self {
        Self { base: base.to_owned(), ..self.clone() }
    }

    pub fn id(&self) -> &str {
        self.user["id"].as_str().unwrap()
    }

    pub fn username(&self) -> &str {
        self.user["username"].as_str().unwrap()
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base)).headers(self.headers.clone())
    }

    pub async fn get(&self, path: &str) -> Answer {
        Answer::to(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        Answer::to(self.request(Method::POST, path).json(&body)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        Answer::to(self.request(Method::PUT, path).json(&body)).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        Answer::to(self.request(Method::PATCH, path).json(&body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        Answer::to(self.request(Method::DELETE, path)).await
    }

    /// Makes an API token and returns its secret.
    pub async fn token(&self, wishes: Value) -> String {
        self.post("/me/tokens", wishes).await.status(201).token()
    }

    /// A `POST` without a body.
    pub async fn call(&self, path: &str) -> Answer {
        Answer::to(self.request(Method::POST, path)).await
    }

    /// Logs in to this client's own account with the right password.
    pub async fn login(&self) -> Answer {
        self.post("/login", json!({"identifier": self.username(), "password": PASSWORD})).await
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub headers: HeaderMap,
    pub text: String,
    pub body: Value,
}

impl Answer {
    pub async fn to(request: RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        let (code, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Self { code, headers, text, body }
    }

    /// The answer, which must have this status.
    #[track_caller]
    pub fn status(self, code: u16) -> Self {
        assert_eq!(self.code, code, "{}", self.text);
        self
    }

    /// The body of a 200.
    #[track_caller]
    pub fn ok(self) -> Value {
        self.status(200).body
    }

    /// The answer, which must be a whole problem with this status and code.
    #[track_caller]
    pub fn problem(self, status: u16, code: &str) -> Self {
        let answer = self.status(status);
        let body = &answer.body;
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{body}");
        assert_eq!(body["code"], code, "{body}");
        assert_eq!(body["status"], status, "{body}");
        assert_eq!(body["type"], format!("urn:portcullis:problem:{code}"));
        for field in ["title", "detail"] {
            assert!(body[field].as_str().is_some_and(|text| !text.is_empty()), "{body}");
        }
        assert_eq!(body["request_id"].as_str(), answer.header("x-request-id"));
        assert_eq!(body["errors"].is_array(), code == "validation_failed", "{body}");
        let challenged = status == 401 || code == "insufficient_scope";
        assert_eq!(challenged, answer.header("www-authenticate").is_some());
        assert_eq!(matches!(status, 429 | 503), answer.header("retry-after").is_some());
        answer
    }

    /// The (field, code) of each error of a 422.
    #[track_caller]
    pub fn faults(self) -> Vec<(String, String)> {
        let answer = self.problem(422, "validation_failed");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let errors = answer.body["errors"].as_array().unwrap();
        errors.iter().map(|error| (text(&error["field"]), text(&error["code"]))).collect()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The session's secret in the cookie that was set.
    #[track_caller]
    pub fn cookie(&self) -> String {
        let names = ["portcullis", "__Host-portcullis", "__Secure-portcullis"];
        names.into_iter().find_map(|name| self.set_cookie(name)).expect("a cookie")
    }

    /// The value of a cookie that was set.
    pub fn set_cookie(&self, name: &str) -> Option<String> {
        let set = self.headers.get_all(SET_COOKIE).iter();
        let pairs = set.filter_map(|set| set.to_str().unwrap().split(';').next());
        // The last one wins, as in a browser: the one before it removes another cookie.
        let mut pairs = pairs.rev().filter_map(|pair| pair.split_once('='));
        Some(pairs.find(|pair| pair.0 == name)?.1.to_owned())
    }

    /// The session's secret in the body.
    #[track_caller]
    pub fn token(&self) -> String {
        self.body["token"].as_str().expect("a token").to_owned()
    }
}

impl TestApp {
    /// Somebody who sends this cookie and stores none.
    pub fn with_cookie(&self, secret: &str) -> Client {
        let client = Client::new(&self.base, reqwest::Client::new());
        client.with(COOKIE.as_str(), &format!("portcullis={secret}"))
    }

    /// Somebody who sends this bearer token.
    pub fn with_token(&self, token: &str) -> Client {
        let client = Client::new(&self.base, reqwest::Client::new());
        client.with("authorization", &format!("Bearer {token}"))
    }
}
