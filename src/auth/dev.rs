//! Users for development: random names with every right, made without any set-up.

use super::grant::{Grant, Grants};
use super::key::{KeyError, Signer};
use super::token::{Audience, Claims, Date};
use crate::wire::MAX_OFFSET;

/// The user that one without a token is taken for, where the node runs with `--dev`.
pub const ANONYMOUS: &str = "dev";

/// How long a development token lives: 30 days.
const LIFE_MS: u64 = 30 * 86_400 * 1_000;

/// A user that was made up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevUser {
    /// The name: `dev-` and 16 hexadecimal digits.
    pub user: String,
    /// A token with every right on every log, good for 30 days.
    pub token: String,
}

/// Makes up a user, and a token for it, meant for that audience.
///
/// # Errors
/// [`KeyError::Signing`].
pub fn dev_user(
    signer: &Signer,
    audience: Option<&String>,
    now_ms: u64,
) -> Result<DevUser, KeyError> {
    let user = format!("{ANONYMOUS}-{:016x}", rand::random::<u64>());
    let token = signer.sign(&Claims {
        sub: user.clone(),
        exp: Date::from_ms(now_ms.saturating_add(LIFE_MS)),
        nbf: None,
        iat: Some(Date::from_ms(now_ms)),
        aud: audience.cloned().map(Audience::One),
        jti: None,
        grants: vec![Grant::everything()],
    })?;
    Ok(DevUser { user, token })
}

/// What one without a token may do where that is allowed: everything.
pub(super) fn anonymous(now_ms: u64) -> Grants {
    Grants {
        user: ANONYMOUS.to_owned(),
        expires_ms: MAX_OFFSET,
        issued_ms: Some(now_ms),
        token_id: ANONYMOUS.to_owned(),
        grants: vec![Grant::everything()],
    }
}
