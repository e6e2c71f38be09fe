//! Origins: which web pages may connect.
//!
//! A browser names the page's origin with each request, and a page cannot forge it; anything else
//! than a browser names none and is let through, since its token is all that counts. An origin is
//! compared whole: scheme, host and port.

/// Most origins that may be listed.
const MAX_ORIGINS: usize = 1_024;

/// A listed origin that no browser would send.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadOrigin {
    /// It is not of that form.
    #[error(
        "{0:?} is no origin: write scheme://host or scheme://host:port without a path, or \"*\""
    )]
    Form(String),
    /// There are too many.
    #[error("at most {MAX_ORIGINS} origins")]
    TooMany,
}

/// The origins that may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origins {
    any: bool,
    local: bool,
    listed: Vec<String>,
}

impl Origins {
    /// No page at all.
    pub const fn none() -> Self {
        Self { any: false, local: false, listed: Vec::new() }
    }

    /// The origins listed; `*` means any. With `dev`, also pages of this machine on any port.
    ///
    /// # Errors
    /// [`BadOrigin`].
    pub fn parse(list: &[String], dev: bool) -> Result<Self, BadOrigin> {
        if list.len() > MAX_ORIGINS {
            return Err(BadOrigin::TooMany);
        }
        let mut origins = Self { local: dev, ..Self::none() };
        for origin in list {
            if origin == "*" {
                origins.any = true;
            } else if is_origin(origin) {
                origins.listed.push(origin.to_ascii_lowercase());
            } else {
                return Err(BadOrigin::Form(origin.clone()));
            }
        }
        Ok(origins)
    }

    /// Whether a request with this `Origin` header may go on; none: it comes from no browser.
    pub fn allows(&self, origin: Option<&str>) -> bool {
        let Some(origin) = origin else { return true };
        self.any
            || self.listed.iter().any(|listed| listed.eq_ignore_ascii_case(origin))
            || (self.local && is_local(origin))
    }
}

/// Whether it has the form in which browsers send origins.
fn is_origin(origin: &str) -> bool {
    let Some((scheme, host)) = origin.split_once("://") else { return false };
    let scheme_ok = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    let (host, port) = split_port(host);
    let host_ok = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
        }
    };
    scheme_ok && host_ok && port.is_none_or(is_port)
}

/// Whether it is a page of this machine, by a name that cannot lead elsewhere.
fn is_local(origin: &str) -> bool {
    let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    rest.is_some_and(|rest| {
        let (host, port) = split_port(rest);
        matches!(host, "localhost" | "127.0.0.1" | "[::1]") && port.is_none_or(is_port)
    })
}

/// Parts host and port; the colons of an address in brackets belong to the host.
fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((before, port)) if !port.contains(']') => (before, Some(port)),
        _ => (host, None),
    }
}

fn is_port(port: &str) -> bool {
    port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(list: &[&str], dev: bool) -> Result<Origins, BadOrigin> {
        let list: Vec<_> = list.iter().map(|&origin| origin.to_owned()).collect();
        Origins::parse(&list, dev)
    }

    #[test]
    fn an_origin_is_compared_whole() {
        let origins = origins(&["https://App.example", "http://a.example:8080"], false).unwrap();
        let cases = [
            (None, true),
            (Some("https://app.example"), true),
            (Some("HTTPS://APP.EXAMPLE"), true),
            (Some("http://app.example"), false),
            (Some("https://app.example:444"), false),
            (Some("https://app.example.evil"), false),
            (Some("https://evil-app.example"), false),
            (Some("https://app.example/"), false),
            (Some("http://a.example:8080"), true),
            (Some("http://a.example"), false),
            (Some("http://localhost"), false),
            (Some("null"), false),
            (Some(""), false),
        ];
        for (origin, want) in cases {
            assert_eq!(origins.allows(origin), want, "{origin:?}");
        }
    }

    #[test]
    fn development_lets_in_pages_of_this_machine() {
        let origins = origins(&[], true).unwrap();
        let cases = [
            ("http://localhost", true),
            ("https://localhost:5173", true),
            ("http://127.0.0.1:3000", true),
            ("http://[::1]:3000", true),
            ("http://[::1]", true),
            ("http://localhost:99999", false),
            ("http://localhost:+80", false),
            ("http://localhost:80:80", false),
            ("http://localhost.evil.example", false),
            ("http://localhost@evil.example", false),
            ("http://127.0.0.1.evil.example:80", false),
            ("ws://localhost", false),
            ("https://app.example", false),
            ("null", false),
        ];
        for (origin, want) in cases {
            assert_eq!(origins.allows(Some(origin)), want, "{origin}");
        }
    }

    #[test]
    fn a_star_lets_in_all() {
        let origins = origins(&["*"], false).unwrap();
        assert!(origins.allows(Some("https://any.example")) && origins.allows(Some("null")));
    }

    #[test]
    fn what_no_browser_would_send_is_refused() {
        for bad in [
            "app.example",
            "https://",
            "https://app.example/",
            "https://app.example/path",
            "https://*.example",
            "https://app.example:port",
            "https://[nonsense]",
            "://a",
            "",
            "null",
        ] {
            assert_eq!(origins(&[bad], false), Err(BadOrigin::Form(bad.to_owned())), "{bad}");
        }
        for good in ["https://[2001:db8::1]:8443", "tauri://localhost", "http://a_b.example"] {
            assert!(origins(&[good], false).unwrap().allows(Some(good)), "{good}");
        }
        assert_eq!(origins(&["*"; MAX_ORIGINS + 1], false), Err(BadOrigin::TooMany));
    }
}
