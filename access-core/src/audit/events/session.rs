//! Sessions of any protocol that has a terminal or runs commands: their life and their data.

use super::shared::{Outcome, SessionContext};
use crate::audit::{List, Text};
use crate::time::Timestamp;

events! {
    area "session";

    /// A session was opened on a target.
    SessionStart = "session.start" {
        code "T2000I";
        with session: SessionContext;
        /// Whether it has a terminal.
        interactive: bool,
        /// The terminal's size, `columns:rows`.
        size: Option<Text<64>>,
        /// The command, when the session was opened for one.
        initial_command: List,
        /// Where it is recorded: `node`, `off`, or another place.
        session_recording: Option<Text<64>>,
    }

    /// Another user joined a session.
    SessionJoin = "session.join" {
        code "T2001I";
        with session: SessionContext;
        /// In which part: `peer`, `observer`, `moderator`.
        mode: Option<Text<64>>,
    }

    /// The terminal of a session got another size.
    Resize = "resize" {
        code "T2002I";
        with session: SessionContext;
        /// The new size, `columns:rows`.
        size: Text<64>,
    }

    /// A user left a session.
    SessionLeave = "session.leave" {
        code "T2003I";
        with session: SessionContext;
    }

    /// A session ended. Every session that started leaves exactly one, whatever ended it.
    SessionEnd = "session.end" {
        code "T2004I";
        with session: SessionContext;
        /// Whether it had a terminal.
        interactive: bool,
        /// When it started.
        session_start: Timestamp,
        /// When it ended.
        session_stop: Timestamp,
        /// Everybody who took part.
        participants: List,
        /// Why it ended: `client`, `exit`, `locked`, `certificate expired`, `idle`,
        /// `recording failed`, `agent stopped`, …
        reason: Text<256>,
        /// The exit status of its command.
        exit_code as "exitCode": Option<u32>,
        /// The signal that ended its command, without `SIG`.
        exit_signal: Option<Text<64>>,
        /// Bytes sent to the client.
        tx: u64,
        /// Bytes received from the client.
        rx: u64,
        /// Whether a recording was kept, and where.
        session_recording: Option<Text<64>>,
    }

    /// How much data a session's connection carried.
    SessionData = "session.data" {
        code "T2006I";
        with session: SessionContext;
        /// Bytes sent to the client.
        tx: u64,
        /// Bytes received from the client.
        rx: u64,
    }

    /// The recording of a session was stored.
    SessionUpload = "session.upload" {
        code "T2005I";
        /// The session.
        sid: crate::ids::SessionId,
        /// Where it was stored.
        url: Option<Text>,
        /// Its size in bytes.
        size: Option<u64>,
        /// How the recording ends: `complete`, `unsigned`, `truncated`, `tampered`.
        state: Option<Text<64>>,
    }

    /// A session was refused although the user may have it: a limit was reached, or it must be
    /// recorded and can't be.
    SessionRejected = "session.rejected" {
        code "T1006W";
        with session: SessionContext;
        /// Why.
        reason: Text,
        /// The limit that was reached.
        max: Option<u64>,
    }

    /// Somebody read the recording of a session.
    SessionRecordingAccess = "session.recording.access" {
        code "T2012I";
        with outcome: Outcome;
        /// Who.
        user: Text<256>,
        /// The session.
        sid: crate::ids::SessionId,
        /// What was done: `play`, `download`.
        format: Option<Text<64>>,
    }

    /// A program in a session opened a network connection.
    SessionNetwork = "session.network" {
        code "T4002I";
        with session: SessionContext;
        /// The process.
        pid: Option<u32>,
        /// The program.
        program: Option<Text<256>>,
        /// From which address.
        src_addr: Option<Text<256>>,
        /// To which address.
        dst_addr: Text<256>,
        /// To which port.
        dst_port: Option<u16>,
    }

    /// A client was disconnected by the cluster: its certificate expired, it was locked, it was
    /// idle for too long.
    ClientDisconnect = "client.disconnect" {
        code "T3006I";
        with session: SessionContext;
        /// Why.
        reason: Text,
    }
}
