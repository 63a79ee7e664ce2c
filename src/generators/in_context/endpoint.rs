//! An endpoint that speaks OpenAI's chat completions.
//!
//! The key comes from an environment variable and goes into one header. It is in no file, no message
//! and no `Debug` output: whatever a server says, replies and errors, is cleared of it
//! ([`crate::secret`]) before anything else is done with it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::store::Store;
use super::{ChatModel, Question, Reply};
use crate::check::within;
use crate::error::UserError;
use crate::generators::GenerateOptions;
use crate::http::{self, Client, Failure, Refused, StatusCode, Uri, proxy};
use crate::progress::StepProgress;
use crate::secret::{Redactor, Secret};

/// `[settings.endpoint]` of a baseline.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointSettings {
    /// Up to the version: `https://api.example.com/v1`.
    pub url: String,
    /// Name of the environment variable that holds the key; none where the server wants none.
    pub key_env: Option<String>,
    /// Requests at once.
    #[serde(default = "EndpointSettings::default_concurrency")]
    concurrency: usize,
    /// Seconds until a request counts as lost.
    #[serde(default = "EndpointSettings::default_timeout")]
    timeout: u64,
    /// Attempts at one request, pauses between them doubling from one second.
    #[serde(default = "EndpointSettings::default_attempts")]
    attempts: u32,
    /// US dollars per million tokens of prompts and of replies.
    price_prompt: Option<f64>,
    price_reply: Option<f64>,
}

impl EndpointSettings {
    fn default_concurrency() -> usize {
        4
    }

    fn default_timeout() -> u64 {
        180
    }

    fn default_attempts() -> u32 {
        5
    }

    /// # Errors
    /// A setting that cannot be, a key that would travel in the clear, or a URL that holds one: it is
    /// published with the results.
    pub fn check(&self) -> Result<()> {
        let wrong = |key: &str, problem: String| {
            Err(UserError::setting(format!("endpoint: {key} {problem}")).into())
        };
        if self.url.contains('@') {
            return wrong("url", "holds a user or password; name a variable in key_env".into());
        }
        if self.url.contains(['?', '#']) {
            let problem = "holds a query (`?…`) or fragment (`#…`), which is not sent; end it with the version, as https://HOST/v1, and name the variable of a key in key_env";
            return wrong("url", problem.into());
        }
        let key = self.key_env.as_deref().and_then(key_in).map(Secret::new);
        if Redactor::new(&key).finds(&self.url) {
            let problem = "holds the key that key_env names; leave it out, it is sent in a header";
            return wrong("url", problem.into());
        }
        let uri: Option<Uri> = self.url.parse().ok();
        let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
        match uri.as_ref().and_then(Uri::scheme_str) {
            Some("https") => {}
            Some("http") if proxy::is_here(host) || self.key_env.is_none() => {}
            Some("http") => {
                let problem = format!("= `{}` would send the key unencrypted; use https", self.url);
                return wrong("url", problem);
            }
            _ => return wrong("url", format!("= `{}` is not https://HOST/…", self.url)),
        }
        within("concurrency", self.concurrency, 1..=1_024)
            .and_then(|()| within("attempts", self.attempts, 1..=100))
            .and_then(|()| within("timeout", self.timeout, 1..=86_400))
            .map_err(|message| UserError::setting(format!("endpoint: {message}")))?;
        let prices = [self.price_prompt, self.price_reply];
        if prices.into_iter().flatten().any(|price| !(price >= 0.0 && price.is_finite())) {
            return wrong("price_prompt and price_reply", "must be dollars, 0 or more".into());
        }
        Ok(())
    }

    /// Prices as a report tells them.
    pub fn prices(&self) -> Option<(String, String)> {
        let (prompt, reply) = (self.price_prompt?, self.price_reply?);
        let text = format!("{prompt} for prompts, {reply} for replies");
        Some(("US dollars per million tokens".to_owned(), text))
    }

    fn cost(&self, prompt_tokens: u64, reply_tokens: u64) -> Option<f64> {
        let (prompt, reply) = (self.price_prompt?, self.price_reply?);
        Some((prompt * prompt_tokens as f64 + reply * reply_tokens as f64) / 1e6)
    }
}

/// The key in the environment variable `name`, if it is set.
fn key_in(name: &str) -> Option<String> {
    let key = std::env::var(name).ok()?.trim().to_owned();
    (!key.is_empty()).then_some(key)
}

/// The key that the settings name, if they name any.
fn key(name: Option<&str>) -> Result<Option<Secret>> {
    let Some(name) = name else { return Ok(None) };
    match key_in(name) {
        Some(key) => Ok(Some(Secret::new(key))),
        None => {
            let message = format!(
                "endpoint: key_env names the environment variable {name}, which is not set; set it to the key"
            );
            Err(UserError::setting(message).into())
        }
    }
}

/// Largest reply that is read, bytes.
const MAX_REPLY: u64 = 4 << 20;
/// A chat endpoint.
pub struct Endpoint {
    settings: EndpointSettings,
    model: String,
    client: Client,
    store: Option<Store>,
    /// First pause between attempts.
    pause: Duration,
}

/// What was used so far.
#[derive(Default)]
struct Usage {
    asked: AtomicU64,
    kept: AtomicU64,
    prompt_tokens: AtomicU64,
    reply_tokens: AtomicU64,
}

impl Endpoint {
    /// # Errors
    /// A key that is not set, a proxy that cannot be used, or a folder for replies that cannot be made.
    pub fn new(settings: &EndpointSettings, model: &str) -> Result<Self> {
        let store = Store::default_folder().map(|folder| Store::open(&folder)).transpose()?;
        let key = key(settings.key_env.as_deref())?;
        let variable = |name: &str| std::env::var(name).ok();
        Self::with(settings, model, key, store, Duration::from_secs(1), variable)
    }

    /// As [`Endpoint::new`], with everything given; `pause` is the first between attempts, and
    /// `variable` the environment as far as it names proxies.
    pub fn with(
        settings: &EndpointSettings,
        model: &str,
        key: Option<Secret>,
        store: Option<Store>,
        pause: Duration,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self> {
        let authorization = |key: &Secret| {
            ("authorization".to_owned(), Secret::new(format!("Bearer {}", key.expose())))
        };
        let client = http::Settings {
            url: format!("{}/chat/completions", settings.url.trim_end_matches('/')),
            headers: key.iter().map(authorization).collect(),
            secrets: key.into_iter().collect(),
            timeout: Duration::from_secs(settings.timeout),
            max_reply: MAX_REPLY,
        };
        let client = Client::new(client, variable)?;
        Ok(Self { settings: settings.clone(), model: model.to_owned(), client, store, pause })
    }

    #[cfg(test)]
    pub fn one_at_a_time(&mut self) {
        self.settings.concurrency = 1;
    }

    fn body(&self, question: &Question, temperature: f64) -> String {
        json!({
            "model": self.model,
            "messages": question.messages,
            "temperature": temperature,
            "max_tokens": question.max_tokens,
            "seed": question.seed,
        })
        .to_string()
    }

    fn reply(&self, body: &str, usage: &Usage, bar: &StepProgress) -> Result<Reply> {
        let (url, redactor) = (self.client.url(), self.client.redactor());
        if let Some(store) = &self.store
            && let Some(mut reply) = store.get(url, body)
        {
            usage.kept.fetch_add(1, Ordering::Relaxed);
            // It may have been kept by a version that did not clear.
            if redactor.finds(&reply.text) {
                reply.text = redactor.clear(&reply.text);
                store.put(url, body, &reply)?;
            }
            return Ok(reply);
        }
        let again = |message: &str| bar.note(&format!("(again after {message})"));
        let attempts = self.settings.attempts;
        let reply = http::retried(attempts, self.pause, || self.attempt(body), again).map_err(
            |Refused { message, attempt, .. }| {
                UserError::setting(format!(
                    "endpoint {url}{}: {message} (attempt {attempt} of {attempts}); replies so far are kept, and the same command goes on from there",
                    self.client.through()
                ))
            },
        )?;
        usage.asked.fetch_add(1, Ordering::Relaxed);
        usage.prompt_tokens.fetch_add(reply.prompt_tokens, Ordering::Relaxed);
        usage.reply_tokens.fetch_add(reply.reply_tokens, Ordering::Relaxed);
        if let Some(store) = &self.store {
            store.put(url, body, &reply)?;
        }
        Ok(reply)
    }

    /// One request. What it returns is cleared of secrets.
    fn attempt(&self, body: &str) -> Result<Reply, Failure> {
        let passes = |status: StatusCode| {
            status == StatusCode::TOO_MANY_REQUESTS
                || status == StatusCode::REQUEST_TIMEOUT
                || status.is_server_error()
        };
        let reply = self.client.post("application/json", body.as_bytes(), passes)?;
        self.read(&String::from_utf8_lossy(&reply))
    }

    /// The reply in a response's body.
    fn read(&self, text: &str) -> Result<Reply, Failure> {
        let wrong = |what: &str| Failure::Lasting(format!("{what}: {}", self.client.quoted(text)));
        let json: Value = serde_json::from_str(text).map_err(|_| wrong("the reply is not JSON"))?;
        let choice = &json["choices"][0];
        let content = &choice["message"]["content"];
        let said = match content {
            Value::String(text) => text.clone(),
            // A reasoning model whose thoughts took all tokens.
            Value::Null if choice["finish_reason"] == "length" => String::new(),
            _ => return Err(wrong("the reply has no choices[0].message.content")),
        };
        let count = |key: &str| json["usage"][key].as_u64().unwrap_or(0);
        Ok(Reply {
            text: self.client.redactor().clear(&said),
            cut: choice["finish_reason"] == "length",
            prompt_tokens: count("prompt_tokens"),
            reply_tokens: count("completion_tokens"),
        })
    }
}

impl ChatModel for Endpoint {
    fn ask(
        &self,
        questions: Vec<Question>,
        options: &GenerateOptions,
        bar: &StepProgress,
    ) -> Result<Vec<Reply>> {
        let bodies: Vec<String> =
            questions.iter().map(|q| self.body(q, options.sampling.temperature)).collect();
        let replies: Mutex<Vec<Option<Reply>>> = Mutex::new(vec![None; bodies.len()]);
        let failed: Mutex<Option<anyhow::Error>> = Mutex::new(None);
        let (next, stop, usage) = (AtomicUsize::new(0), AtomicBool::new(false), Usage::default());
        let work = || {
            while !stop.load(Ordering::Relaxed) {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(body) = bodies.get(index) else { return };
                match self.reply(body, &usage, bar) {
                    Ok(reply) => lock(&replies)[index] = Some(reply),
                    Err(error) => {
                        stop.store(true, Ordering::Relaxed);
                        lock(&failed).get_or_insert(error);
                    }
                }
                bar.note(&self.note(&usage));
                bar.inc(1);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..self.settings.concurrency.min(bodies.len()) {
                scope.spawn(work);
            }
        });
        if let Some(error) = lock(&failed).take() {
            return Err(error);
        }
        let replies = std::mem::take(&mut *lock(&replies));
        replies.into_iter().map(|reply| reply.context("a request has no reply")).collect()
    }
}

impl Endpoint {
    /// Tokens and money so far.
    fn note(&self, usage: &Usage) -> String {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (prompt, reply) = (count(&usage.prompt_tokens), count(&usage.reply_tokens));
        let cost = self.settings.cost(prompt, reply);
        let cost = cost.map_or_else(String::new, |dollars| format!(", ${dollars:.4}"));
        format!(
            "({} asked, {} kept from before, {prompt} + {reply} tokens{cost})",
            count(&usage.asked),
            count(&usage.kept)
        )
    }
}

/// A lock whose holder never panics.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
