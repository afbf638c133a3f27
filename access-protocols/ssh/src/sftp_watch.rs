//! Understands SFTP in passing: what a client asks of files, and what comes of it.
//!
//! Version 3 of the protocol (draft-ietf-secsh-filexfer-02), with OpenSSH's extensions. The bytes
//! are only looked at; whatever cannot be understood is left to the server behind.
//!
//! Answers are told apart by the ids of their requests alone. A client that gives an id to a second
//! request while the first waits could have the answer to one taken for that to the other, so that
//! such a session cannot be followed, and is not: [`Breach`].

use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// How much of a packet is looked at: enough for two paths of 4096 bytes.
const MAX_HEAD: usize = 9 * 1024;
/// How much of a packet is looked at that carries a file's bytes.
const DATA_HEAD: usize = 16;
/// How many requests that are written down may wait for their answers.
const MAX_PENDING: usize = 1024;
/// How many requests of any kind may wait. What pipes and servers hold is far less.
const MAX_IN_FLIGHT: usize = 65_536;
/// How much of a path is kept.
const MAX_PATH: usize = 4096;

const INIT: u8 = 1;
const VERSION: u8 = 2;
const OPEN: u8 = 3;
const WRITE: u8 = 6;
const SETSTAT: u8 = 9;
const OPENDIR: u8 = 11;
const REMOVE: u8 = 13;
const MKDIR: u8 = 14;
const RMDIR: u8 = 15;
const RENAME: u8 = 18;
const SYMLINK: u8 = 20;
const STATUS: u8 = 101;
const DATA: u8 = 103;
const EXTENDED: u8 = 200;

/// What can be done to files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Open { flags: u32 },
    Setstat,
    Opendir,
    Remove,
    Mkdir,
    Rmdir,
    Rename,
    Symlink,
    Link,
}

/// One request, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) operation: Operation,
    pub(crate) path: Vec<u8>,
    pub(crate) target: Option<Vec<u8>>,
    /// Why it failed.
    pub(crate) error: Option<&'static str>,
}

/// What a client did so that its session cannot be followed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Breach {
    /// It used the id of a request that waits for another one.
    Reused(u32),
    /// It asks and asks, and waits for no answer.
    TooMany,
}

impl std::fmt::Display for Breach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Reused(id) => {
                write!(f, "the client used the SFTP request id {id} twice at the same time")
            }
            Self::TooMany => f.write_str("the client waits for too many SFTP answers at once"),
        }
    }
}

/// Sums over a transfer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) downloaded: u64,
    pub(crate) uploaded: u64,
    pub(crate) files: u64,
}

/// Watches one SFTP session.
#[derive(Debug, Default)]
pub(crate) struct SftpWatch {
    client: Framer,
    server: Framer,
    /// What waits for its answer, by id; those that are not written down too.
    in_flight: HashMap<u32, Option<Done>>,
    /// How many of these are written down.
    pending: usize,
    totals: Totals,
}

impl SftpWatch {
    /// Looks at bytes from the client. Returned are requests that can't be followed any more,
    /// because too many wait; and whether nothing can be, so that these bytes must not be handed
    /// on.
    pub(crate) fn client(&mut self, data: &[u8]) -> (Vec<Done>, Result<(), Breach>) {
        let Self { client, in_flight, pending, totals, .. } = self;
        let (mut untracked, mut kept) = (Vec::new(), Ok(()));
        client.feed(data, |head, len| {
            let mut body = Reader(head);
            let (Some(kind), Some(id)) = (body.u8(), body.u32()) else { return };
            if kind == INIT || kept.is_err() {
                // What stands in the place of the id there is a version.
                return;
            }
            let waiting = in_flight.len();
            let slot = match in_flight.entry(id) {
                Entry::Occupied(_) => return kept = Err(Breach::Reused(id)),
                Entry::Vacant(_) if waiting >= MAX_IN_FLIGHT => {
                    return kept = Err(Breach::TooMany);
                }
                Entry::Vacant(slot) => slot.insert(None),
            };
            if kind == WRITE {
                // handle, offset, data
                let handle = body.u32().unwrap_or(0);
                let rest = 1 + 4 + 4 + u64::from(handle) + 8 + 4;
                totals.uploaded += u64::from(len).saturating_sub(rest);
            }
            let Some(mut request) = request(kind, body) else { return };
            if *pending < MAX_PENDING {
                *pending += 1;
                *slot = Some(request);
            } else {
                request.error = Some("unknown: too many requests at once");
                untracked.push(request);
            }
        });
        (untracked, kept)
    }

    /// Looks at bytes from the server, and returns what they settle.
    pub(crate) fn server(&mut self, data: &[u8]) -> Vec<Done> {
        let Self { server, in_flight, pending, totals, .. } = self;
        let mut settled = Vec::new();
        server.feed(data, |head, len| {
            let mut body = Reader(head);
            let (Some(kind), Some(id)) = (body.u8(), body.u32()) else { return };
            if kind == VERSION {
                return;
            }
            if kind == DATA {
                totals.downloaded += u64::from(len).saturating_sub(1 + 4 + 4);
            }
            let Some(Some(mut request)) = in_flight.remove(&id) else { return };
            *pending = pending.saturating_sub(1);
            if kind == STATUS {
                request.error = status(body.u32().unwrap_or(u32::MAX));
            }
            if request.error.is_none() && matches!(request.operation, Operation::Open { .. }) {
                totals.files += 1;
            }
            settled.push(request);
        });
        settled
    }

    /// What was asked and never answered, when nothing follows.
    pub(crate) fn unsettled(&mut self) -> Vec<Done> {
        self.pending = 0;
        let unsettled = self.in_flight.drain().filter_map(|(_, request)| request);
        unsettled
            .map(|request| Done { error: Some("unknown: the session ended first"), ..request })
            .collect()
    }

    /// What does not hold of what is kept, whatever both sides sent.
    pub(crate) fn broken_bound(&self) -> Option<String> {
        let written_down = self.in_flight.values().flatten();
        let longest = written_down
            .clone()
            .map(|done| done.path.len().max(done.target.as_ref().map_or(0, Vec::len)))
            .max();
        let bounds = [
            ("requests in flight", self.in_flight.len(), MAX_IN_FLIGHT),
            ("requests written down", written_down.clone().count(), MAX_PENDING),
            ("bytes of a path", longest.unwrap_or(0), MAX_PATH),
            ("bytes of the client's packet", self.client.held(), MAX_HEAD),
            ("bytes of the server's packet", self.server.held(), MAX_HEAD),
        ];
        let broken = bounds.iter().find(|(_, held, most)| held > most);
        let miscounted = written_down.count() != self.pending;
        broken
            .map(|(what, held, most)| format!("{held} {what}, of {most}"))
            .or_else(|| miscounted.then(|| "the count of what waits is wrong".to_owned()))
    }

    /// What was transferred until now.
    pub(crate) fn totals(&self) -> Totals {
        self.totals
    }
}

fn request(kind: u8, mut body: Reader<'_>) -> Option<Done> {
    let done = |operation, path, target| Done { operation, path, target, error: None };
    let simple = |operation, mut body: Reader<'_>| Some(done(operation, body.path()?, None));
    match kind {
        OPEN => {
            let path = body.path()?;
            Some(done(Operation::Open { flags: body.u32()? }, path, None))
        }
        SETSTAT => simple(Operation::Setstat, body),
        OPENDIR => simple(Operation::Opendir, body),
        REMOVE => simple(Operation::Remove, body),
        MKDIR => simple(Operation::Mkdir, body),
        RMDIR => simple(Operation::Rmdir, body),
        RENAME => Some(done(Operation::Rename, body.path()?, Some(body.path()?))),
        SYMLINK => {
            // OpenSSH sends the target first, contrary to the draft, and so does everybody since.
            let target = body.path()?;
            Some(done(Operation::Symlink, body.path()?, Some(target)))
        }
        EXTENDED => match body.string()? {
            b"posix-rename@openssh.com" => {
                Some(done(Operation::Rename, body.path()?, Some(body.path()?)))
            }
            b"hardlink@openssh.com" => {
                Some(done(Operation::Link, body.path()?, Some(body.path()?)))
            }
            b"lsetstat@openssh.com" => simple(Operation::Setstat, body),
            _ => None,
        },
        _ => None,
    }
}

fn status(code: u32) -> Option<&'static str> {
    match code {
        // End of file is a success of what was asked for.
        0 | 1 => None,
        2 => Some("no such file"),
        3 => Some("permission denied"),
        4 => Some("failure"),
        5 => Some("bad message"),
        6 => Some("no connection"),
        7 => Some("connection lost"),
        8 => Some("operation not supported"),
        _ => Some("unknown failure"),
    }
}

/// Finds the packets in a stream: a length, then as many bytes.
#[derive(Debug)]
enum Framer {
    Length { bytes: [u8; 4], have: usize },
    Body { len: u32, left: u32, head: Vec<u8> },
}

impl Default for Framer {
    fn default() -> Self {
        Self::Length { bytes: [0; 4], have: 0 }
    }
}

impl Framer {
    /// How many bytes are kept.
    fn held(&self) -> usize {
        match self {
            Self::Length { .. } => 0,
            Self::Body { head, .. } => head.len(),
        }
    }

    /// Calls `on` with the head of each packet that ends in `data`, and the packet's length.
    fn feed(&mut self, mut data: &[u8], mut on: impl FnMut(&[u8], u32)) {
        loop {
            match self {
                Self::Length { bytes, have } => {
                    while *have < 4 {
                        let Some((first, rest)) = data.split_first() else { return };
                        if let Some(slot) = bytes.get_mut(*have) {
                            *slot = *first;
                        }
                        *have += 1;
                        data = rest;
                    }
                    let len = u32::from_be_bytes(*bytes);
                    *self = Self::Body { len, left: len, head: Vec::new() };
                }
                Self::Body { len, left, head } => {
                    let take = data.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    let (now, rest) = data.split_at(take);
                    keep(head, now);
                    *left -= u32::try_from(take).unwrap_or(*left);
                    data = rest;
                    if *left > 0 {
                        return;
                    }
                    on(head, *len);
                    *self = Self::default();
                }
            }
        }
    }
}

/// Keeps what will be looked at of a packet.
fn keep(head: &mut Vec<u8>, data: &[u8]) {
    let kind = head.first().or(data.first()).copied();
    let max = if matches!(kind, Some(WRITE | DATA)) { DATA_HEAD } else { MAX_HEAD };
    let room = max.saturating_sub(head.len()).min(data.len());
    head.extend_from_slice(data.get(..room).unwrap_or_default());
}

/// Reads the SSH encoding (RFC 4251, section 5).
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn u32(&mut self) -> Option<u32> {
        let (bytes, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*bytes))
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.u32()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    /// A path; of one that is longer than any can be, its beginning.
    fn path(&mut self) -> Option<Vec<u8>> {
        let mut ahead = Reader(self.0);
        let len = usize::try_from(ahead.u32()?).ok()?;
        if len > MAX_PATH {
            let path = ahead.0.get(..MAX_PATH.min(ahead.0.len()))?.to_vec();
            self.0 = &[];
            return Some(path);
        }
        Some(self.string()?.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(text: &[u8]) -> Vec<u8> {
        [&(text.len() as u32).to_be_bytes()[..], text].concat()
    }

    fn packet(kind: u8, id: u32, body: &[&[u8]]) -> Vec<u8> {
        let body = [&[kind][..], &id.to_be_bytes(), &body.concat()].concat();
        string(&body)
    }

    #[test]
    fn requests_are_settled_by_their_answers_however_the_bytes_are_cut() {
        let client = [
            string(&[1, 0, 0, 0, 3]),
            packet(OPEN, 1, &[&string(b"/etc/passwd"), &1u32.to_be_bytes(), &[0; 4]]),
            packet(RENAME, 2, &[&string(b"a"), &string(b"b")]),
            packet(WRITE, 3, &[&string(b"hndl"), &[0; 8], &string(&[7; 5000])]),
            packet(REMOVE, 4, &[&string(b"gone")]),
        ]
        .concat();
        let server = [
            string(&[2, 0, 0, 0, 3]),
            packet(102, 1, &[&string(b"hndl")]),
            packet(STATUS, 4, &[&2u32.to_be_bytes(), &string(b"No"), &string(b"")]),
            packet(DATA, 9, &[&string(&[1; 300])]),
            packet(STATUS, 2, &[&0u32.to_be_bytes(), &string(b""), &string(b"")]),
        ]
        .concat();
        for step in [1, 3, 7, 1000, usize::MAX] {
            let mut watch = SftpWatch::default();
            for part in client.chunks(step.min(client.len())) {
                assert_eq!(watch.client(part), (vec![], Ok(())));
            }
            let mut done = Vec::new();
            for part in server.chunks(step.min(server.len())) {
                done.extend(watch.server(part));
            }
            let told: Vec<_> =
                done.iter().map(|d| (d.operation, d.path.as_slice(), d.error)).collect();
            assert_eq!(
                told,
                [
                    (Operation::Open { flags: 1 }, &b"/etc/passwd"[..], None),
                    (Operation::Remove, b"gone", Some("no such file")),
                    (Operation::Rename, b"a", None),
                ]
            );
            assert_eq!(watch.totals(), Totals { downloaded: 300, uploaded: 5000, files: 1 });
        }
    }

    #[test]
    fn hostile_streams_keep_little() {
        let mut watch = SftpWatch::default();
        for id in 0..2000u32 {
            let (untracked, kept) = watch.client(&packet(REMOVE, id, &[&string(b"x")]));
            assert_eq!(untracked.len(), usize::from(id >= MAX_PENDING as u32));
            assert_eq!(kept, Ok(()));
        }
        for id in 2000..MAX_IN_FLIGHT as u32 {
            assert_eq!(watch.client(&packet(STAT, id, &[])), (vec![], Ok(())));
        }
        assert_eq!(watch.client(&packet(STAT, 1 << 30, &[])).1, Err(Breach::TooMany));
        let mut watch = SftpWatch::default();
        let _ = watch.client(&u32::MAX.to_be_bytes());
        for _ in 0..100 {
            let _ = watch.client(&[REMOVE; 4096]);
        }
        let Framer::Body { head, .. } = &watch.client else { panic!("it is not over") };
        assert!(head.len() <= MAX_HEAD);
        let mut watch = SftpWatch::default();
        assert_eq!(watch.client(&[0; 64]), (vec![], Ok(())));
        assert_eq!(watch.client(&packet(OPEN, 1, &[&[0xff; 4]])), (vec![], Ok(())));
    }

    const STAT: u8 = 17;

    fn open(id: u32, path: &[u8]) -> Vec<u8> {
        packet(OPEN, id, &[&string(path), &1u32.to_be_bytes(), &[0; 4]])
    }

    #[test]
    fn an_id_in_flight_is_not_used_again() {
        let handle = packet(102, 1, &[&string(b"hndl")]);
        // Whether the other request is written down or not, and in one piece or in two.
        for first in [open(1, b"/secret"), packet(STAT, 1, &[&string(b"/none")])] {
            let mut watch = SftpWatch::default();
            assert_eq!(watch.client(&first), (vec![], Ok(())));
            assert_eq!(watch.client(&open(1, b"/tmp/x")).1, Err(Breach::Reused(1)));
            let mut watch = SftpWatch::default();
            let both = [first, open(1, b"/tmp/x"), open(1, b"/tmp/y")].concat();
            assert_eq!(watch.client(&both).1, Err(Breach::Reused(1)));
            assert!(watch.server(&handle).iter().all(|done| done.path == b"/secret"));
        }
        // Answered, it is free.
        let mut watch = SftpWatch::default();
        for path in [&b"/a"[..], b"/b"] {
            assert_eq!(watch.client(&open(1, path)), (vec![], Ok(())));
            let done = watch.server(&handle);
            assert_eq!((done[0].path.as_slice(), done[0].error), (path, None));
        }
    }

    /// The packets that begin a session have no ids, wherever they come.
    #[test]
    fn versions_settle_nothing() {
        let mut watch = SftpWatch::default();
        assert_eq!(watch.client(&open(3, b"/a")), (vec![], Ok(())));
        assert_eq!(watch.client(&string(&[INIT, 0, 0, 0, 3])), (vec![], Ok(())));
        assert_eq!(watch.server(&string(&[VERSION, 0, 0, 0, 3])), []);
        let done = watch.server(&packet(STATUS, 3, &[&3u32.to_be_bytes()]));
        assert_eq!(done[0].error, Some("permission denied"));
    }

    #[test]
    fn what_was_never_answered_is_told_at_the_end() {
        let mut watch = SftpWatch::default();
        assert_eq!(watch.client(&packet(REMOVE, 1, &[&string(b"/x")])).1, Ok(()));
        assert_eq!(watch.client(&packet(STAT, 2, &[&string(b"/x")])).1, Ok(()));
        let left = watch.unsettled();
        assert_eq!(left.len(), 1);
        assert_eq!((left[0].operation, left[0].path.as_slice()), (Operation::Remove, &b"/x"[..]));
        assert!(left[0].error.is_some());
        assert_eq!(watch.unsettled(), []);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_survived(data: Vec<Vec<u8>>) {
            let mut watch = SftpWatch::default();
            for part in data {
                let _ = watch.client(&part);
                watch.server(&part);
            }
        }
    }
}
