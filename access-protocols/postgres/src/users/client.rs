//! The admin user's connection: a few statements with parameters, and their rows as text.

use std::io;

use access_core::reach::BoxedStream;
use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::error::UserError;
use crate::wire::{Fields, Head, Reported, WireError, encode, head, reported};

/// The largest message that is taken, and the most that the answer to one statement may have.
const MAX_ANSWER: usize = 1024 * 1024;

/// A row, each column as text; `None` is NULL.
pub(super) type Row = Vec<Option<String>>;

/// A connection that is ready for queries.
pub(crate) struct Admin {
    stream: BoxedStream,
    buf: BytesMut,
}

impl Admin {
    /// With what the server has sent already.
    pub(crate) fn new(stream: BoxedStream, buf: BytesMut) -> Self {
        Self { stream, buf }
    }

    /// Runs a statement whose answer does not matter.
    ///
    /// # Errors
    /// What the server says of it, and what breaks the connection.
    pub(super) async fn run(&mut self, statement: &str) -> Result<(), UserError> {
        self.send(&encode::query(statement)).await?;
        self.answer().await.map(drop)
    }

    /// Runs one statement with parameters, each a text.
    ///
    /// # Errors
    /// As [`Admin::run`].
    pub(super) async fn rows(
        &mut self,
        statement: &str,
        parameters: &[&str],
    ) -> Result<Vec<Row>, UserError> {
        let mut out = BytesMut::from(&encode::parse("", statement)[..]);
        encode::append(&mut out, b'B', |out| {
            // The nameless portal of the nameless statement, all in text.
            out.put_slice(&[0, 0, 0, 0]);
            out.put_u16(u16::try_from(parameters.len()).unwrap_or(u16::MAX));
            for parameter in parameters {
                out.put_u32(u32::try_from(parameter.len()).unwrap_or(u32::MAX));
                out.put_slice(parameter.as_bytes());
            }
            out.put_u16(0);
        });
        encode::append(&mut out, b'E', |out| out.put_slice(&[0; 5]));
        encode::append(&mut out, b'S', |_| ());
        self.send(&out).await?;
        self.answer().await
    }

    /// Takes leave, and does not wait for an answer.
    pub(crate) async fn close(mut self) {
        let _ = self.send(&encode::terminate()).await;
        let _ = self.stream.shutdown().await;
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), UserError> {
        self.stream.write_all(bytes).await?;
        Ok(self.stream.flush().await?)
    }

    /// Everything up to the next ReadyForQuery.
    async fn answer(&mut self) -> Result<Vec<Row>, UserError> {
        let (mut rows, mut error, mut seen) = (Vec::new(), None, 0);
        loop {
            let Some(head) = head(&self.buf)?.filter(|head| head.total <= self.buf.len()) else {
                self.more(error.take_if(|error: &mut Reported| error.is_fatal())).await?;
                continue;
            };
            seen += head.total;
            if seen > MAX_ANSWER {
                return Err(too_much());
            }
            let message = self.buf.split_to(head.total);
            let body = message.get(Head::LEN..).unwrap_or_default();
            match head.kind {
                b'D' => rows.push(row(body).ok_or(WireError::Malformed('D'))?),
                b'E' => error = error.or_else(|| Some(reported(body))),
                b'Z' => return error.map_or(Ok(rows), |error| Err(UserError::Reported(error))),
                b'1' | b'2' | b'C' | b'I' | b'N' | b'S' | b'A' | b'T' | b'n' => {}
                other => return Err(WireError::Unexpected(char::from(other)).into()),
            }
        }
    }

    /// Reads on. A server that has said why it ends the session has no more to say.
    async fn more(&mut self, last: Option<Reported>) -> Result<(), UserError> {
        if let Some(last) = last {
            return Err(UserError::Reported(last));
        }
        let wanted = head(&self.buf)?.map_or(Head::LEN, |head| head.total);
        if wanted > MAX_ANSWER {
            return Err(too_much());
        }
        if self.stream.read_buf(&mut self.buf).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(())
    }
}

fn too_much() -> UserError {
    io::Error::other("the database answers with more than can be").into()
}

fn row(body: &[u8]) -> Option<Row> {
    let mut fields = Fields::new(body);
    let count = usize::try_from(fields.i16()?).ok()?;
    let mut row = Vec::with_capacity(count.min(16));
    for _ in 0..count {
        row.push(match fields.i32()? {
            -1 => None,
            length => {
                let bytes = fields.bytes(usize::try_from(length).ok()?)?;
                Some(String::from_utf8(bytes.to_vec()).ok()?)
            }
        });
    }
    Some(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Failure;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        encode::message(kind, |out| out.extend_from_slice(body)).to_vec()
    }

    /// What comes of a query when the server answers so, and what it was asked.
    async fn asked(answer: Vec<u8>) -> (Result<Vec<Row>, UserError>, Vec<u8>) {
        let (ours, mut theirs) = tokio::io::duplex(4 << 20);
        let mut admin = Admin::new(Box::new(ours), BytesMut::new());
        theirs.write_all(&answer).await.unwrap();
        theirs.shutdown().await.unwrap();
        let rows = admin.rows("select $1::text", &["a\0'\""]).await;
        drop(admin);
        let mut sent = Vec::new();
        theirs.read_to_end(&mut sent).await.unwrap();
        (rows, sent)
    }

    #[tokio::test]
    async fn rows_are_read_and_parameters_stay_apart_from_the_statement() {
        let answer = [
            message(b'1', &[]),
            message(b'2', &[]),
            message(b'D', b"\0\x02\0\0\0\x01x\xff\xff\xff\xff"),
            message(b'C', b"SELECT 1\0"),
            message(b'Z', b"I"),
        ];
        let (rows, sent) = asked(answer.concat()).await;
        assert_eq!(rows.unwrap(), [vec![Some("x".to_owned()), None]]);
        let bound = b"\0\0\0\0\0\x01\0\0\0\x04a\0'\"\0\0";
        assert!(sent.windows(bound.len()).any(|window| window == bound), "{sent:?}");
    }

    #[tokio::test]
    async fn errors_are_the_servers_own_and_hostile_answers_end_it() {
        let error = encode::error_response(&Failure::error("42501", "no")).to_vec();
        let (refused, _) = asked([error.clone(), message(b'Z', b"E")].concat()).await;
        assert_eq!(refused.unwrap_err().code(), Some("42501"));
        // It ends the session with it, and says no more.
        let fatal = encode::error_response(&Failure::fatal("57P01", "bye")).to_vec();
        assert_eq!(asked(fatal).await.0.unwrap_err().code(), Some("57P01"));
        assert!(matches!(asked(error).await.0, Err(UserError::Io(_))));
        for hostile in [
            message(b'D', b"\0\x02\0\0\0\x01x"),
            message(b'D', b"\x7f\xff"),
            message(b'G', b""),
            vec![b'D', 0x7f, 0xff, 0xff, 0xff],
            message(b'N', &vec![0; MAX_ANSWER]),
            message(b'D', b"\0\x01\0\0\0\0").repeat(200_000),
        ] {
            let (refused, _) = asked(hostile).await;
            assert!(matches!(refused, Err(UserError::Wire(_) | UserError::Io(_))), "{refused:?}");
        }
    }
}
