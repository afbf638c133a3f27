//! Audit events, as files and peers hold them.

use serde_json::Value;

use crate::audit::Envelope;

/// Whatever is read as an event is written as one line, and read from it as the same.
///
/// A number with a fraction or an exponent is not held to it: without its feature
/// `float_roundtrip`, `serde_json` may read one as its neighbour. No event of ours has any.
///
/// # Panics
/// When that does not hold.
pub fn audit_event(bytes: &[u8]) {
    let Ok(read) = Envelope::from_json(bytes) else { return };
    let written = read.to_json();
    assert!(written.is_ok(), "what was read cannot be written: {written:?}");
    let written = written.unwrap_or_default();
    assert!(written.iter().all(|byte| *byte >= b' '), "a control character in a line");
    let again = Envelope::from_json(&written).ok();
    let text = String::from_utf8_lossy(&written);
    assert!(again.is_some(), "not read again: {text}");
    if !serde_json::from_slice(bytes).is_ok_and(|value| has_float(&value)) {
        assert_eq!(again.as_ref(), Some(&read), "written: {text}");
    }
    let _ = (read.event.severity(), read.event.is_by_stranger());
}

fn has_float(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(values) => values.iter().any(has_float),
        Value::Object(fields) => fields.values().any(has_float),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}
