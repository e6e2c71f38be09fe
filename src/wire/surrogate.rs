//! Lone surrogates: halves of a character, which JSON can name and no text can hold.
//!
//! Promise: JSON that names one is refused, wherever in it that stands. The parser refuses it in
//! what it reads, and not in what it passes over: whether a frame is well formed must not depend on
//! which members its reader knows.

/// What is wrong, if one is named: an escape from `\ud800` to `\udfff` without its other half.
///
/// # Errors
/// Where it stands.
pub fn check(json: &[u8]) -> Result<(), String> {
    let mut rest = json;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        rest = rest.get(at..).unwrap_or_default();
        let escape = unit(rest);
        let low = || unit(rest.get(6..).unwrap_or_default());
        let is_low = |unit: u16| (0xdc00..0xe000).contains(&unit);
        // Whatever is no escape of that form is the parser's to judge.
        let length = match escape {
            Some(0xd800..0xdc00) if low().is_some_and(is_low) => 12,
            Some(0xd800..0xe000) => {
                let at = json.len() - rest.len();
                return Err(format!(
                    "at byte {at}: a lone surrogate, \\ud800 to \\udfff without its other half, is \
                     no text"
                ));
            }
            Some(_) => 6,
            None => 2,
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(())
}

/// The number of an escape `\uXXXX` that the text begins with.
fn unit(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_refused_and_pairs_are_not() {
        for good in [
            r#"{"a":"b"}"#,
            r#""\ud83d\ude00""#,
            r#""\uD83D\uDE00\ud83d\ude00""#,
            r#""\\ud800""#,
            r#""\\\\ud800""#,
            r#""\ud7ff\ue000""#,
            r#""\n\"\u0041""#,
            r#""\u+123""#,
            "\\",
            "\\u12",
            "",
        ] {
            assert_eq!(check(good.as_bytes()), Ok(()), "{good}");
        }
        for (bad, at) in [
            (r#""\ud800""#, 1),
            (r#""\udc00""#, 1),
            (r#""x\ud83d\ud83d\ude00""#, 2),
            (r#""\ude00\ud83d""#, 1),
            (r#""\ud83d\u0041""#, 1),
            (r#""\ud83dx\ude00""#, 1),
            (r#""\\\ud800""#, 3),
            (r#"{"\uDFFF":1}"#, 2),
            (r#""\ud800"#, 1),
        ] {
            let told = check(bad.as_bytes()).unwrap_err();
            assert!(told.starts_with(&format!("at byte {at}: a lone surrogate")), "{bad}: {told}");
        }
    }
}
