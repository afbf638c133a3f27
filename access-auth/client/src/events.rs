//! Audit events on their way: many are alike, and go compressed.

use bytes::Bytes;

use crate::client::MAX_MESSAGE;
use crate::error::ClientError;
use crate::proto::EmitRequest;

/// As many bytes are worth being compressed.
const MIN_BYTES: usize = 4096;
/// Fast; events are alike, so that more effort saves little.
const LEVEL: i32 = 1;

impl EmitRequest {
    /// Hands over events of one writer: the JSON of their envelopes, in order, each without a line's
    /// end in it. Many are compressed, which takes a millisecond or two for a mebibyte.
    ///
    /// ```
    /// use access_client::proto::EmitRequest;
    /// let events = vec![r#"{"event":"exec"}"#.into(); 1000];
    /// let request = EmitRequest::of("w1", events.clone());
    /// assert!(request.packed.len() < 1000);
    /// assert_eq!(request.into_events(1000)?, events);
    /// # Ok::<(), access_client::ClientError>(())
    /// ```
    pub fn of(writer: impl Into<String>, events: Vec<Bytes>) -> Self {
        let writer = writer.into();
        match pack(&events) {
            Some(packed) => Self { writer, events: Vec::new(), packed: packed.into() },
            None => Self { writer, events, packed: Bytes::new() },
        }
    }

    /// The events. What they are is not looked at, but that they are `most` at most, and together
    /// have [`MAX_MESSAGE`] bytes at most.
    ///
    /// # Errors
    /// [`ClientError::Malformed`] when there are more, or they were compressed and cannot be got
    /// back.
    pub fn into_events(self, most: usize) -> Result<Vec<Bytes>, ClientError> {
        let Self { mut events, packed, .. } = self;
        let too_many = || ClientError::Malformed(format!("more than {most} events in one call"));
        if events.len() > most {
            return Err(too_many());
        }
        if packed.is_empty() {
            return Ok(events);
        }
        let lines = zstd::bulk::decompress(&packed, MAX_MESSAGE).map_err(|err| {
            ClientError::Malformed(format!("the events cannot be unpacked: {err}"))
        })?;
        let lines = Bytes::from(lines);
        let ends = memchr::memchr_iter(b'\n', &lines);
        let mut begin = 0;
        for end in ends {
            // Before there is one more: a mebibyte of line ends is a few bytes on the way here.
            if events.len() == most {
                return Err(too_many());
            }
            events.push(lines.slice(begin..end));
            begin = end + 1;
        }
        if begin != lines.len() {
            return Err(ClientError::Malformed("the last event has no end".into()));
        }
        Ok(events)
    }
}

/// Their lines, compressed, if that is worth it.
fn pack(events: &[Bytes]) -> Option<Vec<u8>> {
    let size = events.iter().map(|json| json.len() + 1).sum();
    if !(MIN_BYTES..=MAX_MESSAGE).contains(&size) {
        return None;
    }
    let mut lines = Vec::with_capacity(size);
    for json in events {
        lines.extend_from_slice(json);
        lines.push(b'\n');
    }
    zstd::bulk::compress(&lines, LEVEL).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn back(events: Vec<Bytes>) -> Vec<Bytes> {
        EmitRequest::of("w", events).into_events(usize::MAX).unwrap()
    }

    #[test]
    fn too_many_are_refused_however_they_come() {
        let request = |count: usize| EmitRequest::of("w", vec![Bytes::from("{}"); count]);
        for (count, packed) in [(10, false), (2000, true)] {
            assert_eq!(request(count).events.is_empty(), packed);
            assert_eq!(request(count).into_events(count).unwrap().len(), count);
            let err = request(count).into_events(count - 1).unwrap_err().to_string();
            assert!(err.contains(&format!("more than {} events", count - 1)), "{err}");
        }
    }

    #[test]
    fn what_cannot_be_unpacked_is_no_request() {
        let request =
            |packed: Vec<u8>| EmitRequest { packed: packed.into(), ..EmitRequest::default() };
        let bomb = zstd::bulk::compress(&vec![b'\n'; MAX_MESSAGE + 1], 1).unwrap();
        let half = zstd::bulk::compress(b"{}\n{", 1).unwrap();
        let whole = zstd::bulk::compress(b"{}\n{}\n", 1).unwrap();
        let torn = whole[..whole.len() - 1].to_vec();
        for bad in [bomb, half, torn, b"{}\n".to_vec()] {
            let err = request(bad).into_events(9).unwrap_err();
            assert!(matches!(err, ClientError::Malformed(_)), "{err}");
        }
        assert_eq!(request(whole).into_events(2).unwrap(), ["{}", "{}"]);
    }

    #[test]
    fn few_go_as_they_are() {
        let few = vec![Bytes::from("{}"); 3];
        assert_eq!(EmitRequest::of("w", few.clone()).events, few);
        assert!(EmitRequest::of("w", vec![Bytes::from("{}"); 3000]).events.is_empty());
    }

    proptest! {
        #[test]
        fn events_come_back(events in prop::collection::vec("[^\n]{0,900}", 0..40)) {
            let events: Vec<Bytes> = events.into_iter().map(Bytes::from).collect();
            prop_assert_eq!(back(events.clone()), events);
        }

        #[test]
        fn unpacking_never_panics(packed in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = EmitRequest { packed: packed.into(), ..EmitRequest::default() }.into_events(9);
        }
    }
}
