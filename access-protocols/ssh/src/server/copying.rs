//! Which commands copy files: they need the permission to do so, like SFTP.

/// Whether a command is the far end of `scp`, `rsync` or `sftp`.
///
/// This honours what a role says about these tools. It is no fence: who has a shell can copy files
/// with `cat`.
pub(crate) fn is_copy(command: &[u8]) -> bool {
    let text = String::from_utf8_lossy(command);
    let mut words = text.split_ascii_whitespace();
    let Some(program) = words.next() else { return false };
    let program = program.rsplit('/').next().unwrap_or(program);
    match program {
        "scp" => words.any(|word| {
            word.strip_prefix('-')
                .is_some_and(|flags| !flags.starts_with('-') && flags.contains(['t', 'f']))
        }),
        "rsync" => words.any(|word| word == "--server"),
        "sftp-server" | "internal-sftp" => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::is_copy;

    #[test]
    fn the_far_ends_of_copying_tools_are_known() {
        for command in [
            "scp -t /tmp",
            "scp -r -p -f x",
            "/usr/bin/scp -rt .",
            "rsync --server -e.x . /tmp",
            "/usr/lib/openssh/sftp-server",
        ] {
            assert!(is_copy(command.as_bytes()), "{command}");
        }
        for command in ["", "ls -t", "scp a b:", "scp --help", "rsync a b", "echo scp -t"] {
            assert!(!is_copy(command.as_bytes()), "{command}");
        }
    }
}
