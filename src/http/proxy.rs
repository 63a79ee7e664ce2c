//! Which proxy a request goes through: rules that hold whatever the environment says.
//!
//! - This machine is never reached through a proxy: its name means another machine there, and a key
//!   that goes to it in plain http would be told to the proxy.
//! - `NO_PROXY` lists hosts that are reached directly, with their subdomains; `*` lists all.
//! - An `https` endpoint is reached through `HTTPS_PROXY`, an `http` endpoint through `HTTP_PROXY`, and
//!   either through `ALL_PROXY` where the first is not set. Names may be in small letters, which count
//!   first. The proxy of an `https` endpoint sees its host and nothing else. A key goes over `http` to
//!   this machine only (settings of endpoints are checked for that), so no proxy sees it.

use std::net::IpAddr;

use anyhow::Result;
use ureq::http::Uri;
use ureq::{Proxy, ProxyProtocol};

use crate::error::UserError;
use crate::secret::Secret;

/// A proxy, and what its errors may repeat.
pub struct Chosen {
    pub proxy: Proxy,
    /// The variable that names it.
    pub variable: String,
    pub secrets: Vec<Secret>,
}

/// Whether a host of a URL is this machine.
pub fn is_here(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches([']', '.']).to_ascii_lowercase();
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => address.is_loopback(),
        Ok(IpAddr::V6(address)) => {
            address.is_loopback() || address.to_ipv4_mapped().is_some_and(|v4| v4.is_loopback())
        }
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

/// The proxy for `uri`, with variables as `variable` gives them.
///
/// # Errors
/// A proxy that cannot be used; its address, which may hold a password, is not told.
pub fn choose(uri: &Uri, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Chosen>> {
    let find = |name: &str| {
        let names = [name.to_ascii_lowercase(), name.to_owned()];
        let values = names.into_iter().filter_map(|name| Some((variable(&name)?, name)));
        values.map(|(value, name)| (name, value.trim().to_owned())).find(|(_, v)| !v.is_empty())
    };
    let host = uri.host().unwrap_or_default();
    let direct = find("NO_PROXY").is_some_and(|(_, hosts)| lists(&hosts, host));
    let own = if uri.scheme_str() == Some("https") { "HTTPS_PROXY" } else { "HTTP_PROXY" };
    if is_here(host) || direct {
        return Ok(None);
    }
    let Some((variable, value)) = find(own).or_else(|| find("ALL_PROXY")) else {
        return Ok(None);
    };
    let http =
        |proxy: &Proxy| matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https);
    let proxy = Proxy::new(&value).ok().filter(http);
    let Some(proxy) = proxy else {
        let message = format!(
            "the environment variable {variable} does not name a proxy as http://HOST:PORT or https://HOST:PORT (others are not supported); set it so, or list `{host}` in NO_PROXY"
        );
        return Err(UserError::setting(message).into());
    };
    let written = value.rsplit_once('@').map(|(user, _)| user.rsplit("//").next().unwrap_or(user));
    let parts = [proxy.password(), written];
    let secrets = parts.into_iter().flatten().map(Secret::new).collect();
    Ok(Some(Chosen { proxy, variable, secrets }))
}

/// Whether a list of hosts, apart by commas or space, covers `host`.
fn lists(hosts: &str, host: &str) -> bool {
    let host = host.trim_matches(['[', ']', '.']).to_ascii_lowercase();
    hosts.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        let entry = entry.trim_matches(['[', ']']).trim_start_matches('*').to_ascii_lowercase();
        let domain = entry.trim_matches('.');
        domain.is_empty()
            || host == domain
            || host.strip_suffix(domain).is_some_and(|h| h.ends_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(url: &str, variables: &[(&str, &str)]) -> Result<Option<(String, String)>> {
        let find = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name)?;
            Some(found.1.to_owned())
        };
        let uri = url.parse().expect("a URL");
        let host = |chosen: Chosen| (chosen.variable, chosen.proxy.host().to_owned());
        Ok(choose(&uri, find)?.map(host))
    }

    const ALL: [(&str, &str); 3] = [
        ("HTTPS_PROXY", "http://secure:1"),
        ("HTTP_PROXY", "http://plain:1"),
        ("ALL_PROXY", "http://all:1"),
    ];

    #[test]
    fn this_machine_is_never_reached_through_a_proxy() {
        for host in ["localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.9.9.9", "[::1]"] {
            assert!(is_here(host), "{host}");
            for scheme in ["http", "https"] {
                let found = chosen(&format!("{scheme}://{host}:8000/v1"), &ALL).expect("fine");
                assert_eq!(found, None, "{scheme} {host}");
            }
        }
        assert!(is_here("[::ffff:127.0.0.1]"));
        for host in ["localhost.example.com", "128.0.0.1", "[::2]", "notlocalhost", "127.0.0.1.io"]
        {
            assert!(!is_here(host), "{host}");
        }
    }

    #[test]
    fn the_scheme_of_the_endpoint_decides() {
        let found =
            |url, variables: &[_]| chosen(url, variables).expect("fine").map(|(name, _)| name);
        let (secure, plain) = ("https://example.com/v1", "http://example.com/v1");
        assert_eq!(found(secure, &ALL).as_deref(), Some("HTTPS_PROXY"));
        assert_eq!(found(plain, &ALL).as_deref(), Some("HTTP_PROXY"));
        assert_eq!(found(secure, &ALL[1..]).as_deref(), Some("ALL_PROXY"));
        assert_eq!(found(secure, &ALL[1..2]), None);
        assert_eq!(found(plain, &ALL[..1]), None);
        let both = [("HTTPS_PROXY", "http://big"), ("https_proxy", "http://small")];
        assert_eq!(found(secure, &both).as_deref(), Some("https_proxy"));
        assert_eq!(found(secure, &[("HTTPS_PROXY", " ")]), None);
    }

    #[test]
    fn listed_hosts_are_reached_directly() {
        for (list, host, direct) in [
            ("example.com", "example.com", true),
            ("a.org, .example.com", "api.EXAMPLE.com", true),
            ("*.example.com", "api.example.com", true),
            ("*", "anything", true),
            ("example.com", "badexample.com", false),
            ("api.example.com", "example.com", false),
            ("", "example.com", false),
            ("10.0.0.7", "10.0.0.7", true),
        ] {
            assert_eq!(lists(list, host), direct, "{list} {host}");
            let variables = [("no_proxy", list), ALL[0]];
            let found = chosen(&format!("https://{host}/v1"), &variables).expect("fine");
            assert_eq!(found.is_none(), direct, "{list} {host}");
        }
    }

    #[test]
    fn a_proxy_that_cannot_be_used_is_refused_without_its_password() {
        for value in ["socks5://me:pass-word@host:1", "ftp://me:pass-word@host", "http://"] {
            let error = chosen("https://example.com/v1", &[("ALL_PROXY", value)]).expect_err(value);
            let error = error.to_string();
            assert!(error.contains("ALL_PROXY") && !error.contains("pass-word"), "{error}");
        }
    }
}
