//! Keys and values as they are typed: text, `-` for standard input, `@file`, `hex:`, `b64:`, and `text:` to escape those.

use std::io::Read;

use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;

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

fn from_hex(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| if let [high, low] = pair { Some(digit(*high)? << 4 | digit(*low)?) } else { None }).collect()
}

/// For a person's eyes: UTF-8 without control characters as it is, anything else as `hex:`.
pub(crate) fn show(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => format!("hex:{}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
    }
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
    fn what_is_shown_can_be_typed_again() {
        for bytes in [&b"plain"[..], &[0, 1, 255], b"line\nbreak", "h\u{fc}ll".as_bytes()] {
            assert_eq!(parse(&show(bytes)).as_deref(), Ok(bytes));
        }
    }
}
