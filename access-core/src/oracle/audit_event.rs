//! Audit events, as files and peers hold them.

use serde_json::{Map, Value};

use crate::audit::{Envelope, Outline};

/// Whatever is read as an event is written as one line, and read from it as the same; what is outlined says the same
/// when it is read.
///
/// A number with a fraction or an exponent is not held to it: without its feature
/// `float_roundtrip`, `serde_json` may read one as its neighbour. No event of ours has any.
///
/// # Panics
/// When that does not hold.
pub fn audit_event(bytes: &[u8]) {
    outline(bytes);
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

/// What can be outlined is an object of JSON that says the same.
fn outline(bytes: &[u8]) {
    let Some(outline) = Outline::read(bytes) else { return };
    let fields = serde_json::from_slice::<Map<String, Value>>(bytes);
    assert!(fields.is_ok(), "outlined, and not read: {fields:?}");
    let fields = fields.unwrap_or_default();
    let text = |key| fields.get(key).and_then(Value::as_str);
    let head = [text("event"), text("uid"), text("cluster_name"), text("writer"), text("user")];
    let Outline { event, uid, cluster_name, writer, user, seq, time, .. } = outline;
    assert_eq!(head, [Some(event), Some(uid), Some(cluster_name), Some(writer), user]);
    assert_eq!(fields.get("seq").and_then(Value::as_u64), Some(seq));
    assert_eq!(text("time").and_then(|text| text.parse().ok()), Some(time));
}

fn has_float(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(values) => values.iter().any(has_float),
        Value::Object(fields) => fields.values().any(has_float),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}
