//! What is printed when the cluster is ready.

use std::path::Path;

use access_daemon::{Exit, print as print_text};
use serde_json::json;

use crate::cluster::Cluster;
use crate::{Flags, Print};

pub(crate) fn print(flags: &Flags, cluster: &Cluster, tools: &Path) -> Result<(), Exit> {
    let data_dir = std::path::absolute(&flags.data_dir).map_err(Exit::failed)?;
    if flags.print == Print::Json {
        let line = json!({
            "cluster_name": cluster.name,
            "proxy_addr": cluster.proxy_addr.to_string(),
            "auth_addr": cluster.auth_addr.to_string(),
            "ca_file": cluster.ca_file,
            "ca_pin": cluster.ca_pin,
            "data_dir": data_dir,
            "user": cluster.user.name,
            "invite_url": cluster.user.invite_url,
            "node": cluster.node,
        });
        return print_text(&format!("{line}\n"));
    }
    let bin = shell_word(&tools.display().to_string());
    let Cluster { name, proxy_addr, ca_pin, node, user, .. } = cluster;
    let mut text = format!(
        "Cluster {name} is up on {proxy_addr}. In a second terminal, paste:\n\n  \
         export PATH={bin}:\"$PATH\"\n"
    );
    if let Some(url) = &user.invite_url {
        text.push_str(&format!("  access invite accept '{url}'\n"));
    }
    text.push_str(&format!(
        "  access login --proxy={proxy_addr} --user={} --ca-pin={ca_pin}\n  \
         access ls\n  access ssh {}@{node}\n\n\
         The administrator's tool: accessctl --data-dir {} status\n",
        user.name,
        user.login,
        shell_word(&data_dir.display().to_string()),
    ));
    if user.invite_url.is_none() {
        text.push_str(&format!(
            "Forgot the password of {0}? accessctl --data-dir {1} users reset {0}\n",
            user.name,
            shell_word(&data_dir.display().to_string()),
        ));
    }
    text.push_str("\nCtrl-C stops it; started again, it is the same cluster.\n");
    print_text(&text)
}

/// A text as one word of a shell, from an absolute path where it is relative.
fn shell_word(text: &str) -> String {
    let text = std::path::absolute(text).map_or(text.to_owned(), |path| path.display().to_string());
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}
