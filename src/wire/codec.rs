//! The one place that knows bincode and JSON: frames to bytes and back.
//!
//! Binary: a message is a run of frames, each `kind`, `length` (bincode varints) and a body.
//! JSON: a message is a run of lines, each an object with one member, the frame's name. Unknown
//! kinds and names are skipped, bytes after a known body too. Decoding never panics and allocates
//! at most a small multiple of a frame (under 32 times, for lists of empty things), itself held
//! under [`MAX_FRAME_BYTES`].
//!
//! The same layout holds what is kept on disk; `docs/protocol.md` §4 describes it. bincode writes
//! it, `binary.rs` reads it.

use bincode::config::Configuration;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{binary, surrogate};

/// No frame is larger than this, whatever the configuration says: 4 MiB.
pub const MAX_FRAME_BYTES: usize = 4 << 20;

/// Little endian, variable-length integers.
const SETTINGS: Configuration = bincode::config::standard();

/// The two forms of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Encoding {
    /// Subprotocol `highwater.v1.bincode`.
    Bincode,
    /// Subprotocol `highwater.v1.json`.
    Json,
}

impl Encoding {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Bincode, Self::Json];

    /// The WebSocket subprotocol that names it.
    pub const fn subprotocol(self) -> &'static str {
        match self {
            Self::Bincode => "highwater.v1.bincode",
            Self::Json => "highwater.v1.json",
        }
    }
}

/// Bytes that are no frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The input ends inside a frame.
    #[error("the message ends inside a frame")]
    Truncated,
    /// A frame announces more bytes than allowed.
    #[error("a frame of {length} bytes; at most {most} are allowed")]
    TooLarge {
        /// What it announces.
        length: u64,
        /// What is allowed.
        most: usize,
    },
    /// Kind or length of a frame cannot be read.
    #[error("kind and length of a frame: {0}")]
    Head(String),
    /// The body does not have the form of its kind.
    #[error("{kind}: {problem}")]
    Body {
        /// The frame's name.
        kind: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The line is no object with one member.
    #[error("a line must be an object with one member, the frame's name: {0}")]
    Line(String),
    /// It names what is no text.
    #[error("{0}")]
    Text(String),
}

/// What every enum of frames can do; made by the `frames!` table.
pub trait Frame: Sized {
    /// Number of the frame's kind.
    fn kind(&self) -> u32;
    /// Name of the frame's kind.
    fn name(&self) -> &'static str;
    /// Number and name of each kind.
    const KINDS: &'static [(u32, &'static str)];
    /// Appends the body.
    fn encode_body(&self, encoding: Encoding, out: &mut Vec<u8>);
    /// Reads a body of that kind; `None` for a kind that is not in the table.
    fn decode_binary(kind: u32, body: &[u8]) -> Result<Option<Self>, FrameError>;
    /// Reads the body of a frame of that name; `None` for a name that is not in the table.
    fn decode_json(name: &str, body: &str) -> Result<Option<Self>, FrameError>;
}

macro_rules! frames {
    ($(#[$doc:meta])* $table:ident {
        $($kind:literal $name:ident $variant:ident($body:ident),)*
    }) => {
            $(#[$doc])*
            #[derive(Clone, Debug, PartialEq, Eq)]
            pub enum $table {
                $(#[doc = concat!("Kind ", stringify!($kind), ".")] $variant($body),)*
            }

            impl $crate::wire::codec::Frame for $table {
                const KINDS: &'static [(u32, &'static str)] =
                    &[$(($kind, stringify!($name)),)*];

                fn kind(&self) -> u32 {
                    match self { $(Self::$variant(_) => $kind,)* }
                }

                fn name(&self) -> &'static str {
                    match self { $(Self::$variant(_) => stringify!($name),)* }
                }

                fn encode_body(&self, encoding: $crate::wire::Encoding, out: &mut Vec<u8>) {
                    match self {
                        $(Self::$variant(body) => {
                            $crate::wire::codec::write_body(body, encoding, out);
                        })*
                    }
                }

                fn decode_binary(
                    kind: u32,
                    body: &[u8],
                ) -> Result<Option<Self>, $crate::wire::codec::FrameError> {
                    Ok(match kind {
                        $($kind => Some(Self::$variant(
                            $crate::wire::codec::read_binary(stringify!($name), body)?,
                        )),)*
                        _ => None,
                    })
                }

                fn decode_json(
                    name: &str,
                    body: &str,
                ) -> Result<Option<Self>, $crate::wire::codec::FrameError> {
                    Ok(match name {
                        $(stringify!($name) => Some(Self::$variant(
                            $crate::wire::codec::read_json(stringify!($name), body)?,
                        )),)*
                        _ => None,
                    })
                }
            }
    };
}
pub(crate) use frames;

/// Appends a body in the encoding's form.
pub(crate) fn write_body<T: Serialize>(body: &T, encoding: Encoding, out: &mut Vec<u8>) {
    let written = match encoding {
        Encoding::Bincode => bincode::serde::encode_into_std_write(body, out, SETTINGS)
            .map(drop)
            .map_err(|error| error.to_string()),
        Encoding::Json => serde_json::to_writer(out, body).map_err(|error| error.to_string()),
    };
    debug_assert!(written.is_ok(), "frames hold nothing that cannot be written: {written:?}");
}

/// Reads a binary body; bytes after it are a later version's and are left aside.
pub(crate) fn read_binary<T: DeserializeOwned>(
    kind: &'static str,
    body: &[u8],
) -> Result<T, FrameError> {
    binary::read(body).map_err(|error| FrameError::Body { kind, problem: error.to_string() })
}

/// Reads a JSON body; members that are not known are left aside.
pub(crate) fn read_json<T: DeserializeOwned>(
    kind: &'static str,
    body: &str,
) -> Result<T, FrameError> {
    serde_json::from_str(body)
        .map_err(|error| FrameError::Body { kind, problem: error.to_string() })
}

/// A value in the binary form, of any size, as rows of the store and batches of the journal use it.
/// The layout has no signed integers, floats and characters: a value that holds one can be written
/// and not be read.
pub fn to_bytes<T: Serialize>(value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    write_body(value, Encoding::Bincode, &mut out);
    out
}

/// The binary form of a value, behind what `out` holds.
pub fn append<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    write_body(value, Encoding::Bincode, out);
}

/// A value from its binary form.
///
/// # Errors
/// [`FrameError::Body`] with `what` as its kind, when the bytes are not one.
pub fn from_bytes<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, FrameError> {
    read_binary(what, bytes)
}

/// Appends one frame to a message.
pub fn encode<F: Frame>(frame: &F, encoding: Encoding, out: &mut Vec<u8>) {
    match encoding {
        Encoding::Bincode => {
            let mut body = Vec::with_capacity(64);
            frame.encode_body(encoding, &mut body);
            write_varint(u64::from(frame.kind()), out);
            write_varint(body.len() as u64, out);
            out.extend_from_slice(&body);
        }
        Encoding::Json => {
            out.extend_from_slice(b"{\"");
            out.extend_from_slice(frame.name().as_bytes());
            out.extend_from_slice(b"\":");
            frame.encode_body(encoding, out);
            out.extend_from_slice(b"}\n");
        }
    }
}

/// One frame as a message of its own.
pub fn message<F: Frame>(frame: &F, encoding: Encoding) -> Vec<u8> {
    let mut out = Vec::with_capacity(96);
    encode(frame, encoding, &mut out);
    out
}

fn write_varint(value: u64, out: &mut Vec<u8>) {
    write_body(&value, Encoding::Bincode, out);
}

/// Splits a varint off the front of a frame.
fn read_varint(input: &[u8]) -> Result<(u64, &[u8]), FrameError> {
    binary::read_varint(input).map_err(|problem| FrameError::Head(problem.to_string()))
}

/// The frames of one message, read as they are asked for. After an error nothing follows.
#[derive(Debug)]
pub struct Frames<'a, F> {
    rest: &'a [u8],
    encoding: Encoding,
    most: usize,
    frame: std::marker::PhantomData<F>,
}

/// Reads the frames of a message; no body may be larger than `most` bytes.
pub fn decode<F: Frame>(message: &[u8], encoding: Encoding, most: usize) -> Frames<'_, F> {
    let most = most.min(MAX_FRAME_BYTES);
    Frames { rest: message, encoding, most, frame: std::marker::PhantomData }
}

impl<'a, F: Frame> Frames<'a, F> {
    /// The next known frame with the size of its body, or none at the end.
    fn step(&mut self) -> Result<Option<(F, usize)>, FrameError> {
        while !self.rest.is_empty() {
            let frame = match self.encoding {
                Encoding::Bincode => self.binary()?,
                Encoding::Json => self.line()?,
            };
            if frame.is_some() {
                return Ok(frame);
            }
        }
        Ok(None)
    }

    fn binary(&mut self) -> Result<Option<(F, usize)>, FrameError> {
        let (kind, rest) = read_varint(self.rest)?;
        let (length, rest) = read_varint(rest)?;
        let most = self.most;
        let size = usize::try_from(length).unwrap_or(usize::MAX);
        if size > most {
            return Err(FrameError::TooLarge { length, most });
        }
        let (body, rest) = rest.split_at_checked(size).ok_or(FrameError::Truncated)?;
        self.rest = rest;
        let kind = u32::try_from(kind).unwrap_or(u32::MAX);
        Ok(F::decode_binary(kind, body)?.map(|frame| (frame, size)))
    }

    fn line(&mut self) -> Result<Option<(F, usize)>, FrameError> {
        let end = self.rest.iter().position(|byte| *byte == b'\n');
        let (line, rest): (&'a [u8], &'a [u8]) = match end {
            Some(end) => (
                self.rest.get(..end).unwrap_or_default(),
                self.rest.get(end + 1..).unwrap_or_default(),
            ),
            None => (self.rest, &[]),
        };
        self.rest = rest;
        if line.trim_ascii().is_empty() {
            return Ok(None);
        }
        if line.len() > self.most {
            return Err(FrameError::TooLarge { length: line.len() as u64, most: self.most });
        }
        surrogate::check(line).map_err(FrameError::Text)?;
        let member: OneMember<'_> =
            serde_json::from_slice(line).map_err(|error| FrameError::Line(error.to_string()))?;
        Ok(F::decode_json(&member.name, member.body.get())?.map(|frame| (frame, line.len())))
    }
}

impl<F: Frame> Iterator for Frames<'_, F> {
    type Item = Result<(F, usize), FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.step();
        if next.is_err() {
            self.rest = &[];
        }
        next.transpose()
    }
}

/// `{"name": body}`, the body not yet read.
struct OneMember<'a> {
    name: String,
    body: &'a serde_json::value::RawValue,
}

impl<'de: 'a, 'a> serde::Deserialize<'de> for OneMember<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> serde::de::Visitor<'de> for Members {
            type Value = OneMember<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object with one member")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Self::Value, A::Error> {
                let (name, body) = map
                    .next_entry::<String, &'de serde_json::value::RawValue>()?
                    .ok_or_else(|| serde::de::Error::custom("no member"))?;
                if map.next_key::<String>()?.is_some() {
                    return Err(serde::de::Error::custom("more than one member"));
                }
                Ok(OneMember { name, body })
            }
        }
        deserializer.deserialize_map(Members)
    }
}
