//! What the first bytes of a connection say.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::prelude::{Prelude, Recognised};

/// What a connection starts with.
pub(crate) enum First {
    /// Not a word: the client closed, or was silent for too long.
    Silence,
    /// Words of nothing that is known here, or too few to tell.
    Nothing,
    /// A TLS record with a handshake.
    Tls,
    /// HTTP without TLS.
    Http,
    /// What a registered protocol recognised.
    Prelude(Arc<dyn Prelude>),
}

/// The most bytes that are looked at before it must be clear what they are. A TLS record is known
/// by its first byte, so this bounds preludes only.
const MOST: usize = 1024;

const METHODS: [&[u8]; 5] = [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"OPTIONS "];

/// Reads until the first bytes are recognised; they stay in `buffer`.
pub(crate) async fn recognise<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut BytesMut,
    preludes: &[Arc<dyn Prelude>],
    deadline: Duration,
) -> First {
    let look = async {
        loop {
            match judge(buffer, preludes) {
                Verdict::Is(first) => return Some(first),
                Verdict::Nothing => return None,
                Verdict::More if buffer.len() >= MOST => return None,
                Verdict::More => {}
            }
            match stream.read_buf(buffer).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    };
    match tokio::time::timeout(deadline, look).await.ok().flatten() {
        Some(first) => first,
        None if buffer.is_empty() => First::Silence,
        None => First::Nothing,
    }
}

enum Verdict {
    Is(First),
    More,
    Nothing,
}

fn judge(first: &[u8], preludes: &[Arc<dyn Prelude>]) -> Verdict {
    if first.is_empty() {
        return Verdict::More;
    }
    // Content type 22, handshake (RFC 8446, section 5.1).
    if first.first() == Some(&22) {
        return Verdict::Is(First::Tls);
    }
    if METHODS.iter().any(|method| first.starts_with(method)) {
        return Verdict::Is(First::Http);
    }
    let mut undecided = METHODS.iter().any(|method| method.starts_with(first));
    for prelude in preludes {
        match prelude.recognise(first) {
            Recognised::Yes => return Verdict::Is(First::Prelude(Arc::clone(prelude))),
            Recognised::More => undecided = true,
            Recognised::No => {}
        }
    }
    if undecided { Verdict::More } else { Verdict::Nothing }
}
