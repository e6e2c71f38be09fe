//! The demo: a shared board of notes, and the connection under it, at `/demo`.
//!
//! Promise: the page takes nothing from anywhere else, and runs nothing that is not in these files;
//! its policy says so to the browser. The files are built from `client-js/demo` by
//! `npm run build:demo` and embedded here; a test of `client-js` holds the two together.

use std::sync::Arc;

use axum::http::{HeaderName, header};
use axum::response::IntoResponse;

use super::Gate;
use super::http::Route;

/// A file of the demo: its address, type and content.
type Asset = (&'static str, &'static str, &'static str);

const ASSETS: [Asset; 5] = [
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

/// The addresses of the demo.
pub(super) fn routes() -> Vec<Route<Arc<Gate>>> {
    let route = |(address, kind, content)| {
        Route::plain("GET", address, &[], move || async move { answer(kind, content) })
    };
    ASSETS.into_iter().map(route).collect()
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
        for (address, _, content) in ASSETS {
            let local = content.replace("http://www.w3.org/2000/svg", "");
            assert!(!local.contains("https://") && !local.contains("src=\"//"), "{address}");
            assert!(!local.contains("url(http"), "{address}");
        }
        let (_, _, page) = ASSETS[0];
        for inline in ["style=\"", "onclick=\"", "<style", "<script>"] {
            assert!(!page.contains(inline), "the policy forbids {inline}");
        }
        for asset in ["/demo/app.js", "/demo/style.css", "/demo/icon.svg"] {
            assert!(page.contains(asset) && ASSETS.iter().any(|(address, ..)| *address == asset));
        }
    }
}
