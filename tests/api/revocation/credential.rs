//! What opens an account.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::World;
use super::event::Account;
use super::request::{Call, InTransit, send};
use crate::Client;
use crate::app::PASSWORD;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    Cookie,
    Token,
    /// The secret that a session had before it was renewed a moment ago.
    OldSecret,
    ApiToken,
    AdminToken,
    Basic,
    Device,
    ResetLink,
    ResetCode,
    LoginCode,
    VerifyLink,
}

impl Credential {
    pub const ALL: [Self; 11] = [
        Self::Cookie,
        Self::Token,
        Self::OldSecret,
        Self::ApiToken,
        Self::AdminToken,
        Self::Basic,
        Self::Device,
        Self::ResetLink,
        Self::ResetCode,
        Self::LoginCode,
        Self::VerifyLink,
    ];

    pub fn title(self) -> &'static str {
        match self {
            Self::Cookie => "session by cookie",
            Self::Token => "session by token",
            Self::OldSecret => "old session secret after a renewal",
            Self::ApiToken => "API token",
            Self::AdminToken => "API token with the scope `admin`",
            Self::Basic => "Basic with the old password",
            Self::Device => "device secret",
            Self::ResetLink => "emailed reset link",
            Self::ResetCode => "emailed reset code",
            Self::LoginCode => "emailed login code",
            Self::VerifyLink => "link to verify a new address",
        }
    }
}

/// An answer: its status and its body.
pub type Answered = (u16, Value);

/// A credential that somebody has, and the request that is made with it.
pub struct Held {
    kind: Credential,
    /// Of the session or the API token.
    pub id: Option<String>,
    headers: Vec<(String, String)>,
    call: (&'static str, String),
    body: Value,
    session: Option<Client>,
    /// What else the email of a reset holds: its code beside the link, or its link beside the code.
    pub way_back: Option<Value>,
}

impl Held {
    pub async fn obtain(world: &World, account: &Account, kind: Credential) -> Self {
        let mut held = Self {
            kind,
            id: None,
            headers: vec![],
            call: ("PATCH", "/me".to_owned()),
            body: json!({"name": "Changed"}),
            session: None,
            way_back: None,
        };
        let login = json!({"email": account.email, "password": PASSWORD, "transport": "token"});
        let header = |name: &str, value: String| vec![(name.to_owned(), value)];
        match kind {
            Credential::Cookie => {
                let login = json!({"email": account.email, "password": PASSWORD});
                let answer = world.app.anonymous().post("/login", login).await.status(200);
                held.id = answer.body["session"]["id"].as_str().map(str::to_owned);
                held.headers = header("cookie", format!("portcullis={}", answer.cookie()));
                held.session = Some(world.app.with_cookie(&answer.cookie()));
            }
            Credential::Token => {
                let answer = world.app.anonymous().post("/login", login).await.status(200);
                held.id = answer.body["session"]["id"].as_str().map(str::to_owned);
                held.headers = header("authorization", format!("Bearer {}", answer.token()));
                held.session = Some(world.app.with_token(&answer.token()));
            }
            Credential::OldSecret => {
                let answer = world.app.anonymous().post("/login", login).await.status(200);
                let old = answer.token();
                let renewal = world.app.with_token(&old);
                let renewed = renewal.post("/me/reauthenticate", json!({"password": PASSWORD}));
                held.id = answer.body["session"]["id"].as_str().map(str::to_owned);
                held.session = Some(world.app.with_token(&renewed.await.status(200).token()));
                held.headers = header("authorization", format!("Bearer {old}"));
            }
            Credential::ApiToken | Credential::AdminToken => {
                let mut scopes = vec!["read", "write"];
                if kind == Credential::AdminToken {
                    scopes.push("admin");
                    held.call = ("POST", "/users".to_owned());
                }
                let new = json!({"name": "t", "scopes": scopes});
                let answer = account.owner.post("/me/tokens", new).await.status(201);
                held.id = answer.body["api_token"]["id"].as_str().map(str::to_owned);
                held.headers = header("authorization", format!("Bearer {}", answer.token()));
            }
            Credential::Basic => {
                let name = match account.event.sets_username() {
                    true => &account.email,
                    false => account.owner.username(),
                };
                let pair = STANDARD.encode(format!("{name}:{PASSWORD}"));
                held.headers = header("authorization", format!("Basic {pair}"));
            }
            Credential::Device => {
                let answer = world.app.anonymous().post("/login", login).await.status(200);
                let device = answer.body["device_token"].as_str().unwrap().to_owned();
                held.call = ("POST", "/login".to_owned());
                let name = match account.event.sets_username() {
                    true => json!({"email": account.email}),
                    false => json!({"username": account.owner.username()}),
                };
                held.body = name;
                held.body["device_token"] = json!(device);
            }
            Credential::ResetLink | Credential::ResetCode => {
                let forgot = json!({"email": account.email});
                world.app.anonymous().post("/password/forgot", forgot).await.status(202);
                let mail = world.mail_to(&account.email, "a new password").await;
                held.call = ("POST", "/password/reset".to_owned());
                let link = json!({"token": mail.token()});
                let code = json!({"email": account.email, "code": mail.code()});
                let forms = if kind == Credential::ResetLink { (link, code) } else { (code, link) };
                (held.body, held.way_back) = (forms.0, Some(forms.1));
                held.body["password"] = json!("a password of the intruder");
            }
            Credential::LoginCode => {
                let browser = world.app.anonymous();
                let asked = browser.post("/login/code", json!({"email": account.email})).await;
                let asked = asked.status(202);
                let cookies = asked.headers.get_all("set-cookie").iter();
                let cookies = cookies.filter_map(|set| set.to_str().unwrap().split(';').next());
                held.headers = header("cookie", cookies.collect::<Vec<_>>().join("; "));
                let mail = world.mail_to(&account.email, "code to log in").await;
                held.call = ("POST", "/login/code/verify".to_owned());
                held.body = json!({"email": account.email, "code": mail.code()});
            }
            Credential::VerifyLink => {
                let wanted = format!("other-{}", account.email);
                account.owner.patch("/me", json!({"email": wanted})).await.ok();
                held.call = ("POST", "/email/verify".to_owned());
                held.body = json!({"token": world.token_to(&wanted, "Confirm").await});
            }
        }
        held
    }

    /// The same credential, for another call; `None` when the call is no change by a caller.
    pub async fn for_call(self, call: &Call, account: &Account, target: &Account) -> Option<Self> {
        let path = call.path(account, target).await?;
        Some(Self { call: (call.method, path), body: call.body.clone(), ..self })
    }

    /// The client that has it, if it is a session.
    pub fn session(&self) -> Option<&Client> {
        self.session.as_ref()
    }

    /// What must be there before it is used: for a device, strangers that have exhausted the limit on the name.
    pub async fn prepare(&self, world: &World, account: &Account, after: bool) {
        if self.kind != Credential::Device {
            return;
        }
        let mut wrong = self.body(account, after);
        wrong["password"] = json!("wrong");
        wrong.as_object_mut().unwrap().remove("device_token");
        for _ in 0..20 {
            if world.app.anonymous().post("/login", wrong.clone()).await.code == 429 {
                return;
            }
        }
        panic!("nobody limits guesses at {}", account.email);
    }

    pub async fn use_it(&self, world: &World, account: &Account, after: bool) -> Answered {
        self.prepare(world, account, after).await;
        let ((method, path), body) = (&self.call, self.body(account, after));
        send(&world.app, method, path, &self.headers, &body).await.finish().await
    }

    /// With the password that the account has before the event, or after, where there is one in it.
    fn body(&self, account: &Account, after: bool) -> Value {
        let mut body = self.body.clone();
        match self.kind {
            Credential::Device => body["password"] = json!(account.password(after)),
            Credential::AdminToken if self.call.1 == "/users" && body.get("role").is_none() => {
                let username = format!("n{:012x}", rand::random::<u64>() >> 16);
                body = json!({"username": username, "password": PASSWORD, "role": "admin"});
            }
            _ => {}
        }
        body
    }

    /// Sends the head alone, and waits until the service asks for the body.
    pub async fn begin(&self, world: &World, account: &Account) -> InTransit {
        let ((method, path), body) = (&self.call, self.body(account, true));
        let request = send(&world.app, method, path, &self.headers, &body).await;
        request.until_the_body_is_read().await
    }

    pub fn worked(&self, answer: &Answered) -> bool {
        match self.kind {
            // The password is right; only who has no place of its own is kept out.
            Credential::Device => answer.0 == 200,
            _ => (200..300).contains(&answer.0),
        }
    }

    /// Whether it was refused as one that is not valid.
    pub fn was_refused(&self, answer: &Answered) -> bool {
        match self.kind {
            Credential::Device => answer.0 == 429 || answer.1["code"] == "account_disabled",
            Credential::ResetLink | Credential::ResetCode | Credential::VerifyLink => {
                answer.0 == 422
            }
            Credential::Basic => answer.0 == 401 || answer.1["code"] == "account_disabled",
            _ => answer.0 == 401,
        }
    }

    /// Whether the call does not take this kind of credential at all.
    pub fn never_suffices(&self, answer: &Answered) -> bool {
        let code = answer.1["code"].as_str().unwrap_or_default();
        ["session_required", "insufficient_scope", "reauthentication_required"].contains(&code)
    }
}
