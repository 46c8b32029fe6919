//! Keys and values as they are typed: text, `-` for standard input, `@file`, `hex:`, `b64:`, and `text:` to escape those.

use std::io::Read;

use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;

/// A key has 4 KiB at most; what is refused because it is longer need not be shown whole.
const NAME_LETTERS_MAX: usize = 4096;

/// What a typed key or value means.
pub(crate) fn parse(typed: &str) -> Result<Vec<u8>, String> {
    if typed == "-" {
        let mut bytes = Vec::new();
        let read = std::io::stdin().lock().read_to_end(&mut bytes);
        return read.map(|_| bytes).map_err(|error| format!("standard input cannot be read: {error}"));
    }
    if let Some(path) = typed.strip_prefix('@') {
        return std::fs::read(path).map_err(|error| format!("the file `{path}` cannot be read: {error}"));
    }
    if let Some(digits) = typed.strip_prefix("hex:") {
        return from_hex(digits).ok_or_else(|| format!("`{typed}` is not hexadecimal: hex: and pairs of 0-9, a-f"));
    }
    if let Some(encoded) = typed.strip_prefix("b64:") {
        return STANDARD.decode(encoded).map_err(|error| format!("`{typed}` is not base64: {error}"));
    }
    Ok(typed.strip_prefix("text:").unwrap_or(typed).as_bytes().to_vec())
}

/// A key and a value as they are typed; both cannot be standard input, which would be empty the second time.
pub(crate) fn parse_both(key: &str, value: &str) -> Result<(Vec<u8>, Vec<u8>), String> {
    if key == "-" && value == "-" {
        return Err("key and value cannot both be standard input; `text:-` is the text `-`".to_owned());
    }
    Ok((parse(key)?, parse(value)?))
}

fn from_hex(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| if let [high, low] = pair { Some(digit(*high)? << 4 | digit(*low)?) } else { None }).collect()
}

/// For a person's eyes: UTF-8 without control characters as it is, behind `text:` where it would be read as another form;
/// anything else as `hex:`. What is shown can be typed.
pub(crate) fn show(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if is_form(text) && !text.chars().any(char::is_control) => format!("text:{text}"),
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => format!("hex:{}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
    }
}

/// [`show`] for a sentence: the beginning of what is long.
pub(crate) fn name(bytes: &[u8]) -> String {
    let shown = show(bytes);
    match shown.char_indices().nth(NAME_LETTERS_MAX) {
        Some((end, _)) => format!("{}... ({} bytes)", &shown[..end], bytes.len()),
        None => shown,
    }
}

/// Whether this, typed, would mean something else than its letters.
fn is_form(text: &str) -> bool {
    text == "-" || ["@", "hex:", "b64:", "text:"].iter().any(|form| text.starts_with(form))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_forms_mean_bytes() {
        let table: [(&str, &[u8]); 9] = [
            ("plain", b"plain"),
            ("", b""),
            ("hex:00fF", &[0, 255]),
            ("hex:", b""),
            ("b64:AP8=", &[0, 255]),
            ("text:-", b"-"),
            ("text:@file", b"@file"),
            ("text:hex:00", b"hex:00"),
            ("text:text:", b"text:"),
        ];
        for (typed, expected) in table {
            assert_eq!(parse(typed).as_deref(), Ok(expected), "{typed}");
        }
    }

    #[test]
    fn malformed_forms_are_refused_with_words() {
        for typed in ["hex:0", "hex:0g", "b64:?", "@/no/such/file"] {
            let error = parse(typed).expect_err(typed);
            assert!(error.contains(typed.trim_start_matches('@')), "{error}");
        }
    }

    #[test]
    fn standard_input_is_read_once() {
        assert!(parse_both("-", "-").expect_err("twice").contains("both"));
        assert_eq!(parse_both("k", "text:-"), Ok((b"k".to_vec(), b"-".to_vec())));
    }

    #[test]
    fn what_is_shown_can_be_typed_again() {
        let forms = [&b"hex:ff"[..], b"b64:AP8=", b"text:x", b"@file", b"-", b"hex:\n"];
        let plain = [&b"plain"[..], &[0, 1, 255], b"line\nbreak", "h\u{fc}ll".as_bytes(), b"-5", b"a@b", b""];
        for bytes in forms.into_iter().chain(plain) {
            assert_eq!(parse(&show(bytes)).as_deref(), Ok(bytes));
        }
        assert_eq!(show(b"hex:ff"), "text:hex:ff");
        assert_eq!(show(b"-5"), "-5");
    }
}
