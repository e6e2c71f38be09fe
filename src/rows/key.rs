//! Keys of rows.
//!
//! Promise: the order of keys is the order of the numbers that they are made of.

/// A key made of numbers and bytes, big-endian, so that order of keys is order of numbers.
#[derive(Debug, Default, Clone)]
pub struct Key(Vec<u8>);

impl Key {
    /// Begins with a number.
    pub fn of(number: u64) -> Self {
        Self(number.to_be_bytes().to_vec())
    }

    /// Begins with bytes.
    pub fn bytes(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// Goes on with a number.
    #[must_use]
    pub fn then(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// Goes on with a small number.
    #[must_use]
    pub fn then_u32(mut self, number: u32) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// Goes on with bytes.
    #[must_use]
    pub fn then_bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// The key.
    pub fn build(self) -> Vec<u8> {
        self.0
    }
}
