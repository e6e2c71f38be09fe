//! One list of addresses: what each takes, and who answers it. The router is made of it.
//!
//! Promise: nothing that a request says is passed over. A parameter or a `Highwater-*` header that
//! the address does not know, or one that comes twice, is refused before anything is done: what was
//! meant as a condition must never be taken for an order without one; nor is a body taken that was
//! compressed, since its bytes are not what was meant. The check is made where a
//! route is, so that no handler can be without it; handlers get what was read by the check.

use axum::Router;
use axum::extract::Request;
use axum::handler::Handler;
use axum::http::{HeaderMap, HeaderName, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use serde::de::DeserializeOwned;

use super::answer::Problem;
use super::query::{self, Read};

/// Headers whose names begin so are ours; each address knows the ones that mean something to it.
const OURS: &str = "highwater-";
/// With it any header of a record, whose name is the app's own.
pub(super) const OWN_HEADER: &str = "highwater-header-";
/// The history that whoever asks has seen; see [`super::history`].
pub(super) const POSITION: &str = "highwater-position";
/// The log that is meant.
pub(super) const LOG: &str = "highwater-log";
/// Headers that name a writer.
pub(super) const WRITER: [&str; 3] = ["highwater-writer", "highwater-seq", "highwater-oldest"];

/// What one method of an address takes besides path, token and body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Takes {
    /// The method.
    pub method: &'static str,
    /// The address, with names in braces for its parts.
    pub path: &'static str,
    /// The parameters that it knows.
    pub query: &'static [&'static str],
    /// The headers of ours that it knows, in lower case; one that ends in `-` stands for all that
    /// begin so.
    pub headers: &'static [&'static str],
}

impl Takes {
    /// Refuses what is not known, or said twice.
    ///
    /// # Errors
    /// `bad_request` that names it, and what is known.
    fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        let names = query::names(uri)?;
        for (at, name) in names.iter().enumerate() {
            if !self.query.contains(&name.as_str()) {
                return Err(self.refuse(name, "parameter", self.query));
            }
            if names.iter().take(at).any(|before| before == name) {
                return Err(Problem::bad_request(format!("`{name}` is given twice")));
            }
        }
        not_compressed(headers)?;
        headers.keys().try_for_each(|name| self.check_header(name, headers))
    }

    fn check_header(&self, name: &HeaderName, headers: &HeaderMap) -> Result<(), Problem> {
        let text = name.as_str();
        let known = |known: &&str| match known.strip_suffix('-') {
            Some(_) => text.starts_with(*known) && text.len() > known.len(),
            None => text == *known,
        };
        if !text.starts_with(OURS) {
            return Ok(());
        }
        if !self.headers.iter().any(known) {
            return Err(self.refuse(text, "header", self.headers));
        }
        // A record may have several headers of one name.
        if !text.starts_with(OWN_HEADER) && headers.get_all(name).iter().count() > 1 {
            return Err(Problem::bad_request(format!("`{text}` is given twice")));
        }
        Ok(())
    }

    fn refuse(&self, name: &str, kind: &str, known: &[&str]) -> Problem {
        let (method, path) = (self.method, shown(self.path));
        let shown: String = name.chars().take(64).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Problem::bad_request(format!(
            "`{shown}` is no {kind} of {method} {path}, so nothing was done; it takes {known}"
        ))
    }
}

/// Refuses a body that is not sent as it is.
///
/// # Errors
/// `bad_request`, with the status of HTTP for it.
fn not_compressed(headers: &HeaderMap) -> Result<(), Problem> {
    let all = headers.get_all(header::CONTENT_ENCODING).iter();
    let mut codings = all.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let as_it_is = |coding: &[u8]| {
        let coding = coding.trim_ascii();
        coding.is_empty() || coding.eq_ignore_ascii_case(b"identity")
    };
    if codings.all(as_it_is) {
        return Ok(());
    }
    let message = "content-encoding: bodies are taken as they are, not compressed: send it without";
    Err(Problem::bad_request(message).status(StatusCode::UNSUPPORTED_MEDIA_TYPE.as_u16()))
}

/// An address as documents write it: the router marks a part that may hold slashes.
fn shown(path: &str) -> String {
    path.replace("{*", "{")
}

/// A method of an address, with what it takes and who answers.
pub(in crate::gateway) struct Route<S> {
    takes: Takes,
    answers: MethodRouter<S>,
}

impl<S: Clone + Send + Sync + 'static> Route<S> {
    /// One that takes the parameters that `Q` has as its fields; [`query::Parameters`] gives them
    /// to the handler.
    pub(in crate::gateway) fn asking<Q, H, T>(
        method: &'static str,
        path: &'static str,
        headers: &'static [&'static str],
        handler: H,
    ) -> Self
    where
        Q: DeserializeOwned + Clone + Send + Sync + 'static,
        H: Handler<T, S>,
        T: 'static,
    {
        let takes = Takes { method, path, query: query::fields::<Q>(), headers };
        let check = from_fn(move |request, next| check::<Q>(takes, request, next));
        Self { takes, answers: on(filter(method), handler).route_layer(check) }
    }

    /// One that takes no parameters.
    pub(in crate::gateway) fn plain<H, T>(
        method: &'static str,
        path: &'static str,
        headers: &'static [&'static str],
        handler: H,
    ) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        Self::asking::<query::Nothing, H, T>(method, path, headers, handler)
    }
}

/// The addresses of a list.
pub(in crate::gateway) fn router<S>(routes: Vec<Route<S>>) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    let add = |router: Router<S>, route: Route<S>| router.route(route.takes.path, route.answers);
    routes.into_iter().fold(Router::new(), add)
}

/// What the addresses of a list take.
pub(super) fn takes<S>(routes: &[Route<S>]) -> impl Iterator<Item = Takes> {
    routes.iter().map(|route| route.takes)
}

fn filter(method: &str) -> MethodFilter {
    match method {
        "HEAD" => MethodFilter::HEAD,
        "POST" => MethodFilter::POST,
        "PUT" => MethodFilter::PUT,
        "DELETE" => MethodFilter::DELETE,
        _ => MethodFilter::GET,
    }
}

async fn check<Q>(takes: Takes, mut request: Request, next: Next) -> Response
where
    Q: DeserializeOwned + Clone + Send + Sync + 'static,
{
    let checked = takes.check(request.uri(), request.headers());
    match checked.and_then(|()| Read::<Q>::of(request.uri())) {
        Ok(read) => {
            request.extensions_mut().insert(read);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAKES: Takes = Takes {
        method: "POST",
        path: "/x",
        query: &["from", "limit"],
        headers: &["highwater-key", OWN_HEADER],
    };

    fn refused(query: &str, headers: &[(&str, &str)]) -> Option<String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        let uri = format!("http://x/y?{query}").parse().unwrap();
        TAKES.check(&uri, &map).err().map(|problem| problem.refusal.message)
    }

    #[test]
    fn what_is_not_known_is_named_with_what_is() {
        assert_eq!(refused("from=1&limit=2", &[("accept", "x"), ("accept", "y")]), None);
        for query in ["before=1", "from=1&before", "be%66ore", "=1", "From=1"] {
            let told = refused(query, &[]).unwrap();
            assert!(told.contains("is no parameter of POST /x"), "{told}");
            assert!(told.ends_with("it takes from, limit"), "{told}");
        }
        let told = refused(&"x".repeat(10_000), &[]).unwrap();
        assert!(told.len() < 200, "{told}");
        let told = refused("", &[("Highwater-If-Head", "1")]).unwrap();
        assert!(told.starts_with("`highwater-if-head` is no header"), "{told}");
        assert!(refused("", &[("highwater-header-", "1")]).is_some(), "a header without a name");
    }

    #[test]
    fn what_comes_twice_is_refused() {
        for query in ["from=1&from=1", "from=1&limit=1&fr%6fm=2"] {
            assert_eq!(refused(query, &[]).unwrap(), "`from` is given twice");
        }
        let key = ("highwater-key", "k");
        assert_eq!(refused("", &[key]), None);
        assert_eq!(refused("", &[key, key]).unwrap(), "`highwater-key` is given twice");
        let own = ("highwater-header-a", "1");
        assert_eq!(refused("", &[own, own]), None, "a record may have two of a name");
    }
}
