//! Keys that verify and sign tokens; each is bound to one algorithm.
//!
//! The binding is what prevents confusion: a public key is never tried as a secret, whatever a
//! token's header says. Keys too weak for their algorithm are refused when they are read.

use jsonwebtoken::{DecodingKey, EncodingKey, Header};

use super::token::Claims;

/// Most keys of a node; a token without key id may have to be tried against all of its algorithm.
pub const MAX_KEYS: usize = 16;
/// Shortest secret for HS256, in bytes: as long as the hash (RFC 7518, 3.2).
pub const MIN_SECRET_BYTES: usize = 32;
/// Size of the DER form of an RSA public key of 2,048 bits with the smallest exponent.
const MIN_RSA_DER_BYTES: usize = 268;
/// Size of an uncompressed point on P-256.
const P256_POINT_BYTES: usize = 65;
/// Size of an Ed25519 public key.
const ED25519_BYTES: usize = 32;

/// The algorithms of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Algorithm {
    /// HMAC with SHA-256: one secret, shared with whoever signs.
    HS256,
    /// RSA (PKCS #1 v1.5) with SHA-256; at least 2,048 bits.
    RS256,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// Ed25519.
    EdDSA,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::HS256, Self::RS256, Self::ES256, Self::EdDSA];

    /// Its name in tokens and configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HS256 => "HS256",
            Self::RS256 => "RS256",
            Self::ES256 => "ES256",
            Self::EdDSA => "EdDSA",
        }
    }

    /// The algorithm of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    pub(super) const fn of_library(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::HS256 => jsonwebtoken::Algorithm::HS256,
            Self::RS256 => jsonwebtoken::Algorithm::RS256,
            Self::ES256 => jsonwebtoken::Algorithm::ES256,
            Self::EdDSA => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

/// A key that cannot be used, or could not sign.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A short secret can be guessed.
    #[error(
        "a secret for HS256 needs at least {MIN_SECRET_BYTES} bytes, this one has {0}: make one \
         with `openssl rand -hex 32`"
    )]
    ShortSecret(usize),
    /// HS256 has secrets, the others have key pairs.
    #[error("{0} takes {1}")]
    WrongKind(&'static str, &'static str),
    /// The file holds something else.
    #[error(
        "not a public key for {0}: a PEM file that begins with -----BEGIN PUBLIC KEY----- is needed"
    )]
    NotPublic(&'static str),
    /// The file holds something else.
    #[error(
        "not a private key for {0}: a PEM file that begins with -----BEGIN PRIVATE KEY----- is \
         needed"
    )]
    NotPrivate(&'static str),
    /// A private key where a public one belongs: it should not lie on a server that only verifies.
    #[error("this is a private key; keep it where tokens are made, and give the public one here")]
    Private,
    /// RSA below 2,048 bits.
    #[error("RSA keys need at least 2048 bits")]
    WeakRsa,
    /// Another curve.
    #[error("{0} needs a key on {1}")]
    WrongCurve(&'static str, &'static str),
    /// The library could not sign with it.
    #[error("could not sign: {0}")]
    Signing(String),
}

/// A key that verifies tokens of one algorithm.
#[derive(Clone, Debug)]
pub struct Key {
    pub(super) id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
    /// What other keys are made of: of a secret, which who signs has too; none of a public key.
    pub(super) derived: Option<[u8; 32]>,
}

impl Key {
    /// A secret for HS256; the bytes are taken as they are.
    ///
    /// # Errors
    /// [`KeyError::ShortSecret`].
    pub fn from_secret(id: Option<String>, secret: &[u8]) -> Result<Self, KeyError> {
        if secret.len() < MIN_SECRET_BYTES {
            return Err(KeyError::ShortSecret(secret.len()));
        }
        let key = DecodingKey::from_secret(secret);
        let derived = Some(blake3::derive_key("highwater 2026 keys of a token secret", secret));
        Ok(Self { id, algorithm: Algorithm::HS256, key, derived })
    }

    /// A public key in PEM form.
    ///
    /// # Errors
    /// [`KeyError`] when it is none for that algorithm, or too weak.
    pub fn from_public_pem(
        id: Option<String>,
        algorithm: Algorithm,
        pem: &[u8],
    ) -> Result<Self, KeyError> {
        let name = algorithm.name();
        if contains(pem, b"PRIVATE KEY-----") {
            return Err(KeyError::Private);
        }
        if !contains(pem, b"PUBLIC KEY-----") {
            return Err(KeyError::NotPublic(name));
        }
        let read = match algorithm {
            Algorithm::HS256 => return Err(KeyError::WrongKind(name, "a secret, not a key file")),
            Algorithm::RS256 => DecodingKey::from_rsa_pem(pem),
            Algorithm::ES256 => DecodingKey::from_ec_pem(pem),
            Algorithm::EdDSA => DecodingKey::from_ed_pem(pem),
        };
        let key = read.map_err(|_| KeyError::NotPublic(name))?;
        let size = key.try_get_as_bytes().map_or(0, <[u8]>::len);
        match algorithm {
            Algorithm::RS256 if size < MIN_RSA_DER_BYTES => Err(KeyError::WeakRsa),
            Algorithm::ES256 if size != P256_POINT_BYTES => {
                Err(KeyError::WrongCurve(name, "P-256 (prime256v1)"))
            }
            Algorithm::EdDSA if size != ED25519_BYTES => Err(KeyError::WrongCurve(name, "Ed25519")),
            _ => Ok(Self { id, algorithm, key, derived: None }),
        }
    }

    /// The key id that tokens name it by, if it has one.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The same secret as a signer; none for a public key, which cannot sign.
    pub fn signer(&self) -> Option<Signer> {
        let secret = self.key.try_get_as_bytes().ok()?;
        let symmetric = self.algorithm == Algorithm::HS256;
        symmetric.then(|| Signer::from_secret(self.id.clone(), secret).ok())?
    }

    /// The one algorithm that it verifies.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

/// A key that makes tokens: for the command line, tests and `--dev`.
#[derive(Clone, Debug)]
pub struct Signer {
    id: Option<String>,
    algorithm: Algorithm,
    key: EncodingKey,
}

impl Signer {
    /// Signs with a secret, HS256.
    ///
    /// # Errors
    /// [`KeyError::ShortSecret`].
    pub fn from_secret(id: Option<String>, secret: &[u8]) -> Result<Self, KeyError> {
        if secret.len() < MIN_SECRET_BYTES {
            return Err(KeyError::ShortSecret(secret.len()));
        }
        Ok(Self { id, algorithm: Algorithm::HS256, key: EncodingKey::from_secret(secret) })
    }

    /// Signs with a private key in PEM form (PKCS #8).
    ///
    /// # Errors
    /// [`KeyError`] when it is none for that algorithm.
    pub fn from_private_pem(
        id: Option<String>,
        algorithm: Algorithm,
        pem: &[u8],
    ) -> Result<Self, KeyError> {
        let name = algorithm.name();
        if !contains(pem, b"PRIVATE KEY-----") {
            return Err(KeyError::NotPrivate(name));
        }
        let read = match algorithm {
            Algorithm::HS256 => return Err(KeyError::WrongKind(name, "a secret, not a key file")),
            Algorithm::RS256 => EncodingKey::from_rsa_pem(pem),
            Algorithm::ES256 => EncodingKey::from_ec_pem(pem),
            Algorithm::EdDSA => EncodingKey::from_ed_pem(pem),
        };
        let key = read.map_err(|_| KeyError::NotPrivate(name))?;
        Ok(Self { id, algorithm, key })
    }

    /// Makes a token of these claims.
    ///
    /// # Errors
    /// [`KeyError::Signing`] when the key is not what its file claimed.
    pub fn sign(&self, claims: &Claims) -> Result<String, KeyError> {
        let mut header = Header::new(self.algorithm.of_library());
        header.kid.clone_from(&self.id);
        jsonwebtoken::encode(&header, claims, &self.key)
            .map_err(|error| KeyError::Signing(error.to_string()))
    }
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RSA: &[u8] = include_bytes!("../../tests/keys/rsa.pub");
    const EC: &[u8] = include_bytes!("../../tests/keys/ec.pub");
    const ED: &[u8] = include_bytes!("../../tests/keys/ed.pub");
    const WEAK: &[u8] = include_bytes!("../../tests/keys/rsa1024.pub");
    const P384: &[u8] = include_bytes!("../../tests/keys/ec384.pub");
    const RSA_PRIVATE: &[u8] = include_bytes!("../../tests/keys/rsa.pem");

    #[test]
    fn a_public_key_fits_its_algorithm_or_is_refused() {
        use Algorithm::{ES256, EdDSA, HS256, RS256};
        let cases: &[(Algorithm, &[u8], Result<(), KeyError>)] = &[
            (RS256, RSA, Ok(())),
            (ES256, EC, Ok(())),
            (EdDSA, ED, Ok(())),
            (RS256, EC, Err(KeyError::NotPublic("RS256"))),
            (ES256, RSA, Err(KeyError::NotPublic("ES256"))),
            (EdDSA, EC, Err(KeyError::NotPublic("EdDSA"))),
            (RS256, WEAK, Err(KeyError::WeakRsa)),
            (ES256, P384, Err(KeyError::WrongCurve("ES256", "P-256 (prime256v1)"))),
            (RS256, RSA_PRIVATE, Err(KeyError::Private)),
            (HS256, RSA, Err(KeyError::WrongKind("HS256", "a secret, not a key file"))),
            (RS256, b"", Err(KeyError::NotPublic("RS256"))),
            (
                ES256,
                b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
                Err(KeyError::NotPublic("ES256")),
            ),
        ];
        for (algorithm, pem, want) in cases {
            let got = Key::from_public_pem(None, *algorithm, pem).map(drop);
            assert_eq!(&got, want, "{algorithm:?} {}", String::from_utf8_lossy(pem));
        }
    }

    #[test]
    fn a_short_secret_is_refused_at_both_ends() {
        let short = [7; MIN_SECRET_BYTES - 1];
        assert_eq!(Key::from_secret(None, &short).map(drop), Err(KeyError::ShortSecret(31)));
        assert_eq!(Signer::from_secret(None, &short).map(drop), Err(KeyError::ShortSecret(31)));
        Key::from_secret(None, &[7; MIN_SECRET_BYTES]).unwrap();
    }

    #[test]
    fn what_is_printed_holds_no_secret() {
        let secret = b"this very secret must not be shown";
        let key = Key::from_secret(None, secret).unwrap();
        let signer = Signer::from_secret(None, secret).unwrap();
        let text = format!("{key:?} {signer:?}");
        assert!(!text.contains("very secret") && !text.contains("116, 104"), "{text}");
    }

    #[test]
    fn names_lead_back() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::from_name(algorithm.name()), Some(algorithm));
        }
        for name in ["none", "hs256", "HS512", ""] {
            assert_eq!(Algorithm::from_name(name), None, "{name}");
        }
    }
}
