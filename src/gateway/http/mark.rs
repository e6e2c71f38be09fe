//! Page marks: where a list goes on, sealed.
//!
//! Promise: a mark tells whoever holds it nothing. Where a list was left off may be a name that its
//! reader must not learn: so a mark is made unreadable, each has the same length, no two are equal,
//! and one is taken only from whom it was given to, for the list and the filter it was given for. A
//! reader thus gets into a list at its beginning and where it was left off, nowhere else.
//!
//! The key is made from the secrets that verify tokens, so all nodes of one configuration take the
//! marks of each other, and of the time before a restart. Where there are none (public keys alone)
//! it is that of a run, and a mark of another run is refused with a word on what to do.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::answer::Problem;
use crate::auth::Authority;

/// Most bytes of a position, and its length as it is kept.
const ROOM: usize = 272;
const LENGTH: usize = 2;
/// What no two marks have in common.
const NONCE: usize = 16;
/// The check of a mark.
const TAG: usize = 32;

/// What all marks of a node are sealed with.
#[derive(Debug)]
pub struct Marks(Secret);

/// A key; it is not shown.
struct Secret([u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Marks {
    /// Marks under a key of the secrets that tokens are verified with.
    pub fn of_authority(authority: &Authority) -> Self {
        Self::new(authority.shared_key("highwater 2026 page marks"))
    }

    /// Marks under that key, else under one of this run.
    pub(super) fn new(key: Option<[u8; 32]>) -> Self {
        Self(Secret(key.unwrap_or_else(rand::random)))
    }

    /// The marks of one list, as one user sees it through a filter.
    pub(super) fn of(&self, list: &str, user: &str, filter: &str) -> ListMarks {
        let mut hasher = blake3::Hasher::new_keyed(&self.0.0);
        for part in [list, user, filter] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        let key = hasher.finalize();
        let derive = |what: &str| blake3::derive_key(what, key.as_bytes());
        ListMarks {
            hide: derive("highwater 2026 page marks: hide"),
            check: derive("highwater 2026 page marks: check"),
        }
    }
}

/// The marks of one list.
pub(super) struct ListMarks {
    hide: [u8; 32],
    check: [u8; 32],
}

impl ListMarks {
    /// A mark of that position; none where a position is longer than any is.
    pub(super) fn seal(&self, position: &[u8]) -> Option<String> {
        let length = u16::try_from(position.len()).ok()?;
        let mut plain = [0; LENGTH + ROOM];
        let (head, body) = plain.split_at_mut(LENGTH);
        head.copy_from_slice(&length.to_le_bytes());
        body.get_mut(..position.len())?.copy_from_slice(position);
        let nonce: [u8; NONCE] = rand::random();
        self.turn(&nonce, &mut plain);
        let mut mark = nonce.to_vec();
        mark.extend_from_slice(&plain);
        let tag = blake3::keyed_hash(&self.check, &mark);
        mark.extend_from_slice(tag.as_bytes());
        Some(URL_SAFE_NO_PAD.encode(mark))
    }

    /// The position that a request goes on after, if it says one.
    ///
    /// # Errors
    /// `bad_request` for what is no mark of this list.
    pub(super) fn open(&self, after: Option<&str>) -> Result<Option<Vec<u8>>, Problem> {
        let Some(after) = after else { return Ok(None) };
        self.read(after).map(Some).ok_or_else(|| {
            Problem::bad_request(
                "after: not the `next` of this list as this user was told it, or told before the \
                 server's keys were changed: begin the list anew, without it",
            )
        })
    }

    fn read(&self, mark: &str) -> Option<Vec<u8>> {
        let mark = URL_SAFE_NO_PAD.decode(mark).ok()?;
        let (sealed, tag) = mark.split_at_checked(NONCE + LENGTH + ROOM)?;
        let tag: [u8; TAG] = tag.try_into().ok()?;
        // Compared in constant time.
        (blake3::keyed_hash(&self.check, sealed) == blake3::Hash::from(tag)).then_some(())?;
        let (nonce, plain) = sealed.split_at_checked(NONCE)?;
        let mut plain = plain.to_vec();
        self.turn(nonce, &mut plain);
        let (length, body) = plain.split_at_checked(LENGTH)?;
        let length = u16::from_le_bytes(length.try_into().ok()?);
        body.get(..usize::from(length)).map(<[u8]>::to_vec)
    }

    /// Hides what is plain, and the other way round.
    fn turn(&self, nonce: &[u8], bytes: &mut [u8]) {
        let mut stream = vec![0; bytes.len()];
        let mut hasher = blake3::Hasher::new_keyed(&self.hide);
        hasher.update(nonce).finalize_xof().fill(&mut stream);
        bytes.iter_mut().zip(stream).for_each(|(byte, key)| *byte ^= key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_where_it_was_given_and_nowhere_else() {
        let marks = Marks::new(Some([7; 32]));
        let own = marks.of("logs", "ana", "docs/");
        for position in [&b""[..], b"docs/42/ops", &[0xff; ROOM]] {
            let mark = own.seal(position).unwrap();
            assert_eq!(own.open(Some(&mark)).unwrap().as_deref(), Some(position));
            let again = Marks::new(Some([7; 32])).of("logs", "ana", "docs/");
            assert_eq!(again.open(Some(&mark)).unwrap().as_deref(), Some(position));
            for other in [
                marks.of("logs", "ben", "docs/"),
                marks.of("logs", "ana", "doc"),
                marks.of("logs", "anad", "ocs/"),
                marks.of("connections", "ana", "docs/"),
                Marks::new(None).of("logs", "ana", "docs/"),
            ] {
                let refused = other.open(Some(&mark)).unwrap_err().refusal.message;
                assert!(refused.starts_with("after: not the `next`"), "{refused}");
            }
        }
        assert_eq!(own.open(None).unwrap(), None);
        assert_eq!(own.seal(&[0; ROOM + 1]), None);
    }

    #[test]
    fn a_mark_tells_nothing_and_cannot_be_made_up() {
        let own = Marks::new(None).of("logs", "ana", "");
        let [one, same] = [(); 2].map(|()| own.seal(b"secret/customer-000001").unwrap());
        assert_ne!(one, same);
        assert_eq!(one.len(), own.seal(b"x").unwrap().len(), "nor how long a name is");
        let bytes = URL_SAFE_NO_PAD.decode(&one).unwrap();
        assert!(!bytes.windows(6).any(|part| part == b"secret"));
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert!(own.read(&URL_SAFE_NO_PAD.encode(&other)).is_none(), "{at}");
            assert!(own.read(&URL_SAFE_NO_PAD.encode(&bytes[..at])).is_none(), "{at}");
        }
        for bad in ["", "docs/1", "0", &one[1..], &format!("{one}A"), &format!("{one}=")] {
            assert!(own.open(Some(bad)).is_err(), "{bad}");
        }
    }
}
