//! Who calls: OAuth2 client credentials, or the three headers AppName, AccessKey and SecretKey.
//!
//! Secrets are random and long, so that a plain hash keeps them and nobody guesses them. What is right is therefore let
//! in at any time, and only what is wrong is slowed down: otherwise a stranger behind the same proxy could keep a
//! province out by being wrong often enough.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use httt_feed::{AgencyCode, Digest};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::quota::{CallRates, Quotas, Rate};

/// How long an access token is good, s.
pub(super) const TOKEN_LIFE_S: u32 = 3_600;
/// Tokens of one client alive at once; its oldest goes first.
const MAX_TOKENS_PER_CLIENT: usize = 100;
/// Wrong credentials a minute for one client's name, before they are slowed down.
const FAILURES_PER_CLIENT: Rate = Rate::per_minute(10);
/// Wrong credentials a minute from one address, before they are slowed down.
const FAILURES_PER_ADDRESS: Rate = Rate::per_minute(60);
/// Names and addresses of wrong credentials remembered at a time.
const MAX_REMEMBERED: usize = 10_000;

/// How a client proves that it is itself.
#[derive(Clone, PartialEq, Eq)]
pub enum ClientKey {
    /// OAuth2 client credentials.
    OAuth2 {
        /// `client_id`.
        id: String,
        /// SHA-256 of `client_secret`.
        secret_sha256: Digest,
    },
    /// Headers on every call.
    Headers {
        /// `AppName`.
        app_name: String,
        /// `AccessKey`.
        access_key: String,
        /// SHA-256 of `SecretKey`.
        secret_key_sha256: Digest,
    },
}

impl ClientKey {
    /// How records and errors call it; no secret.
    pub fn name(&self) -> String {
        match self {
            Self::OAuth2 { id, .. } => id.clone(),
            Self::Headers { app_name, access_key, .. } => format!("{app_name}/{access_key}"),
        }
    }
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientKey({})", self.name())
    }
}

/// A client of the platform. Several may speak for one member, so that a secret can be replaced without an outage.
#[derive(Debug, Clone)]
pub struct Client {
    /// How it proves that it is itself.
    pub key: ClientKey,
    /// The member it speaks for.
    pub member: AgencyCode,
    /// How much it may ask for.
    pub rates: CallRates,
    /// It is let in no more.
    pub disabled: bool,
}

/// Two clients of one name, which nobody could tell apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("client {0} is there twice")]
pub struct ClientTwice(pub String);

/// The clients, and the tokens they got. Tokens live in memory: after a restart a client asks for another.
pub struct Clients {
    by_id: HashMap<String, Arc<Client>>,
    by_access_key: HashMap<(String, String), Arc<Client>>,
    tokens: Mutex<HashMap<Digest, Token>>,
    failures: Mutex<Failures>,
}

struct Token {
    client: Arc<Client>,
    until_ms: i64,
}

struct Failures {
    by_name: Quotas<Digest>,
    by_address: Quotas<IpAddr>,
}

/// Somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    /// The credentials are wrong, missing or no longer good.
    Wrong,
    /// And they were so too often: wait so many milliseconds.
    Slowly(u32),
}

impl Clients {
    /// These clients, each with a name of its own.
    ///
    /// # Errors
    /// Two clients of one name.
    pub fn new(clients: impl IntoIterator<Item = Client>) -> Result<Self, ClientTwice> {
        let (mut by_id, mut by_access_key) = (HashMap::new(), HashMap::new());
        for client in clients {
            let client = Arc::new(client);
            let before = match &client.key {
                ClientKey::OAuth2 { id, .. } => by_id.insert(id.clone(), Arc::clone(&client)),
                ClientKey::Headers { app_name, access_key, .. } => {
                    by_access_key.insert((app_name.clone(), access_key.clone()), Arc::clone(&client))
                }
            };
            if before.is_some() {
                return Err(ClientTwice(client.key.name()));
            }
        }
        let failures = Failures {
            by_name: Quotas::new(FAILURES_PER_CLIENT, MAX_REMEMBERED),
            by_address: Quotas::new(FAILURES_PER_ADDRESS, MAX_REMEMBERED),
        };
        Ok(Self { by_id, by_access_key, tokens: Mutex::default(), failures: Mutex::new(failures) })
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Client>> {
        self.by_id.values().chain(self.by_access_key.values())
    }

    /// An access token for the client `id`.
    pub(super) fn issue(
        &self,
        id: &str,
        secret: &str,
        address: IpAddr,
        now_ms: i64,
    ) -> Result<(Arc<Client>, String), Denied> {
        let client = self.by_id.get(id).filter(|client| is_secret_of(client, secret));
        let client = client.ok_or_else(|| self.denied(id, address, now_ms))?;
        let mut random = [0; 32];
        SystemRandom::new().fill(&mut random).map_err(|_| Denied::Slowly(1_000))?;
        let token = BASE64_URL_SAFE_NO_PAD.encode(random);
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.retain(|_, token| token.until_ms > now_ms);
        let own = tokens.iter().filter(|(_, token)| Arc::ptr_eq(&token.client, client));
        let (count, oldest) = (own.clone().count(), own.min_by_key(|(_, token)| token.until_ms));
        if count >= MAX_TOKENS_PER_CLIENT
            && let Some(oldest) = oldest.map(|(digest, _)| *digest)
        {
            tokens.remove(&oldest);
        }
        let until_ms = now_ms + i64::from(TOKEN_LIFE_S) * 1_000;
        tokens.insert(Digest::of(token.as_bytes()), Token { client: Arc::clone(client), until_ms });
        Ok((Arc::clone(client), token))
    }

    /// The client that holds `token`.
    pub(super) fn by_token(&self, token: &str, address: IpAddr, now_ms: i64) -> Result<Arc<Client>, Denied> {
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let held = tokens.get(&Digest::of(token.as_bytes())).filter(|token| token.until_ms > now_ms);
        let client = held.map(|token| Arc::clone(&token.client));
        drop(tokens);
        client.ok_or_else(|| self.denied("", address, now_ms))
    }

    /// The client whose headers these are.
    pub(super) fn by_headers(
        &self,
        app_name: &str,
        access_key: &str,
        secret_key: &str,
        address: IpAddr,
        now_ms: i64,
    ) -> Result<Arc<Client>, Denied> {
        let key = (app_name.to_owned(), access_key.to_owned());
        let client = self.by_access_key.get(&key).filter(|client| is_secret_of(client, secret_key));
        client.cloned().ok_or_else(|| self.denied(&format!("{app_name}/{access_key}"), address, now_ms))
    }

    /// Notes wrong credentials.
    pub(super) fn denied(&self, name: &str, address: IpAddr, now_ms: i64) -> Denied {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let by_address = failures.by_address.take(&address, 1, now_ms);
        // Without a name only the address says who it is.
        let by_name = if name.is_empty() {
            Ok(())
        } else {
            // The digest of a name takes the same room whatever is sent.
            failures.by_name.take(&Digest::of(name.as_bytes()), 1, now_ms)
        };
        match (by_address, by_name) {
            (Ok(()), Ok(())) => Denied::Wrong,
            (one, other) => Denied::Slowly(one.err().max(other.err()).unwrap_or_default()),
        }
    }
}

fn is_secret_of(client: &Client, secret: &str) -> bool {
    let (ClientKey::OAuth2 { secret_sha256: kept, .. } | ClientKey::Headers { secret_key_sha256: kept, .. }) =
        &client.key;
    // Over hashes of random secrets, comparing byte by byte tells a guesser nothing.
    Digest::of(secret.as_bytes()) == *kept && !client.disabled
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

    fn client(id: &str, secret: &str) -> Client {
        Client {
            key: ClientKey::OAuth2 { id: id.into(), secret_sha256: Digest::of(secret.as_bytes()) },
            member: AgencyCode::new("H55").expect("code"),
            rates: CallRates::UNLIMITED,
            disabled: false,
        }
    }

    fn by_key(app_name: &str, access_key: &str, secret: &str) -> Client {
        let secret_key_sha256 = Digest::of(secret.as_bytes());
        let key = ClientKey::Headers { app_name: app_name.into(), access_key: access_key.into(), secret_key_sha256 };
        Client { key, ..client("", "") }
    }

    #[test]
    fn tokens_belong_to_their_client_and_end() {
        let clients = Clients::new([client("old", "one"), client("new", "two")]).expect("clients");
        assert!(clients.issue("old", "two", HERE, 0).is_err());
        assert!(clients.issue("nobody", "one", HERE, 0).is_err());
        // Two secrets of one member are good side by side.
        let tokens = [("old", "one"), ("new", "two")].map(|(id, secret)| clients.issue(id, secret, HERE, 0));
        for (token, id) in tokens.into_iter().zip(["old", "new"]) {
            let (_, token) = token.expect("token");
            assert_eq!(clients.by_token(&token, HERE, 1).expect("client").key.name(), id);
            assert!(clients.by_token(&token, HERE, i64::from(TOKEN_LIFE_S) * 1_000).is_err(), "it ends");
        }
        assert_eq!(clients.by_token("guess", HERE, 1).err(), Some(Denied::Wrong));
    }

    #[test]
    fn a_disabled_client_is_not_let_in() {
        let disabled = |client| Client { disabled: true, ..client };
        let clients =
            Clients::new([disabled(client("h55", "s")), disabled(by_key("httt", "k", "s"))]).expect("clients");
        assert!(clients.issue("h55", "s", HERE, 0).is_err());
        assert!(clients.by_headers("httt", "k", "s", HERE, 0).is_err());
    }

    #[test]
    fn headers_are_taken_together_or_not_at_all() {
        let clients = Clients::new([by_key("httt", "k1", "one"), by_key("httt", "k2", "two")]).expect("clients");
        assert_eq!(clients.by_headers("httt", "k2", "two", HERE, 0).expect("client").key.name(), "httt/k2");
        for (app, key, secret) in [("httt", "k2", "one"), ("other", "k1", "one"), ("httt", "k3", "one"), ("", "", "")] {
            assert!(clients.by_headers(app, key, secret, HERE, 0).is_err(), "{app} {key} {secret}");
        }
    }

    #[test]
    fn who_is_wrong_again_and_again_is_slowed_down_and_who_is_right_never() {
        let clients = Clients::new([client("h55", "right")]).expect("clients");
        let wrong = |now_ms| clients.issue("h55", "wrong", HERE, now_ms).map(|_| ()).expect_err("wrong");
        assert!((0..10).all(|_| wrong(0) == Denied::Wrong));
        assert!(matches!(wrong(0), Denied::Slowly(wait) if (1..=6_000).contains(&wait)));
        assert!(clients.issue("h55", "right", HERE, 0).is_ok());
        assert!(matches!(clients.issue("h55", "wrong", THERE, 0), Err(Denied::Slowly(_))), "the name is remembered");
        assert_eq!(wrong(60_000), Denied::Wrong, "and forgotten");
    }

    #[test]
    fn who_invents_names_is_slowed_down_by_address() {
        let clients = Clients::new([client("h55", "right")]).expect("clients");
        let guess = |name: usize, from| clients.issue(&name.to_string(), "x", from, 0).map(|_| ()).expect_err("wrong");
        assert!((0..60).all(|name| guess(name, HERE) == Denied::Wrong));
        assert!(matches!(guess(60, HERE), Denied::Slowly(_)));
        assert_eq!(guess(61, THERE), Denied::Wrong);
    }

    #[test]
    fn tokens_of_one_client_are_bounded_and_push_out_nobody_elses() {
        let clients = Clients::new([client("many", "s"), client("one", "s")]).expect("clients");
        let (_, kept) = clients.issue("one", "s", HERE, 0).expect("token");
        for now in 0..2 * MAX_TOKENS_PER_CLIENT {
            clients.issue("many", "s", HERE, now as i64).expect("token");
        }
        assert_eq!(clients.tokens.lock().expect("tokens").len(), MAX_TOKENS_PER_CLIENT + 1);
        assert!(clients.by_token(&kept, HERE, 0).is_ok());
    }

    #[test]
    fn two_clients_of_one_name_are_refused() {
        let twice = Clients::new([client("h55", "a"), client("h55", "b")]).map(|_| ()).expect_err("twice");
        assert_eq!(twice, ClientTwice("h55".into()));
        assert!(Clients::new([by_key("a", "k", "s"), by_key("b", "k", "s")]).is_ok());
        assert!(!format!("{:?}", client("h55", "a")).contains(&Digest::of(b"a").to_string()));
    }
}
