//! Requests over HTTP to servers that users name: through the right proxy, with answers of bounded size,
//! tried again where that may help, and cleared of every secret ([`crate::secret`]) before anything else
//! is done with what a server says.

pub mod proxy;

use std::io::Read;
use std::time::Duration;

use anyhow::Result;
use ureq::http::{HeaderName, HeaderValue};
pub use ureq::http::{StatusCode, Uri};

use crate::display::excerpt;
use crate::error::UserError;
use crate::secret::{Redactor, Secret};

/// Longest pause between attempts, whatever the server asks for.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// Characters of what a server says that an error quotes.
const QUOTED: usize = 300;

/// Sends requests to one address.
pub struct Client {
    url: String,
    headers: Vec<(String, Secret)>,
    /// Which proxy, for messages; empty without one.
    through: String,
    redactor: Redactor,
    agent: ureq::Agent,
    /// Largest reply that is read, bytes.
    max_reply: u64,
}

/// What a client is made of.
pub struct Settings {
    pub url: String,
    /// Headers of every request.
    pub headers: Vec<(String, Secret)>,
    /// What nothing that is stored or shown may hold; a proxy's password is added.
    pub secrets: Vec<Secret>,
    /// Until a request counts as lost.
    pub timeout: Duration,
    /// Largest reply that is read, bytes.
    pub max_reply: u64,
}

/// Why an attempt failed, cleared of secrets.
#[derive(Clone, Debug)]
pub enum Failure {
    /// Worth another attempt, after so long.
    Passing(String, Option<Duration>),
    Lasting(String),
}

/// Why a request failed for good: the last attempt's failure, and its number.
#[derive(Clone, Debug)]
pub struct Refused {
    pub message: String,
    pub attempt: u32,
    /// Whether the server, or nobody, might have answered another attempt.
    pub is_passing: bool,
}

impl Client {
    /// A client; `variable` is the environment as far as it names proxies.
    ///
    /// # Errors
    /// An address or a header that is none, or a proxy that cannot be used.
    pub fn new(settings: Settings, variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let Settings { url, headers, mut secrets, timeout, max_reply } = settings;
        for (name, value) in &headers {
            if HeaderName::try_from(name).is_err() || HeaderValue::from_str(value.expose()).is_err()
            {
                let message = format!("`{name}` and its value are no header of HTTP: correct them");
                return Err(UserError::setting(message).into());
            }
        }
        let chosen = proxy::choose(&url.parse()?, variable)?;
        let mut through = String::new();
        let proxy = chosen.map(|chosen| {
            through = format!(" (through the proxy that {} names)", chosen.variable);
            secrets.extend(chosen.secrets);
            chosen.proxy
        });
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            // A key goes where the user said, and nowhere else.
            .max_redirects(0)
            .proxy(proxy)
            .build()
            .into();
        let redactor = Redactor::new(&secrets);
        Ok(Self { url, headers, through, redactor, agent, max_reply })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Which proxy is used, as part of a sentence; empty without one.
    pub fn through(&self) -> &str {
        &self.through
    }

    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// The body of the answer to one request. `passes` tells which refusals are worth another attempt.
    ///
    /// # Errors
    /// A request that is lost or refused, cleared of secrets.
    pub fn post(
        &self,
        content_type: &str,
        body: &[u8],
        passes: impl Fn(StatusCode) -> bool,
    ) -> Result<Vec<u8>, Failure> {
        let mut request = self.agent.post(&self.url).content_type(content_type);
        for (name, value) in &self.headers {
            request = request.header(name, value.expose());
        }
        // No connection, or none in time.
        let lost = |error: ureq::Error| Failure::Passing(self.quoted(&error.to_string()), None);
        let response = request.send(body).map_err(lost)?;
        let status = response.status();
        let wait = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let wait = wait.and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
        let mut reply = Vec::new();
        let mut reader = response.into_body().into_reader().take(self.max_reply + 1);
        if let Err(error) = reader.read_to_end(&mut reply) {
            let message = format!("the reply broke off: {}", self.quoted(&error.to_string()));
            return Err(Failure::Passing(message, None));
        }
        if reply.len() as u64 > self.max_reply {
            let message = format!("the reply is longer than {} bytes", self.max_reply);
            return Err(Failure::Lasting(message));
        }
        if status.is_success() {
            return Ok(reply);
        }
        let said = self.quoted(&String::from_utf8_lossy(&reply));
        let message = format!("status {status}: {said}");
        Err(if passes(status) {
            Failure::Passing(message, wait)
        } else {
            Failure::Lasting(message)
        })
    }

    /// What a server says, for an error: first cleared, then cut.
    pub fn quoted(&self, text: &str) -> String {
        excerpt(&self.redactor.clear(text), QUOTED)
    }
}

/// Makes up to `attempts` attempts, with pauses that double from `pause` unless the server names another.
/// `again` hears of each failure that another attempt follows.
///
/// # Errors
/// The last attempt's failure.
pub fn retried<T>(
    attempts: u32,
    mut pause: Duration,
    attempt: impl Fn() -> Result<T, Failure>,
    again: impl Fn(&str),
) -> Result<T, Refused> {
    let mut number = 1;
    loop {
        let (message, wait) = match attempt() {
            Ok(reply) => return Ok(reply),
            Err(Failure::Passing(message, wait)) if number < attempts => (message, wait),
            Err(Failure::Passing(message, _)) => {
                return Err(Refused { message, attempt: number, is_passing: true });
            }
            Err(Failure::Lasting(message)) => {
                return Err(Refused { message, attempt: number, is_passing: false });
            }
        };
        again(&message);
        std::thread::sleep(wait.unwrap_or(pause).min(MAX_PAUSE));
        pause = (pause * 2).min(MAX_PAUSE);
        number += 1;
    }
}
