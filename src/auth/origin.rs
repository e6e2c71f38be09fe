//! Origins: which web pages may connect.
//!
//! A browser names the page's origin with each request, and a page cannot forge it; anything else
//! than a browser names none and is let through, since its token is all that counts. An origin is
//! compared whole, as a browser would write it: scheme and host in lower case, and the port unless
//! it is the scheme's own.

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
            } else {
                let written = as_browsers_do(origin);
                origins.listed.push(written.ok_or_else(|| BadOrigin::Form(origin.clone()))?);
            }
        }
        Ok(origins)
    }

    /// Whether a request with this `Origin` header may go on; none: it comes from no browser.
    pub fn allows(&self, origin: Option<&str>) -> bool {
        let Some(origin) = origin else { return true };
        if self.any {
            return true;
        }
        let Some(origin) = as_browsers_do(origin) else { return false };
        self.listed.contains(&origin) || (self.local && is_local(&origin))
    }
}

/// Whether a page of that origin is one that was served under this name, as `Host` says it.
pub fn is_of_host(origin: &str, host: &str) -> bool {
    let Some((scheme, _)) = origin.split_once("://") else { return false };
    let (origin, host) = (as_browsers_do(origin), as_browsers_do(&format!("{scheme}://{host}")));
    origin.is_some() && origin == host
}

/// An origin as browsers write it, so that equal ones are equal texts; none where it is none.
fn as_browsers_do(origin: &str) -> Option<String> {
    let origin = origin.to_ascii_lowercase();
    let (scheme, rest) = origin.split_once("://").filter(|_| is_origin(&origin))?;
    let (host, port) = split_port(rest);
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let address = address.and_then(|address| address.parse::<std::net::Ipv6Addr>().ok());
    let host = address.map_or_else(|| host.to_owned(), |address| format!("[{address}]"));
    let port = port.and_then(|port| port.parse::<u16>().ok());
    Some(match port.filter(|port| own_port(scheme) != Some(*port)) {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    })
}

/// The port that a browser leaves out.
fn own_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

/// Whether it has the form of an origin.
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
    fn a_port_that_browsers_leave_out_may_be_written() {
        let listed = ["https://App.Example:443", "http://A.example:80", "https://b.example:080"];
        let listed =
            [&listed[..], &["http://[2001:DB8::0:1]:0080", "http://c.example:443"]].concat();
        let origins = origins(&listed, false).unwrap();
        let cases = [
            ("https://app.example", true),
            ("https://app.example:443", true),
            ("https://APP.example:0443", true),
            ("http://app.example:443", false),
            ("https://app.example:80", false),
            ("http://a.example", true),
            ("https://a.example", false),
            ("https://b.example", false),
            ("https://b.example:80", true),
            ("http://[2001:db8::1]", true),
            ("http://c.example", false),
            ("http://c.example:443", true),
        ];
        for (origin, want) in cases {
            assert_eq!(origins.allows(Some(origin)), want, "{origin}");
        }
    }

    #[test]
    fn a_page_is_of_the_host_that_served_it_however_that_is_written() {
        for (origin, host, want) in [
            ("https://app.example", "app.example", true),
            ("https://app.example", "App.Example:443", true),
            ("http://app.example", "app.example:443", false),
            ("http://app.example:8080", "app.example:8080", true),
            ("http://app.example:8080", "app.example", false),
            ("null", "app.example", false),
            ("", "", false),
            ("https://app.example", "app.example/x", false),
        ] {
            assert_eq!(is_of_host(origin, host), want, "{origin} {host}");
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
            ("http://LocalHost:80", true),
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
