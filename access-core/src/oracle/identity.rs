//! Identity documents.

use crate::identity::Identity;

/// What is read as an identity survives its bytes, and its SPIFFE id is one path.
///
/// # Panics
/// When that does not hold.
pub fn identity(bytes: &[u8]) {
    let Ok(read) = Identity::decode(bytes) else { return };
    let spiffe = read.subject.spiffe_id(&read.cluster);
    assert!(spiffe.bytes().all(|byte| byte.is_ascii_graphic()), "{spiffe:?}");
    assert_eq!(spiffe.split('/').count(), 5, "{spiffe:?}");
    match read.encode() {
        Ok(written) => {
            let again = Identity::decode(&written);
            assert_eq!(again.as_ref(), Ok(&read));
            assert_eq!(again.and_then(|again| again.encode()), Ok(written));
        }
        // Defaults are written out and networks get their lengths, no more than that.
        Err(err) => assert!(bytes.len() > Identity::MAX_BYTES / 4, "{err}"),
    }
}
