//! Who someone is and what they may do: tokens, grants, revocations and origins.
//!
//! Promise: a token is believed only if one of the configured keys signed it with that key's own
//! algorithm, and only until it expires or is revoked. Time is an argument; nothing here opens a
//! file or a socket. Secrets never appear in errors or in `Debug`.
//!
//! [`Authority::authenticate`] is the one way in: signature, claims and revocations together.
//! Afterwards a socket keeps its [`Grants`], asks [`Grants::allows`] at each delivery, and calls
//! [`Authority::recheck`] whenever [`Revocations::generation`] has moved.

mod dev;
mod grant;
mod key;
mod origin;
mod revoke;
mod token;

pub use dev::{ANONYMOUS, DevUser, dev_user};
pub use grant::{Can, Grant, Grants, MAX_GRANTS, MAX_USER_BYTES, Rights, is_user};
pub use key::{Algorithm, Key, KeyError, MAX_KEYS, MIN_SECRET_BYTES, Signer};
pub use origin::{BadOrigin, Origins, is_of_host};
pub use revoke::{Full, Revocation, Revocations};
pub use token::{
    Audience, BadVerifier, Claims, Date, MAX_LEEWAY_SECONDS, MAX_TOKEN_BYTES, Verifier,
};

use crate::wire::{Code, Refusal};

/// Why a token is not believed, or no longer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// There is none.
    #[error("a token is needed: send one in Hello, or as Authorization: Bearer")]
    Missing,
    /// It is longer than [`MAX_TOKEN_BYTES`].
    #[error("the token is longer than {MAX_TOKEN_BYTES} bytes")]
    TooLong,
    /// It is no JWT, or its header asks for what is not supported (`alg: none` among it).
    #[error("the token is no JWT signed with HS256, RS256, ES256 or EdDSA")]
    Malformed,
    /// No key of that algorithm and key id is configured.
    #[error("no configured key has the token's algorithm and key id (kid)")]
    UnknownKey,
    /// No key that may have signed it did.
    #[error("the token's signature is wrong")]
    Signature,
    /// A claim is missing or has a wrong form.
    #[error("the token's claims are wrong: {0}")]
    Claims(String),
    /// It is for somebody else.
    #[error("the token is for another audience (aud)")]
    Audience,
    /// It is not valid yet.
    #[error("the token is not valid yet (nbf): check the clocks")]
    NotYet,
    /// It has expired.
    #[error("the token has expired: refresh it")]
    Expired,
    /// It, or its user, was revoked.
    #[error("the token or its user was revoked")]
    Revoked,
}

impl AuthError {
    /// The code that goes to whoever sent the token.
    pub const fn code(&self) -> Code {
        match self {
            Self::Expired => Code::TokenExpired,
            Self::Revoked => Code::Revoked,
            Self::Missing
            | Self::TooLong
            | Self::Malformed
            | Self::UnknownKey
            | Self::Signature
            | Self::Claims(_)
            | Self::Audience
            | Self::NotYet => Code::Unauthorized,
        }
    }
}

impl From<AuthError> for Refusal {
    fn from(error: AuthError) -> Self {
        Self::because(error.code(), error.to_string())
    }
}

/// All that a node needs to decide who someone is.
#[derive(Debug)]
pub struct Authority {
    verifier: Verifier,
    revocations: Revocations,
    origins: Origins,
    dev: Option<Signer>,
}

impl Authority {
    /// Believes what that verifier believes; nobody is revoked yet. With `dev`, whose tokens the
    /// verifier has to believe, one who brings no token is taken for the user [`ANONYMOUS`].
    pub fn new(verifier: Verifier, origins: Origins, dev: Option<Signer>) -> Self {
        Self { verifier, revocations: Revocations::default(), origins, dev }
    }

    /// Who it is that brings this token, at `now_ms` milliseconds since 1970.
    ///
    /// # Errors
    /// [`AuthError`], the first that applies.
    pub fn authenticate(&self, token: Option<&str>, now_ms: u64) -> Result<Grants, AuthError> {
        let grants = match token {
            Some(token) => self.verifier.verify(token, now_ms)?,
            None if self.dev.is_some() => dev::anonymous(now_ms),
            None => return Err(AuthError::Missing),
        };
        self.revocations.check(&grants)?;
        Ok(grants)
    }

    /// Whether grants given earlier still hold.
    ///
    /// # Errors
    /// [`AuthError::Expired`] or [`AuthError::Revoked`].
    pub fn recheck(&self, grants: &Grants, now_ms: u64) -> Result<(), AuthError> {
        self.revocations.check(grants)?;
        if now_ms >= grants.expires_ms { Err(AuthError::Expired) } else { Ok(()) }
    }

    /// Makes up a user with every right, and its token; none but in development.
    ///
    /// # Errors
    /// [`KeyError::Signing`].
    pub fn dev_user(&self, now_ms: u64) -> Result<Option<DevUser>, KeyError> {
        let audience = self.verifier.audience().first();
        self.dev.as_ref().map(|signer| dev_user(signer, audience, now_ms)).transpose()
    }

    /// A key for that purpose, the same on every node that has the same secrets; none where tokens
    /// are verified by public keys alone.
    pub fn shared_key(&self, purpose: &str) -> Option<[u8; 32]> {
        self.verifier.shared_key(purpose)
    }

    /// Who may no longer come in.
    pub const fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// The pages that may connect.
    pub const fn origins(&self) -> &Origins {
        &self.origins
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Whom;

    const NOW: u64 = 1_800_000_000_000;

    fn authority(dev: bool) -> (Authority, Signer) {
        let secret = b"a secret of thirty-two bytes or more";
        let key = Key::from_secret(None, secret).unwrap();
        let signer = Signer::from_secret(None, secret).unwrap();
        let verifier = Verifier::new(vec![key], vec![], 5).unwrap();
        let origins = Origins::parse(&[], dev).unwrap();
        (Authority::new(verifier, origins, dev.then(|| signer.clone())), signer)
    }

    #[test]
    fn a_token_is_needed_but_in_dev() {
        let (strict, _) = authority(false);
        assert_eq!(strict.authenticate(None, NOW), Err(AuthError::Missing));
        let (dev, _) = authority(true);
        let grants = dev.authenticate(None, NOW).unwrap();
        assert_eq!(grants.user, ANONYMOUS);
        assert!(grants.allows("any/log", Can::Append) && grants.administers_all());
    }

    #[test]
    fn a_dev_user_can_come_in_and_is_somebody() {
        let (authority, signer) = authority(true);
        let one = authority.dev_user(NOW).unwrap().unwrap();
        let other = dev_user(&signer, None, NOW).unwrap();
        assert_ne!(one.user, other.user);
        let grants = authority.authenticate(Some(&one.token), NOW).unwrap();
        assert_eq!(grants.user, one.user);
        assert!(Can::ALL.iter().all(|can| grants.allows("a/b", *can)));
        assert_eq!(self::authority(false).0.dev_user(NOW), Ok(None));
    }

    #[test]
    fn a_revocation_ends_what_was_granted() {
        let (authority, signer) = authority(false);
        let user = dev_user(&signer, None, NOW).unwrap();
        let grants = authority.authenticate(Some(&user.token), NOW).unwrap();
        authority.recheck(&grants, NOW).unwrap();
        let before = authority.revocations().generation();
        let whom = Whom::User(user.user.clone());
        authority.revocations().add(Revocation { whom, before_ms: NOW + 1 }).unwrap();
        assert_ne!(authority.revocations().generation(), before);
        assert_eq!(authority.recheck(&grants, NOW), Err(AuthError::Revoked));
        assert_eq!(authority.authenticate(Some(&user.token), NOW), Err(AuthError::Revoked));
    }

    #[test]
    fn grants_end_when_their_token_does() {
        let (authority, signer) = authority(false);
        let user = dev_user(&signer, None, NOW).unwrap();
        let grants = authority.authenticate(Some(&user.token), NOW).unwrap();
        authority.recheck(&grants, grants.expires_ms - 1).unwrap();
        assert_eq!(authority.recheck(&grants, grants.expires_ms), Err(AuthError::Expired));
        assert_eq!(
            authority.authenticate(Some(&user.token), grants.expires_ms),
            Err(AuthError::Expired),
            "both ways agree on the moment"
        );
    }

    #[test]
    fn each_error_has_its_code() {
        let refusal = Refusal::from(AuthError::Expired);
        assert_eq!(refusal.code, Code::TokenExpired);
        assert_eq!(AuthError::Revoked.code(), Code::Revoked);
        assert_eq!(AuthError::NotYet.code(), Code::Unauthorized);
    }
}
