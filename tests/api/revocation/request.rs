//! Requests whose body is held back, and rows that are locked.

use std::time::Duration;

use portcullis::openapi;
use portcullis::store;
use serde_json::{Value, json};
use sqlx::{PgPool, Postgres, Transaction};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::credential::Answered;
use super::event::Account;
use crate::TestApp;

const PATIENCE: Duration = Duration::from_secs(10);

/// A request whose head was sent, and whose body was not.
pub struct InTransit {
    stream: TcpStream,
    body: String,
}

/// Sends the head of a request.
pub async fn send(
    app: &TestApp,
    method: &str,
    path: &str,
    headers: &[(String, String)],
    body: &Value,
) -> InTransit {
    let address = app.base.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    if !body.is_empty() {
        head += "content-type: application/json\r\nexpect: 100-continue\r\n";
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
    InTransit { stream, body }
}

impl InTransit {
    /// Waits until the service asks for the body: by then it has checked the head.
    pub async fn until_the_body_is_read(mut self) -> Self {
        let mut told = [0; 25];
        timeout(PATIENCE, self.stream.read_exact(&mut told)).await.unwrap().unwrap();
        assert!(told.starts_with(b"HTTP/1.1 100 "), "{}", String::from_utf8_lossy(&told));
        self
    }

    /// Sends the body, and reads the answer.
    pub async fn finish(mut self) -> Answered {
        // The service may have answered without it.
        let _ = self.stream.write_all(self.body.as_bytes()).await;
        let mut answer = Vec::new();
        timeout(PATIENCE, self.stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let answer = answer.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(&answer);
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }
}

/// Rows of accounts that the test holds.
pub struct Lock {
    transaction: tokio::sync::Mutex<Option<Transaction<'static, Postgres>>>,
    pool: PgPool,
}

impl Lock {
    pub async fn of(app: &TestApp, id: &str) -> Self {
        let mut transaction = store::begin(&app.pool).await.unwrap();
        sqlx::query("select from users where id = $1::text::uuid for no key update")
            .bind(id)
            .execute(&mut *transaction)
            .await
            .unwrap();
        Self { transaction: Some(transaction).into(), pool: app.pool.clone() }
    }

    pub async fn of_all(app: &TestApp) -> Self {
        let mut transaction = store::begin(&app.pool).await.unwrap();
        let lock = "select from users order by id for no key update";
        sqlx::query(lock).execute(&mut *transaction).await.unwrap();
        Self { transaction: Some(transaction).into(), pool: app.pool.clone() }
    }

    /// Waits until so many statements wait for a lock, one after the other.
    pub async fn wait_for(&self, count: i64) {
        timeout(Duration::from_millis(1500), async {
            while self.waiting().await < count {
                sleep(Duration::from_millis(2)).await;
            }
        })
        .await
        // An event that needs no lock is over by now; a request that does not wait is answered.
        .unwrap_or_default();
    }

    /// Waits until one waits, at most so long.
    pub async fn wait_for_one_or(&self, longest: Duration) {
        let _ = timeout(longest, self.wait_for(1)).await;
    }

    async fn waiting(&self) -> i64 {
        let waiting = "select count(*) from pg_stat_activity
                       where datname = current_database() and wait_event_type = 'Lock'";
        sqlx::query_scalar(waiting).fetch_one(&self.pool).await.unwrap()
    }

    pub async fn release(&self) {
        if let Some(transaction) = self.transaction.lock().await.take() {
            transaction.commit().await.unwrap();
        }
    }

    /// Revokes every credential of an account in the transaction that holds the lock, and releases that.
    pub async fn revoke_everything_of(&self, id: &str) {
        let Some(mut transaction) = self.transaction.lock().await.take() else { return };
        for revoke in [
            "delete from sessions where user_id = $1::text::uuid",
            "delete from api_tokens where user_id = $1::text::uuid",
            "update users set password_hash = 'another' where id = $1::text::uuid",
        ] {
            sqlx::query(revoke).bind(id).execute(&mut *transaction).await.unwrap();
        }
        transaction.commit().await.unwrap();
    }
}

/// A call that changes something on behalf of a caller.
pub struct Call {
    pub name: String,
    pub method: &'static str,
    path: String,
    pub body: Value,
}

/// Every such call of the OpenAPI document, with the body of its example.
pub fn changes() -> Vec<Call> {
    let document: Value = serde_json::from_str(&openapi::json().unwrap()).unwrap();
    let mut calls = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (key, method) in
            [("post", "POST"), ("put", "PUT"), ("patch", "PATCH"), ("delete", "DELETE")]
        {
            let operation = &item[key];
            let takes_credential = operation["security"].as_array().is_some();
            // A logout is for whoever has the secret, and the emailed token authorises a verification: there is
            // nothing to check again.
            let is_open = matches!(&**path, "/logout" | "/email/verify");
            if !takes_credential || is_open || path.starts_with("/forward-auth") {
                continue;
            }
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            let schema = match schema["$ref"].as_str() {
                Some(name) => document.pointer(name.trim_start_matches('#')).unwrap(),
                None => schema,
            };
            calls.push(Call {
                name: format!("{method} {path}"),
                method,
                path: path.clone(),
                body: schema["example"].clone(),
            });
        }
    }
    calls
}

impl Call {
    /// Its path, with what it is done to.
    pub async fn path(&self, account: &Account, target: &Account) -> Option<String> {
        let id = match self.path.as_str() {
            path if path.starts_with("/users/{id}") => target.id.clone(),
            path if path.starts_with("/me/sessions/") => {
                let sessions = account.owner.get("/me/sessions").await.ok();
                sessions["items"][0]["id"].as_str()?.to_owned()
            }
            path if path.starts_with("/me/tokens/") => {
                let new = json!({"name": "another"});
                let token = account.owner.post("/me/tokens", new).await.status(201);
                token.body["api_token"]["id"].as_str()?.to_owned()
            }
            _ => String::new(),
        };
        let path = self.path.replace("{id}", &id);
        let Some(path) = path.strip_suffix("{token_id}") else { return Some(path) };
        let token = target.owner.post("/me/tokens", json!({"name": "theirs"})).await.status(201);
        Some(format!("{path}{}", token.body["api_token"]["id"].as_str()?))
    }
}
