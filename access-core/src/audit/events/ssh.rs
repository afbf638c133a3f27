//! What is done in SSH sessions: commands, file transfers, forwarding.

use super::shared::SessionContext;
use crate::audit::Text;

events! {
    area "ssh";

    /// A command was run.
    Exec = "exec" {
        codes ExecCode {
            /// It ended with status 0.
            Executed = "T3002I",
            /// It could not be started, or ended with another status.
            Failed = "T3002E",
        }
        with session: SessionContext;
        /// The command, as the client sent it.
        command: Text<16384>,
        /// Its exit status.
        exit_code as "exitCode": Option<u32>,
        /// Why it could not be run, or the signal that ended it.
        exit_error as "exitError": Option<Text>,
    }

    /// A subsystem, such as `sftp`, was asked for.
    Subsystem = "subsystem" {
        codes SubsystemCode {
            /// It was started.
            Requested = "T3001I",
            /// It is not there, is not allowed, or failed.
            Failed = "T3001E",
        }
        with session: SessionContext;
        /// Its name.
        name: Text<256>,
        /// Why it failed.
        exit_error as "exitError": Option<Text>,
    }

    /// A port was forwarded.
    Port = "port" {
        codes PortCode {
            /// The forwarded connection was opened.
            Started = "T3003I",
            /// It ended.
            Stopped = "T3003S",
            /// It could not be opened, or is not allowed.
            Failed = "T3003E",
        }
        with session: SessionContext;
        /// The address that was asked for, `host:port`.
        addr: Text<512>,
        /// In which direction: `local`, `remote`, `dynamic`.
        forward: Option<Text<64>>,
        /// Bytes sent to the client.
        tx: Option<u64>,
        /// Bytes received from the client.
        rx: Option<u64>,
        /// Why it failed.
        error: Option<Text>,
    }

    /// A file was copied with the old scp protocol.
    Scp = "scp" {
        codes ScpCode {
            /// From the target to the client.
            Download = "T3004I",
            /// That failed.
            DownloadFailed = "T3004E",
            /// From the client to the target.
            Upload = "T3005I",
            /// That failed.
            UploadFailed = "T3005E",
            /// Copying files is not allowed.
            Disallowed = "T3010E",
        }
        with session: SessionContext;
        /// The path on the target.
        path: Text,
        /// What was done: `download`, `upload`.
        action: Text<64>,
        /// The command, as the client sent it.
        command: Option<Text>,
        /// Why it failed.
        exit_error as "exitError": Option<Text>,
    }

    /// Something was done with a file over SFTP.
    Sftp = "sftp" {
        codes SftpCode {
            /// A file was opened.
            Open = "TS001I",
            /// A file could not be opened.
            OpenFailed = "TS001E",
            /// Attributes of a file were changed.
            Setstat = "TS007I",
            /// Attributes of a file could not be changed.
            SetstatFailed = "TS007E",
            /// A folder was opened.
            Opendir = "TS009I",
            /// A folder could not be opened.
            OpendirFailed = "TS009E",
            /// A folder was listed.
            Readdir = "TS010I",
            /// A folder could not be listed.
            ReaddirFailed = "TS010E",
            /// A file was removed.
            Remove = "TS011I",
            /// A file could not be removed.
            RemoveFailed = "TS011E",
            /// A folder was made.
            Mkdir = "TS012I",
            /// A folder could not be made.
            MkdirFailed = "TS012E",
            /// A folder was removed.
            Rmdir = "TS013I",
            /// A folder could not be removed.
            RmdirFailed = "TS013E",
            /// A file was renamed.
            Rename = "TS016I",
            /// A file could not be renamed.
            RenameFailed = "TS016E",
            /// A symbolic link was made.
            Symlink = "TS018I",
            /// A symbolic link could not be made.
            SymlinkFailed = "TS018E",
            /// A hard link was made.
            Link = "TS019I",
            /// A hard link could not be made.
            LinkFailed = "TS019E",
            /// Copying files is not allowed.
            Disallowed = "TS020E",
        }
        with session: SessionContext;
        /// The path, as the client sent it.
        path: Text,
        /// The other path: a new name, a link's target.
        target_path: Option<Text>,
        /// The folder in which the client works.
        working_directory: Option<Text>,
        /// How a file was opened.
        flags: Option<u32>,
        /// Why it failed.
        error: Option<Text>,
    }

    /// A file transfer over SFTP is done.
    SftpSummary = "sftp_summary" {
        code "TS021I";
        with session: SessionContext;
        /// Bytes read from files.
        downloaded_bytes: u64,
        /// Bytes written to files.
        uploaded_bytes: u64,
        /// Files that were opened.
        files: u64,
    }

    /// The client asked to forward its SSH agent.
    AgentForward = "agent-forward" {
        codes AgentForwardCode {
            /// It is forwarded.
            Requested = "T3013I",
            /// It is not.
            Refused = "T3013W",
        }
        with session: SessionContext;
        /// Why not.
        error: Option<Text>,
    }

    /// The client asked to forward X11.
    X11Forward = "x11-forward" {
        codes X11ForwardCode {
            /// It is forwarded.
            Requested = "T3008I",
            /// It is not.
            Refused = "T3008W",
        }
        with session: SessionContext;
        /// Why not.
        error: Option<Text>,
    }
}
