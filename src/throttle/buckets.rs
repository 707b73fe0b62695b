//! The buckets: what each limit counts, and how much it allows.

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::client::Client;
use crate::config::{Config, Rate};
use crate::names::Identifier;
use crate::store::throttles::Bucket;

/// The limit on a name, for unknown clients.
pub(super) const ACCOUNT: &str = "account";
/// The limit on the confirmations of one session.
pub(super) const SESSION: &str = "session";
/// The limit on the confirmations of all sessions of an account.
pub(super) const REAUTHENTICATION: &str = "reauthentication";

/// How many times the limit of one session its account has. One stolen session exhausts its own limit,
/// and leaves as much to the owner's.
const SESSIONS: u32 = 2;
/// How many times the limit of one /56 its /48 has, which holds 256 of them.
const SITE: u32 = 4;
/// How many times the rate of logins Basic has, since each request is a login: one a second by default.
const BASIC: u32 = 20;

/// The names of a limit on networks: of a /24 or /56, and of a /48.
pub(super) struct NetworkPolicy(&'static str, &'static str);

/// Wrong passwords.
pub(super) const WRONG: NetworkPolicy = NetworkPolicy("network", "network_48");
/// Names that are claimed.
pub(super) const CLAIMED: NetworkPolicy = NetworkPolicy("registration", "registration_48");
/// Mails that are requested.
pub(super) const MAILED: NetworkPolicy = NetworkPolicy("mail_network", "mail_network_48");

/// How a correct password is used. Each use has a rate of its own, or an attacker with one account could
/// keep the threads that hash passwords busy.
#[derive(Clone, Copy, Debug)]
pub enum PasswordUse {
    /// To log in.
    LogIn,
    /// To authenticate one request by `Authorization: Basic`.
    Basic,
    /// To confirm the login of this session.
    Confirm(Uuid),
}

impl PasswordUse {
    /// The bucket of correct passwords.
    pub(super) fn bucket(self, config: &Config, user_id: Uuid, device: Option<&[u8]>) -> Bucket {
        let rate = config.throttle_logins;
        match (self, device) {
            // Somebody else who knows the password must not keep a device of the owner out.
            (Self::LogIn, Some(device)) => bucket("device_logins", &[device], rate),
            (Self::LogIn, None) => bucket("logins", &[user_id.as_bytes()], rate),
            (Self::Basic, _) => bucket("basic", &[user_id.as_bytes()], rate.times(BASIC)),
            // Not one of the account: somebody who knows the password would keep its owner from
            // changing it.
            (Self::Confirm(session), _) => bucket("confirmations", &[session.as_bytes()], rate),
        }
    }
}

/// The limit on logging in by a name, for clients that its account does not know.
pub(super) fn name(config: &Config, identifier: &Identifier) -> Bucket {
    Bucket {
        policy: ACCOUNT,
        key: name_key(identifier),
        rate: config.throttle_account,
        refuses: true,
    }
}

/// The limit on a device that an account knows, by its [`device_key`].
pub(super) fn device(config: &Config, key: Vec<u8>) -> Bucket {
    Bucket { policy: "device", key, rate: config.throttle_account, refuses: true }
}

/// The limit on the codes for a purpose that such a device gives.
pub(super) fn device_code(config: &Config, purpose: &str, device: &[u8]) -> Bucket {
    bucket("device_code", &[purpose.as_bytes(), device], config.throttle_account)
}

/// The key of the limit on a device, by the hash of its secret.
pub(super) fn device_key(user_id: Uuid, hash: &[u8]) -> Vec<u8> {
    key("device", &[user_id.as_bytes(), hash])
}

/// The limits on codes that are mailed to an address for a purpose: one for each request that the client names, by
/// the hashes of their secrets, or one for all clients that name none.
pub(super) fn codes(
    config: &Config,
    purpose: &str,
    email: &str,
    requests: &[Vec<u8>],
) -> Vec<Bucket> {
    let code = |request| {
        bucket("code", &[purpose.as_bytes(), email.as_bytes(), request], config.throttle_account)
    };
    if requests.is_empty() {
        return vec![code(&[])];
    }
    let mut requests: Vec<_> = requests.iter().map(Vec::as_slice).collect();
    requests.sort_unstable();
    requests.dedup();
    requests.into_iter().map(code).collect()
}

/// The limits on the confirmations of a session and of its account. The account's names count them too,
/// and refuse none: strangers who exhaust a name must not block its owner.
pub(super) fn confirmation(
    config: &Config,
    session_id: Uuid,
    user_id: Uuid,
    names: impl Iterator<Item = Identifier>,
) -> Vec<Bucket> {
    let rate = config.throttle_account;
    let mut names: Vec<_> =
        names.map(|name| Bucket { refuses: false, ..self::name(config, &name) }).collect();
    names.sort_by(|a, b| a.key.cmp(&b.key));
    let own = [
        bucket(SESSION, &[session_id.as_bytes()], rate),
        bucket(REAUTHENTICATION, &[user_id.as_bytes()], rate.times(SESSIONS)),
    ];
    own.into_iter().chain(names).collect()
}

/// The limit on mails of one kind to an address.
pub(super) fn mail(config: &Config, kind: &str, email: &str) -> Bucket {
    bucket("mail", &[kind.as_bytes(), email.as_bytes()], config.throttle_mail)
}

/// The limit on mails of one kind that a device requests to an account that knows it: strangers who exhaust the
/// address's limit do not keep the owner from getting them.
pub(super) fn device_mail(config: &Config, kind: &str, device: &[u8]) -> Bucket {
    bucket("device_mail", &[kind.as_bytes(), device], config.throttle_mail)
}

/// The limit on notices of one kind to an owner.
pub(super) fn notice(kind: &str, owner: &[u8], rate: Rate) -> Bucket {
    bucket("notice", &[kind.as_bytes(), owner], rate)
}

/// The limit on the changes that an account makes to itself.
pub(super) fn writes(config: &Config, user_id: Uuid) -> Bucket {
    bucket("writes", &[user_id.as_bytes()], config.throttle_writes)
}

/// The limits on a client's networks. A backend of ours has none: it logs in many people.
pub(super) fn networks(client: &Client, policy: &NetworkPolicy, rate: Rate) -> Vec<Bucket> {
    let of = |policy, network: String, rate| bucket(policy, &[network.as_bytes()], rate);
    let network = client.network().map(|network| of(policy.0, network, rate));
    let site = client.site().map(|site| of(policy.1, site, rate.times(SITE)));
    network.into_iter().chain(site).filter(|_| !client.is_backend).collect()
}

/// The key of the limit on a name.
pub(super) fn name_key(identifier: &Identifier) -> Vec<u8> {
    match identifier {
        Identifier::Username(username) => key("username", &[username.as_bytes()]),
        Identifier::Email(email) => key("email", &[email.as_bytes()]),
    }
}

fn bucket(policy: &'static str, parts: &[&[u8]], rate: Rate) -> Bucket {
    Bucket { policy, key: key(policy, parts), rate, refuses: true }
}

/// The hash of what is limited. Each part comes after its length.
fn key(kind: &str, parts: &[&[u8]]) -> Vec<u8> {
    let mut digest = Sha256::new();
    for part in std::iter::once(kind.as_bytes()).chain(parts.iter().copied()) {
        digest.update(part.len().to_be_bytes());
        digest.update(part);
    }
    digest.finalize().to_vec()
}
