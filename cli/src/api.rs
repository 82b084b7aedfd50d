//! Sessions on nodes' JSON APIs: the demo's people, and operators.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use httt_node::client::HttpClient;
use hyper::StatusCode;
use serde_json::{Value, json};

/// How long a large body may take.
const LONG_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// One person logged in at one node.
#[derive(Clone)]
pub(crate) struct Session {
    http: HttpClient,
    base: String,
    token: String,
}

/// A refusal, as the node told it.
#[derive(Debug, Clone)]
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    pub(crate) error: Value,
}

impl Refused {
    /// Codes of everything that was wrong.
    pub(crate) fn codes(&self) -> Vec<String> {
        let details = self.error["details"].as_array().cloned().unwrap_or_default();
        let own = std::iter::once(&self.error);
        details.iter().chain(own).filter_map(|one| one["code"].as_str().map(str::to_owned)).collect()
    }

    /// Fields named by what was wrong.
    pub(crate) fn fields(&self) -> Vec<String> {
        let details = self.error["details"].as_array().cloned().unwrap_or_default();
        let own = std::iter::once(&self.error);
        details.iter().chain(own).filter_map(|one| one["field"].as_str().map(str::to_owned)).collect()
    }

    /// What is said in Vietnamese of the mistake with this code.
    pub(crate) fn vietnamese(&self, code: &str) -> Option<String> {
        let details = self.error["details"].as_array()?;
        details.iter().find(|one| one["code"] == code)?["vi"].as_str().map(str::to_owned)
    }
}

impl Session {
    /// Logs in.
    pub(crate) async fn open(http: &HttpClient, base: &str, account: &str, password: &str) -> Result<Self> {
        let body = json!({ "username": account, "password": password });
        let reply = http.post(&format!("{base}/api/v1/session")).json(&body).send().await?;
        let answer: Value = reply.json()?;
        let token = answer["token"].as_str().context("no token")?.to_owned();
        Ok(Self { http: http.clone(), base: base.to_owned(), token })
    }

    /// Logs out; a session that cannot be ended now ends by itself.
    pub(crate) async fn close(&self) {
        let _ = self.http.request(hyper::Method::DELETE, &self.url("/session")).bearer(&self.token).send_any().await;
    }

    fn url(&self, path: &str) -> String {
        format!("{}/api/v1{path}", self.base)
    }

    /// GET, which must succeed.
    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        Ok(self.http.get(&self.url(path)).bearer(&self.token).send().await?.json()?)
    }

    /// POST, which must succeed.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        match self.try_post(path, body).await? {
            Ok(answer) => Ok(answer),
            Err(refused) => bail!("POST {path}: {} {}", refused.status, refused.error),
        }
    }

    /// POST that may be refused.
    pub(crate) async fn try_post(&self, path: &str, body: &Value) -> Result<Result<Value, Refused>> {
        judged(self.http.post(&self.url(path)).json(body).bearer(&self.token).send_any().await?)
    }

    /// POST of bytes that may be refused, and that may take long to send.
    pub(crate) async fn try_post_bytes(&self, path: &str, kind: &str, body: Vec<u8>) -> Result<Result<Value, Refused>> {
        let request = self.http.post(&self.url(path)).body(kind, body).bearer(&self.token).timeout(LONG_TIMEOUT);
        judged(request.send_any().await?)
    }

    /// PUT of JSON that may be refused.
    pub(crate) async fn try_put(&self, path: &str, body: &Value) -> Result<Result<Value, Refused>> {
        judged(self.http.put(&self.url(path)).json(body).bearer(&self.token).send_any().await?)
    }

    /// PUT of bytes, which must succeed.
    pub(crate) async fn put_bytes(&self, path: &str, kind: &str, body: Vec<u8>) -> Result<Value> {
        Ok(self.http.put(&self.url(path)).body(kind, body).bearer(&self.token).send().await?.json()?)
    }
}

fn judged(reply: httt_node::client::Reply) -> Result<Result<Value, Refused>> {
    let status = reply.status;
    let body: Value = if reply.body.is_empty() { Value::Null } else { reply.json()? };
    if status.is_success() {
        return Ok(Ok(body));
    }
    let mut body = body;
    Ok(Err(Refused { status, error: body["error"].take() }))
}
