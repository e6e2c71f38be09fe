//! What a node in development serves besides: the demo at `/demo`, a shared board of notes with the
//! connection under it; the client as one file, `/highwater.js`; and what leads to both, at `/`.
//!
//! Promise: the pages take nothing from anywhere else, and run nothing that is not in these files;
//! their policy says so to the browser. The files are built from `client-js` by
//! `npm run build:demo` and embedded here; a test of `client-js` holds the two together.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderName, StatusCode, header};
use axum::response::IntoResponse;
use serde::Deserialize;

use super::Gate;
use super::http::Route;

/// A file of the demo: its address, type and content.
type Asset = (&'static str, &'static str, &'static str);

const ASSETS: [Asset; 7] = [
    ("/", "text/html; charset=utf-8", include_str!("demo/root.html")),
    ("/highwater.js", "text/javascript; charset=utf-8", include_str!("demo/highwater.js")),
    ("/demo", "text/html; charset=utf-8", include_str!("demo/index.html")),
    ("/demo/", "text/html; charset=utf-8", include_str!("demo/index.html")),
    ("/demo/app.js", "text/javascript; charset=utf-8", include_str!("demo/app.js")),
    ("/demo/style.css", "text/css; charset=utf-8", include_str!("demo/style.css")),
    ("/demo/icon.svg", "image/svg+xml", include_str!("demo/icon.svg")),
];

/// What the page may load and whom it may talk to: the server it came from.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// What the demo's page may be asked with.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct DemoQuery {
    /// One window in place of two; the page itself reads it.
    #[serde(rename = "window")]
    _window: Option<String>,
}

/// The addresses of the demo.
pub(super) fn routes() -> Vec<Route<Arc<Gate>>> {
    let route = |(address, kind, content): Asset| {
        let page = move || async move { answer(kind, content) };
        if address.starts_with("/demo") && kind.starts_with("text/html") {
            Route::asking::<DemoQuery, _, _>("GET", address, &[], page)
        } else {
            Route::plain("GET", address, &[], page)
        }
    };
    ASSETS.into_iter().map(route).collect()
}

/// How long the answer to whoever has the node killed has to get out.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// What the demo asks for besides.
pub(super) fn deeds() -> Vec<Route<Arc<Gate>>> {
    vec![Route::plain("POST", "/v1/dev/kill", &[], kill)]
}

/// `POST /v1/dev/kill`: the node kills itself as `kill -9` does, to show that nothing is lost.
async fn kill() -> StatusCode {
    tokio::spawn(async {
        tokio::time::sleep(LAST_WORDS).await;
        let killed =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        tracing::error!(?killed, "the node could not be killed");
    });
    StatusCode::ACCEPTED
}

fn answer(kind: &'static str, content: &'static str) -> impl IntoResponse {
    let headers: [(HeaderName, &str); 5] = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // Small, and another version of the server may stand at the same address tomorrow.
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_takes_nothing_from_elsewhere() {
        for (address, _, content) in ASSETS.iter().filter(|asset| asset.0 != "/highwater.js") {
            let local = content.replace("http://www.w3.org/2000/svg", "");
            assert!(!local.contains("https://") && !local.contains("src=\"//"), "{address}");
            assert!(!local.contains("url(http"), "{address}");
        }
        let page = include_str!("demo/index.html");
        for inline in ["style=\"", "onclick=\"", "<style", "<script>"] {
            assert!(!page.contains(inline), "the policy forbids {inline}");
        }
        for asset in ["/demo/app.js", "/demo/style.css", "/demo/icon.svg"] {
            assert!(page.contains(asset) && ASSETS.iter().any(|(address, ..)| *address == asset));
        }
    }
}
