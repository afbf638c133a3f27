//! The public halves of the authorities, for programs of others.

use access_client::types::AuthoritySpec;
use access_core::identity::AuthorityKind;
use access_daemon::{Exit, print};

use crate::cli::ExportType;
use crate::cluster::Cluster;

pub(crate) async fn export(cluster: &Cluster, which: ExportType) -> Result<(), Exit> {
    let kind = match which {
        ExportType::UserSsh | ExportType::TlsUser => AuthorityKind::User,
        ExportType::HostSsh | ExportType::TlsHost => AuthorityKind::Host,
        ExportType::Db => AuthorityKind::Db,
        ExportType::DbClient => AuthorityKind::DbClient,
    };
    let authority = cluster.get::<AuthoritySpec>(kind.as_str()).await?;
    print(&text(&authority.spec, which))
}

fn text(authority: &AuthoritySpec, which: ExportType) -> String {
    let cluster = &authority.cluster;
    let keys = authority.ssh_keys.iter().map(|key| key.trim_end());
    match which {
        // The comment tells whoever finds the file later whose key it is.
        ExportType::UserSsh => keys.map(|key| format!("{key} {cluster}\n")).collect(),
        // OpenSSH's `*` stands for dots too, so that this covers every host of the cluster.
        ExportType::HostSsh => {
            keys.map(|key| format!("@cert-authority *.{cluster} {key}\n")).collect()
        }
        ExportType::TlsUser | ExportType::TlsHost | ExportType::Db | ExportType::DbClient => {
            authority.tls_roots.concat()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use access_core::ClusterName;

    #[test]
    fn every_trusted_key_is_there() {
        let authority = AuthoritySpec {
            kind: AuthorityKind::User,
            cluster: ClusterName::new("example.com").unwrap(),
            ssh_keys: vec!["ssh-ed25519 AAAA".into(), "ssh-ed25519 BBBB".into()],
            tls_roots: vec!["PEM1\n".into(), "PEM2\n".into()],
            ca_pins: Vec::new(),
        };
        assert_eq!(
            text(&authority, ExportType::UserSsh),
            "ssh-ed25519 AAAA example.com\nssh-ed25519 BBBB example.com\n"
        );
        assert!(
            text(&authority, ExportType::HostSsh)
                .starts_with("@cert-authority *.example.com ssh-ed25519 AAAA\n")
        );
        assert_eq!(text(&authority, ExportType::TlsHost), "PEM1\nPEM2\n");
    }
}
