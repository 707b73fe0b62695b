//! What may happen to an account.

use serde_json::{Value, json};

use super::World;
use super::credential::{Credential, Held};
use crate::app::PASSWORD;
use crate::user_command::portcullis;
use crate::{Answer, Client};

/// The password that an account has after it was changed.
pub const NEW_PASSWORD: &str = "a quite different password";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Logout,
    RevokeOne,
    RevokeAll,
    NewPassword,
    NewPasswordKeepingTokens,
    PasswordReset,
    NewPasswordByAdmin,
    NewPasswordByOperator,
    SessionsRevokedByAdmin,
    TokensRevokedByAdmin,
    Disabled,
    DisabledByOperator,
    DisabledAndEnabled,
    Promoted,
    Demoted,
    DisabledAndEnabledByOperator,
    Deleted,
    DeletedByOwner,
    AddressChanged,
    AddressChangedByAdmin,
    UsernameChanged,
    UsernameChangedByAdmin,
}

impl Event {
    pub fn title(self) -> &'static str {
        match self {
            Self::Logout => "logout (of that session)",
            Self::RevokeOne => "its owner revokes that session or token",
            Self::RevokeAll => "its owner revokes all sessions",
            Self::NewPassword => "its owner changes the password",
            Self::NewPasswordKeepingTokens => "… with `keep_api_tokens` (a decision)",
            Self::PasswordReset => "password reset by email",
            Self::NewPasswordByAdmin => "an admin sets the password",
            Self::NewPasswordByOperator => "`portcullis user set-password`",
            Self::SessionsRevokedByAdmin => "an admin revokes the sessions",
            Self::TokensRevokedByAdmin => "an admin revokes the API tokens",
            Self::Disabled => "an admin disables the account",
            Self::DisabledByOperator => "`portcullis user disable`",
            Self::DisabledAndEnabled => "disabled and enabled again",
            Self::Promoted => "promotion to admin",
            Self::Demoted => "demotion to user",
            Self::DisabledAndEnabledByOperator => {
                "`portcullis user disable`, then `portcullis user enable`"
            }
            Self::Deleted => "an admin deletes the account",
            Self::DeletedByOwner => "its owner deletes the account",
            Self::AddressChanged => "its owner changes the email address",
            Self::AddressChangedByAdmin => "an admin changes the email address",
            Self::UsernameChanged => "its owner changes the username (a decision)",
            Self::UsernameChangedByAdmin => "an admin changes the username (a decision)",
        }
    }

    /// Whether it revokes what it gives back afterwards.
    pub fn is_undone(self) -> bool {
        matches!(self, Self::DisabledAndEnabled | Self::DisabledAndEnabledByOperator)
    }

    /// Whether the account has another username afterwards.
    pub fn sets_username(self) -> bool {
        matches!(self, Self::UsernameChanged | Self::UsernameChangedByAdmin)
    }

    /// Whether the account has another password afterwards.
    pub fn sets_password(self) -> bool {
        matches!(
            self,
            Self::NewPassword
                | Self::NewPasswordKeepingTokens
                | Self::PasswordReset
                | Self::NewPasswordByAdmin
                | Self::NewPasswordByOperator
        )
    }

    /// Has it happen, on the other instance than the one that the credential is used on.
    pub async fn happen(self, world: &World, account: &Account, held: &Held) -> Result<(), String> {
        let (owner, admin) = (account.owner.to(&world.replica), world.admin.to(&world.replica));
        let path = format!("/users/{}", account.id);
        let change = async |change: Value| done(admin.patch(&path, change).await);
        let new_password = |keep| {
            let mut change = json!({"current_password": PASSWORD, "new_password": NEW_PASSWORD});
            if keep {
                change["keep_api_tokens"] = json!(true);
            }
            change
        };
        match self {
            Self::Logout => match held.session() {
                Some(session) => done(session.to(&world.replica).call("/logout").await),
                None => done(owner.call("/logout").await),
            },
            Self::RevokeOne => match &held.id {
                Some(id) if held.session().is_some() => {
                    done(owner.delete(&format!("/me/sessions/{id}")).await)
                }
                Some(id) => done(owner.delete(&format!("/me/tokens/{id}")).await),
                None => {
                    let id = account.other_session.as_deref().unwrap_or_default();
                    done(owner.delete(&format!("/me/sessions/{id}")).await)
                }
            },
            Self::RevokeAll => done(owner.delete("/me/sessions?include=current").await),
            Self::NewPassword => done(owner.put("/me/password", new_password(false)).await),
            Self::NewPasswordKeepingTokens => {
                done(owner.put("/me/password", new_password(true)).await)
            }
            Self::PasswordReset => {
                let way_back = held.way_back.as_ref().or(account.way_back.as_ref());
                let mut reset = way_back.ok_or("no mail was sent before")?.clone();
                reset["password"] = json!(NEW_PASSWORD);
                done(world.replica.anonymous().post("/password/reset", reset).await)
            }
            Self::NewPasswordByAdmin => change(json!({"password": NEW_PASSWORD})).await,
            Self::NewPasswordByOperator => {
                let arguments = ["user", "set-password", &account.email, "--password-stdin"];
                ran(&portcullis(&world.app, &arguments, NEW_PASSWORD).await)
            }
            Self::SessionsRevokedByAdmin => done(admin.delete(&format!("{path}/sessions")).await),
            Self::TokensRevokedByAdmin => done(admin.delete(&format!("{path}/tokens")).await),
            Self::Disabled => change(json!({"is_active": false})).await,
            Self::DisabledByOperator => {
                ran(&portcullis(&world.app, &["user", "disable", &account.email], "").await)
            }
            Self::DisabledAndEnabled => {
                change(json!({"is_active": false})).await?;
                change(json!({"is_active": true})).await
            }
            Self::DisabledAndEnabledByOperator => {
                for command in ["disable", "enable"] {
                    ran(&portcullis(&world.app, &["user", command, &account.email], "").await)?;
                }
                Ok(())
            }
            Self::Promoted => change(json!({"role": "admin"})).await,
            Self::Demoted => change(json!({"role": "user"})).await,
            Self::Deleted => done(admin.delete(&path).await),
            Self::DeletedByOwner => done(owner.delete("/me").await),
            Self::AddressChanged => {
                let token = account.new_address.as_ref().ok_or("no mail was sent before")?;
                done(owner.post("/email/verify", json!({"token": token})).await)
            }
            Self::AddressChangedByAdmin => {
                change(json!({"email": format!("changed-{}", account.email)})).await
            }
            Self::UsernameChanged => done(owner.patch("/me", new_username()).await),
            Self::UsernameChangedByAdmin => change(new_username()).await,
        }
    }
}

fn new_username() -> Value {
    json!({"username": format!("u{:012x}", rand::random::<u32>())})
}

fn done(answer: Answer) -> Result<(), String> {
    match answer.code {
        200..300 => Ok(()),
        code => Err(format!("the event itself was refused: {code} {}", answer.text)),
    }
}

fn ran(output: &std::process::Output) -> Result<(), String> {
    let refused = || String::from_utf8_lossy(&output.stderr).into_owned();
    output.status.success().then_some(()).ok_or_else(refused)
}

/// An account to which an event happens.
pub struct Account {
    pub id: String,
    pub email: String,
    /// Its owner's browser: a recently authenticated session, and a device that the account knows.
    pub owner: Client,
    pub event: Event,
    /// The token of an email that was sent before, for the reset.
    way_back: Option<Value>,
    /// The token of the email to another address, for the change of address.
    new_address: Option<String>,
    /// A session beside the owner's, to be revoked.
    other_session: Option<String>,
}

impl Account {
    /// An account for an event. An API token with the scope `admin` needs an admin; only a user can be promoted.
    pub async fn create(world: &World, event: Event, credential: Credential) -> Self {
        let name = format!("v{:012x}", rand::random::<u64>() >> 16);
        let email = format!("{name}@example.com");
        let mut owner = world.app.anonymous();
        let new = json!({"username": name, "email": email, "password": PASSWORD});
        owner.user = owner.post("/users", new).await.status(201).body["user"].clone();
        let id = owner.id().to_owned();
        let is_admin = event == Event::Demoted || credential == Credential::AdminToken;
        let role = if is_admin { "admin" } else { "user" };
        let update = "update users set email_verified = true, password_proven = true, role = $2
                      where id = $1::text::uuid";
        sqlx::query(update).bind(&id).bind(role).execute(&world.app.pool).await.unwrap();
        let mut account = Self {
            id,
            email,
            owner,
            event,
            way_back: None,
            new_address: None,
            other_session: None,
        };
        match event {
            Event::PasswordReset => {
                let forgot = json!({"email": account.email});
                world.app.anonymous().post("/password/forgot", forgot).await.status(202);
                let token = world.token_to(&account.email, "a new password").await;
                account.way_back = Some(json!({"token": token}));
            }
            Event::RevokeOne => {
                let login = json!({"email": account.email, "password": PASSWORD});
                let login = world.app.anonymous().post("/login", login).await.status(200);
                let id = login.body["session"]["id"].as_str().map(str::to_owned);
                account.other_session = id;
            }
            Event::AddressChanged => {
                let next = format!("next-{}", account.email);
                account.owner.patch("/me", json!({"email": next})).await.ok();
                account.new_address = Some(world.token_to(&next, "Confirm").await);
            }
            _ => {}
        }
        account
    }

    /// The password that it has once the event has happened, or before.
    pub fn password(&self, after: bool) -> &'static str {
        if after && self.event.sets_password() { NEW_PASSWORD } else { PASSWORD }
    }
}

impl World {
    /// The token of the last email to an address whose subject has this in it.
    pub async fn token_to(&self, address: &str, subject: &str) -> String {
        self.mail_to(address, subject).await.token()
    }

    pub async fn mail_to(&self, address: &str, subject: &str) -> crate::smtp::Mail {
        for _ in 0..50 {
            self.app.deliver().await;
            let mut mails = self.mailbox.to(address).into_iter().rev();
            if let Some(mail) = mails.find(|mail| mail.subject.contains(subject)) {
                return mail;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("no email to {address} about {subject}");
    }
}
