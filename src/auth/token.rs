//! JWTs: what is in them, and when they are believed.
//!
//! The library checks the signature; the claims are checked here, with the time that the caller
//! gives, so that nothing reads a clock and each refusal has its own name.

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode, decode_header};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::grant::{is_user, read_grants};
use super::{AuthError, Grant, Grants, Key, MAX_KEYS};
use crate::wire::MAX_OFFSET;

/// Longest token, in bytes.
pub const MAX_TOKEN_BYTES: usize = 32 << 10;
/// Most leeway for clocks that differ, in seconds.
pub const MAX_LEEWAY_SECONDS: u64 = 60;
/// Longest `jti`, in bytes.
const MAX_ID_BYTES: usize = 255;

/// A moment in a claim: in seconds since 1970 there, in milliseconds here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    /// Milliseconds since 1970, at most 2^53-1.
    pub ms: u64,
}

impl Date {
    /// That many milliseconds since 1970.
    pub fn from_ms(ms: u64) -> Self {
        Self { ms: ms.min(MAX_OFFSET) }
    }
}

impl Serialize for Date {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Whole seconds, as most libraries want them; rounded down, so that a token never lives
        // longer than was meant.
        serializer.serialize_u64(self.ms / 1_000)
    }
}

impl<'de> Deserialize<'de> for Date {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seconds;
        impl serde::de::Visitor<'_> for Seconds {
            type Value = Date;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("seconds since 1970")
            }

            fn visit_u64<E>(self, seconds: u64) -> Result<Date, E> {
                Ok(Date::from_ms(seconds.saturating_mul(1_000)))
            }

            fn visit_f64<E: serde::de::Error>(self, seconds: f64) -> Result<Date, E> {
                if !(seconds >= 0.0 && seconds.is_finite()) {
                    return Err(E::custom("a date lies after 1970"));
                }
                #[allow(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a cast from f64 saturates, and negative values are excluded above"
                )]
                Ok(Date::from_ms((seconds * 1_000.0) as u64))
            }
        }
        deserializer.deserialize_any(Seconds)
    }
}

/// `aud`: one, or several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    /// One.
    One(String),
    /// Several; one of them being meant is enough.
    Many(Vec<String>),
}

impl Audience {
    fn meets(&self, wanted: &[String]) -> bool {
        match self {
            Self::One(one) => wanted.contains(one),
            Self::Many(many) => many.iter().any(|one| wanted.contains(one)),
        }
    }
}

/// The claims of a token. Others that it may hold are left aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The user.
    pub sub: String,
    /// When it ends.
    pub exp: Date,
    /// When it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<Date>,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iat: Option<Date>,
    /// Whom it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aud: Option<Audience>,
    /// Its own name, for a revocation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// What it allows.
    #[serde(default, deserialize_with = "read_grants")]
    pub grants: Vec<Grant>,
}

/// Settings with which nothing could be verified.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadVerifier {
    /// Too many.
    #[error("at most {MAX_KEYS} keys, there are {0}")]
    Keys(usize),
    /// Two keys with one id.
    #[error("two keys have the id (kid) {0}")]
    SameId(String),
    /// Too much.
    #[error("a leeway of at most {MAX_LEEWAY_SECONDS} seconds")]
    Leeway,
}

/// Believes the tokens that its keys signed.
#[derive(Clone, Debug)]
pub struct Verifier {
    keys: Vec<Key>,
    audience: Vec<String>,
    leeway_ms: u64,
}

impl Verifier {
    /// A verifier with these keys. Where `audience` is not empty, a token must name one of it.
    ///
    /// # Errors
    /// [`BadVerifier`].
    pub fn new(
        keys: Vec<Key>,
        audience: Vec<String>,
        leeway_seconds: u64,
    ) -> Result<Self, BadVerifier> {
        if keys.len() > MAX_KEYS {
            return Err(BadVerifier::Keys(keys.len()));
        }
        if leeway_seconds > MAX_LEEWAY_SECONDS {
            return Err(BadVerifier::Leeway);
        }
        let mut ids: Vec<_> = keys.iter().filter_map(Key::id).collect();
        ids.sort_unstable();
        let twice = |pair: &&[&str]| matches!(pair, [one, next] if one == next);
        if let Some([id, _]) = ids.windows(2).find(twice) {
            return Err(BadVerifier::SameId((*id).to_owned()));
        }
        Ok(Self { keys, audience, leeway_ms: leeway_seconds * 1_000 })
    }

    /// The audience that a token must name; empty: any or none.
    pub fn audience(&self) -> &[String] {
        &self.audience
    }

    /// A key for that purpose made of all secrets, in no order; none without a secret.
    pub(super) fn shared_key(&self, purpose: &str) -> Option<[u8; 32]> {
        let mut secrets: Vec<_> = self.keys.iter().filter_map(|key| key.derived).collect();
        secrets.sort_unstable();
        (!secrets.is_empty()).then(|| blake3::derive_key(purpose, &secrets.concat()))
    }

    /// What a token allows, at `now_ms` milliseconds since 1970. Revocations are not looked at:
    /// that is [`super::Authority::authenticate`].
    ///
    /// # Errors
    /// [`AuthError`], the first that applies: form, key, signature, then claims.
    pub fn verify(&self, token: &str, now_ms: u64) -> Result<Grants, AuthError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(AuthError::TooLong);
        }
        let claims = self.signed_claims(token)?;
        self.check(&claims, now_ms)?;
        let expires_ms = claims.exp.ms.saturating_add(self.leeway_ms).min(MAX_OFFSET);
        let token_id = claims.jti.unwrap_or_else(|| hash_of(token));
        Ok(Grants {
            user: claims.sub,
            expires_ms,
            issued_ms: claims.iat.map(|iat| iat.ms),
            token_id,
            grants: claims.grants,
        })
    }

    /// The claims, once a key is found that signed them.
    fn signed_claims(&self, token: &str) -> Result<Claims, AuthError> {
        let header = decode_header(token).map_err(|_| AuthError::Malformed)?;
        if header.crit.is_some() {
            // It demands that extensions be understood, and none are.
            return Err(AuthError::Malformed);
        }
        let may_have_signed = |key: &&Key| {
            let same_id = match (&key.id, &header.kid) {
                (Some(ours), Some(theirs)) => ours == theirs,
                _ => true,
            };
            same_id && key.algorithm.of_library() == header.alg
        };
        let mut outcome = Err(AuthError::UnknownKey);
        for key in self.keys.iter().filter(may_have_signed) {
            outcome = claims_signed_by(key, token);
            if outcome != Err(AuthError::Signature) {
                break;
            }
        }
        outcome
    }

    fn check(&self, claims: &Claims, now_ms: u64) -> Result<(), AuthError> {
        if !is_user(&claims.sub) {
            let rule = "sub, the user, has 1 to 128 bytes and no control characters";
            return Err(AuthError::Claims(rule.to_owned()));
        }
        if claims.jti.as_ref().is_some_and(|id| !(1..=MAX_ID_BYTES).contains(&id.len())) {
            return Err(AuthError::Claims(format!("jti has 1 to {MAX_ID_BYTES} bytes")));
        }
        let meets = claims.aud.as_ref().is_some_and(|aud| aud.meets(&self.audience));
        if !self.audience.is_empty() && !meets {
            return Err(AuthError::Audience);
        }
        if now_ms >= claims.exp.ms.saturating_add(self.leeway_ms) {
            return Err(AuthError::Expired);
        }
        if claims.nbf.is_some_and(|nbf| nbf.ms > now_ms.saturating_add(self.leeway_ms)) {
            return Err(AuthError::NotYet);
        }
        Ok(())
    }
}

fn claims_signed_by(key: &Key, token: &str) -> Result<Claims, AuthError> {
    let mut validation = Validation::new(key.algorithm.of_library());
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    match decode::<Claims>(token, &key.key, &validation) {
        Ok(token) => Ok(token.claims),
        Err(error) => Err(match error.into_kind() {
            ErrorKind::InvalidSignature => AuthError::Signature,
            // The library reads claims only after the signature was found right.
            ErrorKind::Json(problem) => AuthError::Claims(shortened(&problem.to_string())),
            _ => AuthError::Malformed,
        }),
    }
}

/// A problem may repeat what stands in the token; what goes back is held short.
fn shortened(problem: &str) -> String {
    problem.chars().take(200).collect()
}

/// Names a token by what is signed. The signature itself is left out: some algorithms know more
/// than one for the same content, and each would be another name.
fn hash_of(token: &str) -> String {
    let signed = token.rsplit_once('.').map_or(token, |(signed, _)| signed);
    let hash = blake3::hash(signed.as_bytes()).to_hex();
    format!("blake3:{}", hash.get(..32).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use jsonwebtoken::{EncodingKey, crypto};
    use serde_json::{Value, json};

    use super::*;
    use crate::auth::{Algorithm, Can, Signer};

    const NOW: u64 = 1_800_000_000_000;
    const SECONDS: u64 = NOW / 1_000;
    const SECRET: &[u8] = b"a secret of thirty-two bytes or more";
    const OTHER: &[u8] = b"another secret of thirty-two bytes or more";
    const RSA: &[u8] = include_bytes!("../../tests/keys/rsa.pub");
    const EC: &[u8] = include_bytes!("../../tests/keys/ec.pub");
    const ED: &[u8] = include_bytes!("../../tests/keys/ed.pub");

    fn secret(id: Option<&str>, secret: &[u8]) -> Key {
        Key::from_secret(id.map(str::to_owned), secret).unwrap()
    }

    fn public(algorithm: Algorithm, pem: &[u8]) -> Key {
        Key::from_public_pem(None, algorithm, pem).unwrap()
    }

    fn verifier(keys: Vec<Key>) -> Verifier {
        Verifier::new(keys, vec![], 5).unwrap()
    }

    /// A token with exactly this header and these claims, signed with HS256 whatever they say.
    fn forge(header: &Value, claims: &str, secret: &[u8]) -> String {
        let header = URL_SAFE_NO_PAD.encode(header.to_string());
        let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
        let key = EncodingKey::from_secret(secret);
        let signature =
            crypto::sign(message.as_bytes(), &key, jsonwebtoken::Algorithm::HS256).unwrap();
        format!("{message}.{signature}")
    }

    fn token(claims: &Value) -> String {
        forge(&json!({"alg": "HS256"}), &claims.to_string(), SECRET)
    }

    /// Good claims, with these members changed; null removes one.
    fn claims(change: Value) -> Value {
        let mut claims = json!({
            "sub": "ana",
            "exp": SECONDS + 60,
            "grants": [{"logs": "docs/**", "can": ["read"]}],
        });
        for (name, value) in change.as_object().unwrap() {
            match value {
                Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
                value => claims[name] = value.clone(),
            }
        }
        claims
    }

    #[test]
    fn each_algorithm_signs_and_verifies() {
        let signers = [
            (Signer::from_secret(None, SECRET), secret(None, SECRET)),
            (
                Signer::from_private_pem(
                    None,
                    Algorithm::RS256,
                    include_bytes!("../../tests/keys/rsa.pem"),
                ),
                public(Algorithm::RS256, RSA),
            ),
            (
                Signer::from_private_pem(
                    None,
                    Algorithm::ES256,
                    include_bytes!("../../tests/keys/ec.pem"),
                ),
                public(Algorithm::ES256, EC),
            ),
            (
                Signer::from_private_pem(
                    None,
                    Algorithm::EdDSA,
                    include_bytes!("../../tests/keys/ed.pem"),
                ),
                public(Algorithm::EdDSA, ED),
            ),
        ];
        let all = verifier(signers.iter().map(|(_, key)| key.clone()).collect());
        let wanted: Claims = serde_json::from_value(claims(json!({"iat": SECONDS}))).unwrap();
        for (signer, key) in signers {
            let token = signer.unwrap().sign(&wanted).unwrap();
            for verifier in [&verifier(vec![key.clone()]), &all] {
                let grants = verifier.verify(&token, NOW).unwrap();
                assert_eq!(grants.user, "ana");
                assert_eq!(grants.expires_ms, NOW + 65_000, "leeway included");
                assert_eq!(grants.issued_ms, Some(NOW));
                assert!(
                    grants.allows("docs/1", Can::Read) && !grants.allows("docs/1", Can::Append)
                );
            }
            let mut forged = token.clone().into_bytes();
            let at = forged.iter().rposition(|byte| *byte == b'.').unwrap() + 5;
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            assert_eq!(
                all.verify(&forged, NOW),
                Err(AuthError::Signature),
                "{:?}",
                key.algorithm()
            );
        }
    }

    #[test]
    fn a_public_key_is_never_a_secret() {
        let all = [(Algorithm::RS256, RSA), (Algorithm::ES256, EC), (Algorithm::EdDSA, ED)];
        for (algorithm, pem) in all {
            let key = public(algorithm, pem);
            let der = key.key.try_get_as_bytes().unwrap().to_vec();
            let verifier = verifier(vec![key]);
            for secret in [pem, &der] {
                let good = claims(json!({})).to_string();
                let confused = forge(&json!({"alg": "HS256"}), &good, secret);
                assert_eq!(verifier.verify(&confused, NOW), Err(AuthError::UnknownKey));
                let named = forge(&json!({"alg": algorithm.name()}), &good, secret);
                assert_eq!(verifier.verify(&named, NOW), Err(AuthError::Signature));
            }
        }
    }

    #[test]
    fn what_is_no_signed_token_is_refused() {
        let verifier = verifier(vec![secret(None, SECRET)]);
        let good = claims(json!({})).to_string();
        let sign = |header: Value| forge(&header, &good, SECRET);
        let unsigned = |header: Value| {
            let token = sign(header);
            token.rsplit_once('.').unwrap().0.to_owned() + "."
        };
        let cases = [
            (unsigned(json!({"alg": "none"})), AuthError::Malformed),
            (sign(json!({"alg": "none"})), AuthError::Malformed),
            (sign(json!({"alg": "NONE"})), AuthError::Malformed),
            (unsigned(json!({"alg": "HS256"})), AuthError::Signature),
            (sign(json!({"alg": "HS512"})), AuthError::UnknownKey),
            (sign(json!({"alg": "RS256"})), AuthError::UnknownKey),
            (sign(json!({"typ": "JWT"})), AuthError::Malformed),
            (sign(json!({"alg": "HS256", "crit": ["exp"]})), AuthError::Malformed),
            (forge(&json!({"alg": "HS256"}), &good, OTHER), AuthError::Signature),
            (String::new(), AuthError::Malformed),
            ("a.b.c".to_owned(), AuthError::Malformed),
            ("..".to_owned(), AuthError::Malformed),
            ("x".repeat(MAX_TOKEN_BYTES), AuthError::Malformed),
            ("x".repeat(MAX_TOKEN_BYTES + 1), AuthError::TooLong),
        ];
        for (token, want) in cases {
            assert_eq!(verifier.verify(&token, NOW), Err(want), "{token:.200}");
        }
    }

    #[test]
    fn a_key_id_chooses_the_key() {
        let sign = |id: Option<&str>, with: &[u8]| {
            let mut header = json!({"alg": "HS256"});
            if let Some(id) = id {
                header["kid"] = json!(id);
            }
            forge(&header, &claims(json!({})).to_string(), with)
        };
        let named = verifier(vec![secret(Some("one"), SECRET), secret(Some("two"), OTHER)]);
        let unnamed = verifier(vec![secret(None, SECRET)]);
        let cases = [
            (&named, sign(Some("one"), SECRET), Ok(())),
            (&named, sign(Some("two"), OTHER), Ok(())),
            (&named, sign(None, OTHER), Ok(())),
            (&named, sign(Some("one"), OTHER), Err(AuthError::Signature)),
            (&named, sign(Some("three"), SECRET), Err(AuthError::UnknownKey)),
            (&unnamed, sign(Some("any"), SECRET), Ok(())),
            (&verifier(vec![]), sign(None, SECRET), Err(AuthError::UnknownKey)),
        ];
        for (verifier, token, want) in cases {
            assert_eq!(verifier.verify(&token, NOW).map(drop), want);
        }
    }

    #[test]
    fn claims_are_checked_one_by_one() {
        let verifier = verifier(vec![secret(None, SECRET)]);
        let many = vec![json!({"logs": "a", "can": []}); 65];
        let wrong = |claims: &Value| {
            let error = verifier.verify(&token(claims), NOW).unwrap_err();
            assert!(matches!(error, AuthError::Claims(_)), "{claims}: {error:?}");
            assert_eq!(error.code(), crate::wire::Code::Unauthorized);
        };
        for change in [
            json!({"sub": null}),
            json!({"sub": ""}),
            json!({"sub": 7}),
            json!({"sub": "x".repeat(129)}),
            json!({"sub": "a\0b"}),
            json!({"exp": null}),
            json!({"exp": "soon"}),
            json!({"exp": -1}),
            json!({"exp": true}),
            json!({"nbf": "now"}),
            json!({"iat": []}),
            json!({"jti": ""}),
            json!({"jti": "x".repeat(256)}),
            json!({"aud": 5}),
            json!({"grants": "all"}),
            json!({"grants": [{"logs": "a", "can": ["everything"]}]}),
            json!({"grants": many}),
        ] {
            wrong(&claims(change));
        }
        let mut most = many;
        most.pop();
        verifier.verify(&token(&claims(json!({"grants": most}))), NOW).unwrap();
        let none = verifier.verify(&token(&claims(json!({"grants": null}))), NOW).unwrap();
        assert!(none.grants.is_empty());
        verifier.verify(&token(&claims(json!({"exp": 1e300, "extra": {"a": 1}}))), NOW).unwrap();
        let long = format!(r#"{{"sub":"ana","exp":1,"grants":[{{"{}":1}}]}}"#, "x".repeat(10_000));
        let long = forge(&json!({"alg": "HS256"}), &long, SECRET);
        let error = verifier.verify(&long, NOW).unwrap_err();
        assert!(error.to_string().len() < 300, "{error}");
        let twice = r#"{"sub":"ana","sub":"ben","exp":99999999999}"#;
        let twice = forge(&json!({"alg": "HS256"}), twice, SECRET);
        assert!(matches!(verifier.verify(&twice, NOW), Err(AuthError::Claims(_))));
    }

    #[test]
    fn time_is_the_callers_and_leeway_bends_it() {
        let verifier = verifier(vec![secret(None, SECRET)]);
        let cases = [
            (json!({"exp": SECONDS + 1}), Ok(())),
            (json!({"exp": SECONDS}), Ok(())),
            (json!({"exp": SECONDS - 4}), Ok(())),
            (json!({"exp": SECONDS - 5}), Err(AuthError::Expired)),
            (json!({"exp": SECONDS as f64 - 4.5}), Ok(())),
            (json!({"exp": 0}), Err(AuthError::Expired)),
            (json!({"nbf": SECONDS}), Ok(())),
            (json!({"nbf": SECONDS + 5}), Ok(())),
            (json!({"nbf": SECONDS + 6}), Err(AuthError::NotYet)),
            (json!({"nbf": SECONDS as f64 + 5.25}), Err(AuthError::NotYet)),
        ];
        for (change, want) in cases {
            assert_eq!(
                verifier.verify(&token(&claims(change.clone())), NOW).map(drop),
                want,
                "{change}"
            );
        }
        assert_eq!(AuthError::Expired.code(), crate::wire::Code::TokenExpired);
    }

    #[test]
    fn an_audience_counts_where_one_is_configured() {
        let keys = vec![secret(None, SECRET)];
        let any = verifier(keys.clone());
        let ours = Verifier::new(keys, vec!["push".to_owned(), "p2".to_owned()], 0).unwrap();
        let cases = [
            (json!({}), false),
            (json!({"aud": "push"}), true),
            (json!({"aud": ["other", "p2"]}), true),
            (json!({"aud": "other"}), false),
            (json!({"aud": []}), false),
            (json!({"aud": "PUSH"}), false),
        ];
        for (change, good) in cases {
            let token = token(&claims(change.clone()));
            assert!(any.verify(&token, NOW).is_ok(), "{change}");
            let want = if good { Ok(()) } else { Err(AuthError::Audience) };
            assert_eq!(ours.verify(&token, NOW).map(drop), want, "{change}");
        }
    }

    #[test]
    fn a_token_is_named_by_its_jti_or_by_what_is_signed() {
        let verifier = verifier(vec![secret(None, SECRET)]);
        let id = |claims: &Value| verifier.verify(&token(claims), NOW).unwrap().token_id;
        assert_eq!(id(&claims(json!({"jti": "t-1"}))), "t-1");
        let hash = id(&claims(json!({})));
        assert!(hash.starts_with("blake3:") && hash.len() == 39, "{hash}");
        assert_eq!(id(&claims(json!({}))), hash);
        assert_ne!(id(&claims(json!({"sub": "ben"}))), hash);
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let key = || secret(Some("k"), SECRET);
        let new = |keys, leeway| Verifier::new(keys, vec![], leeway).map(drop);
        assert_eq!(new(vec![key(), key()], 0), Err(BadVerifier::SameId("k".to_owned())));
        assert_eq!(new(vec![key()], 61), Err(BadVerifier::Leeway));
        let many = vec![secret(None, SECRET); MAX_KEYS + 1];
        assert_eq!(new(many, 0), Err(BadVerifier::Keys(MAX_KEYS + 1)));
        assert_eq!(new(vec![key()], 60), Ok(()));
    }
}
