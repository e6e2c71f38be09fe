//! The log on standard error.
//!
//! Promise: whatever level is asked for, no token and no payload is in it. What libraries say of
//! the bytes that they carry has both, so they are heard no further than `info`.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use super::config::LogFormat;

/// What is logged unless `HIGHWATER_LOG` says otherwise.
const LOGGED: &str = "info,fjall=warn,lsm_tree=warn,async_nats=warn";
/// Who carries the bytes of clients, and of the journal.
const CARRIERS: [&str; 9] = [
    "async_nats",
    "axum",
    "h2",
    "hyper",
    "hyper_util",
    "mio",
    "rustls",
    "tokio_tungstenite",
    "tungstenite",
];

/// What is logged, by the directives that were asked for; those that cannot be read count as none.
fn filter(asked: Option<&str>) -> EnvFilter {
    let asked = asked.filter(|asked| !asked.trim().is_empty()).unwrap_or(LOGGED);
    // The most that a carrier says; less of it may be asked for by its name.
    let quieter = |crate_name: &str| {
        let own = asked.split(',').filter_map(|one| one.trim().strip_prefix(crate_name));
        own.filter_map(|rest| rest.strip_prefix('='))
            .any(|level| matches!(level.to_ascii_lowercase().as_str(), "off" | "error" | "warn"))
    };
    let most = CARRIERS.iter().filter(|name| !quieter(name)).map(|name| format!("{name}=info"));
    let all: Vec<_> = std::iter::once(asked.to_owned()).chain(most).collect();
    EnvFilter::try_new(all.join(",")).unwrap_or_else(|_| EnvFilter::new(LOGGED))
}

pub(super) fn log_to_stderr(format: LogFormat) {
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter(std::env::var("HIGHWATER_LOG").ok().as_deref()))
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        // Who read the log may go; to say so there would be the end of the node.
        .log_internal_errors(false);
    // Fails only where a subscriber is set already, as in tests of this process.
    match format {
        LogFormat::Human => subscriber.try_init().ok(),
        LogFormat::Json => subscriber.json().try_init().ok(),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_carries_bytes_is_heard_no_further_than_info() {
        for asked in ["trace", "tungstenite=trace,hyper=trace", "info,tungstenite=debug"] {
            let told = filter(Some(asked)).to_string();
            for name in CARRIERS {
                let mut levels =
                    told.split(',').filter_map(|one| one.strip_prefix(name)?.strip_prefix('='));
                assert_eq!(levels.next_back(), Some("info"), "{asked}: {name} in {told}");
            }
        }
        let told = filter(Some("debug,async_nats=warn")).to_string();
        assert!(told.contains("async_nats=warn") && !told.contains("async_nats=info"), "{told}");
        for none in [None, Some(""), Some("no=such=level")] {
            assert!(filter(none).to_string().contains("fjall=warn"), "{none:?}");
        }
    }
}
