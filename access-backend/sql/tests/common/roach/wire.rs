//! What the stand-in says on the wire.
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>

use std::sync::atomic::Ordering;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::AsyncWriteExt;

use super::values::TEXT;
use super::{Cut, Session, Tx};

impl Session {
    pub(super) fn message(&mut self, tag: u8, body: &[u8]) {
        self.out.put_u8(tag);
        self.out.put_u32(body.len() as u32 + 4);
        self.out.put_slice(body);
    }

    pub(super) fn describe(&mut self, columns: &[u32], format: u16) {
        if columns.is_empty() {
            return self.message(b'n', b"");
        }
        let mut out = BytesMut::new();
        out.put_u16(columns.len() as u16);
        for oid in columns {
            out.put_slice(b"c\0");
            out.put_slice(&[0; 6]);
            out.put_u32(*oid);
            out.put_u16(u16::MAX);
            out.put_u32(u32::MAX);
            out.put_u16(format);
        }
        self.message(b'T', &out);
    }

    pub(super) fn data(&mut self, row: &[Option<Bytes>]) {
        let mut out = BytesMut::new();
        out.put_u16(row.len() as u16);
        for field in row {
            match field {
                Some(field) => {
                    out.put_u32(field.len() as u32);
                    out.put_slice(field);
                }
                None => out.put_u32(u32::MAX),
            }
        }
        self.message(b'D', &out);
    }

    pub(super) fn texts(&mut self, rows: &[&[&str]]) {
        let width = rows.first().map_or(1, |row| row.len());
        self.describe(&vec![TEXT; width], 0);
        for row in rows {
            let row: Vec<_> =
                row.iter().map(|text| Some(Bytes::from((*text).to_owned()))).collect();
            self.data(&row);
        }
    }

    pub(super) fn complete(&mut self, count: u64) {
        self.message(b'C', format!("INSERT 0 {count}\0").as_bytes());
    }

    pub(super) fn error(&mut self, code: &str, said: &str) {
        if let Tx::Open(db, before, _) = &mut self.tx {
            db.tables = std::mem::take(before);
            self.tx = Tx::Failed;
        }
        self.message(b'E', format!("SERROR\0VERROR\0C{code}\0M{said}\0\0").as_bytes());
    }

    pub(super) async fn ready(&mut self) -> Result<(), Cut> {
        let state = match self.tx {
            Tx::None => b'I',
            Tx::Failed => b'E',
            Tx::Open(..) | Tx::Reading(..) => b'T',
        };
        self.message(b'Z', &[state]);
        let asked = std::mem::take(&mut self.asked);
        if state == b'T' && !asked && self.shared.faults.together.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.flush().await
    }

    pub(super) async fn flush_some(&mut self) -> Result<(), Cut> {
        if self.out.len() < 1 << 16 { Ok(()) } else { self.flush().await }
    }

    pub(super) async fn flush(&mut self) -> Result<(), Cut> {
        let out = self.out.split();
        self.stream.write_all(&out).await.map_err(|_| Cut)
    }
}
