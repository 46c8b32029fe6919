//! Bytes in JSON: a string where they are UTF-8, else `{"b64": ".."}`.

use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;
use serde_json::{json, Value};

/// Bytes as a JSON value.
pub(crate) fn from_bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::from(text),
        Err(_) => json!({ "b64": STANDARD.encode(bytes) }),
    }
}

/// The bytes of a JSON value made by [`from_bytes`].
pub(crate) fn to_bytes(value: &Value) -> Result<Vec<u8>, String> {
    if let Some(text) = value.as_str() {
        return Ok(text.as_bytes().to_vec());
    }
    let encoded = value.as_object().filter(|object| object.len() == 1).and_then(|object| object.get("b64"));
    let Some(encoded) = encoded.and_then(Value::as_str) else {
        return Err(format!("{value} is neither a string nor {{\"b64\": \"..\"}}"));
    };
    STANDARD.decode(encoded).map_err(|error| format!("`{encoded}` is not base64: {error}"))
}

/// One line of an export: a key and its value.
pub(crate) fn record(key: &[u8], value: &[u8]) -> String {
    // Written by hand for a stable order: key first.
    format!("{{\"key\":{},\"value\":{}}}", from_bytes(key), from_bytes(value))
}

/// A line of an import.
pub(crate) fn parse_record(line: &str) -> Result<(Vec<u8>, Vec<u8>), String> {
    let object: Value = serde_json::from_str(line).map_err(|error| format!("not JSON: {error}"))?;
    let part = |name: &str| {
        let value = object.get(name).ok_or_else(|| format!("no \"{name}\""))?;
        to_bytes(value).map_err(|error| format!("\"{name}\": {error}"))
    };
    Ok((part("key")?, part("value")?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_exported_line_can_be_imported(key in any::<Vec<u8>>(), value in any::<Vec<u8>>()) {
            let line = record(&key, &value);
            prop_assert!(!line.contains('\n'), "one line a record");
            prop_assert_eq!(parse_record(&line), Ok((key, value)));
        }

        #[test]
        fn text_stays_text(text in "\\PC*") {
            prop_assert_eq!(from_bytes(text.as_bytes()), Value::from(text));
        }
    }

    #[test]
    fn malformed_lines_say_what_is_wrong() {
        for (line, word) in [
            ("{", "not JSON"),
            ("{\"key\":\"a\"}", "no \"value\""),
            ("{\"value\":\"a\"}", "no \"key\""),
            ("{\"key\":1,\"value\":\"a\"}", "\"key\""),
            ("{\"key\":\"a\",\"value\":{\"b64\":\"?\"}}", "base64"),
            ("{\"key\":\"a\",\"value\":{\"b64\":\"\",\"x\":1}}", "neither"),
        ] {
            let error = parse_record(line).expect_err(line);
            assert!(error.contains(word), "{line}: {error}");
        }
    }
}
