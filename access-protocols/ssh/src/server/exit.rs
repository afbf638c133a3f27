//! How a session is closed towards the client: its exit status, the end of its output, the end.

use std::time::Duration;

use access_core::reach::ExitStatus;
use russh::server::Handle;

use crate::channel::{Writer, signal_of};

/// The status of what could not be started or was ended by us, as `ssh` itself has it.
pub(crate) const FAILED: u32 = 255;

/// Tells the client how the program ended and closes the channel. The client may be gone.
pub(crate) async fn close(writer: &Writer, handle: &Handle, status: Option<&ExitStatus>) {
    match status {
        Some(ExitStatus::Code(code)) => {
            let _ = writer.exit_status(*code).await;
        }
        Some(ExitStatus::Signal { name, core_dumped }) => {
            let signal = signal_of(name);
            let sent = handle.exit_signal_request(
                writer.id(),
                signal,
                *core_dumped,
                String::new(),
                String::new(),
            );
            let _ = sent.await;
        }
        None => {
            let _ = writer.exit_status(FAILED).await;
        }
    }
    let _ = writer.eof().await;
    let _ = writer.close().await;
}

/// How long the client has to take a text: it may read nothing any more.
const TELLING: Duration = Duration::from_millis(150);

/// Tells the user something that no program wrote.
pub(crate) async fn tell(writer: &Writer, has_terminal: bool, text: &str) {
    let text = printable(text);
    let sent = async {
        if has_terminal {
            // Wherever the cursor was: begin a line, and leave it at the start of one.
            writer.data_bytes(format!("\r\n{text}\r\n").into_bytes()).await
        } else {
            writer.extended_data_bytes(1, format!("{text}\n").into_bytes()).await
        }
    };
    let _ = tokio::time::timeout(TELLING, sent).await;
}

/// A text with nothing in it that steers a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
