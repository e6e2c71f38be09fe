//! Requests as a script would make them.

use std::io::Read as _;
use std::time::Duration;

use serde_json::Value;
use ureq::Agent;
use ureq::http::HeaderMap;

/// An answer, whole.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("no JSON: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The body's lines as JSON.
    pub fn lines(&self) -> Vec<Value> {
        let lines = self.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
    }

    /// The payloads of the body's lines, where they are text.
    pub fn payloads(&self) -> Vec<String> {
        self.lines().iter().map(|line| line["payload"].as_str().unwrap().to_owned()).collect()
    }

    /// A header that is a number.
    pub fn number(&self, name: &str) -> u64 {
        let value = self.headers.get(name).unwrap_or_else(|| panic!("no header {name}: {self:?}"));
        value.to_str().unwrap().parse().unwrap()
    }

    /// Status and code of a refusal.
    pub fn refusal(&self) -> (u16, String) {
        (self.status, self.json()["code"].as_str().unwrap().to_owned())
    }

    /// The same, once it is known to have gone well.
    pub fn ok(self) -> Self {
        let told: String = self.text().chars().take(500).collect();
        assert!((200..300).contains(&self.status), "{}: {told}", self.status);
        self
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A server as one caller asks it.
#[derive(Clone, Debug)]
pub struct Http {
    agent: Agent,
    base: String,
    token: Option<String>,
}

impl Http {
    /// A caller with that token, or none.
    pub fn new(base: &str, token: Option<String>) -> Self {
        Self::within(Duration::from_secs(60), base, token)
    }

    /// The same; an answer that takes longer counts as none.
    pub fn within(patience: Duration, base: &str, token: Option<String>) -> Self {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(patience))
            .build()
            .new_agent();
        Self { agent, base: base.to_owned(), token }
    }

    /// A request with headers and, where there is one, a body.
    pub fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Answer {
        let asked = self.try_ask(method, path, headers, body);
        asked.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// The same; an error where there is no whole answer.
    pub fn try_ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<Answer, ureq::Error> {
        let mut request =
            ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = match body {
            Some(body) => self.agent.run(request.body(body.to_vec()).unwrap()),
            None => self.agent.run(request.body(()).unwrap()),
        }?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let mut body = Vec::new();
        response.into_body().into_reader().read_to_end(&mut body)?;
        Ok(Answer { status, headers, body })
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], None)
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.ask("DELETE", path, &[], None)
    }

    /// A text as a body.
    pub fn post(&self, path: &str, text: &str) -> Answer {
        self.ask("POST", path, &[("content-type", "text/plain")], Some(text.as_bytes()))
    }

    /// An object as a body.
    pub fn post_json(&self, path: &str, body: &Value) -> Answer {
        let body = body.to_string();
        self.ask("POST", path, &[("content-type", "application/json")], Some(body.as_bytes()))
    }

    /// A record per text.
    pub fn post_lines(&self, path: &str, texts: impl IntoIterator<Item = String>) -> Answer {
        self.try_post_lines(path, texts).unwrap_or_else(|error| panic!("POST {path}: {error}"))
    }

    /// The same; an error where there is no whole answer.
    pub fn try_post_lines(
        &self,
        path: &str,
        texts: impl IntoIterator<Item = String>,
    ) -> Result<Answer, ureq::Error> {
        let line = |text: String| format!("{}\n", serde_json::json!({ "payload": text }));
        let body: String = texts.into_iter().map(line).collect();
        let kind = [("content-type", "application/x-ndjson")];
        self.try_ask("POST", path, &kind, Some(body.as_bytes()))
    }
}
