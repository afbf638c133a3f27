//! Limits and deadlines, and the SSH library's configuration that follows from them.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use russh::keys::ssh_key::{Algorithm, EcdsaCurve, HashAlg};
use russh::{MethodKind, MethodSet, Preferred, SshId, cipher, compression, kex, server};

use crate::hostkeys::HostIdentity;
use crate::wire::WINDOW;

/// Limits and deadlines of SSH connections.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SshOptions {
    /// How long a client may take to authenticate. 30 seconds by default.
    pub auth_deadline: Duration,
    /// How many refused attempts a connection may make. 6 by default.
    pub max_auth_attempts: usize,
    /// How many channels a connection may have open at once; a role's `max_sessions` can only
    /// lower the part that are sessions. 64 by default.
    pub max_channels: usize,
    /// After how much silence the client is asked whether it is still there. 15 seconds by default.
    pub keepalive_interval: Duration,
    /// How many times it may leave that unanswered. 3 by default.
    pub keepalive_max: u32,
}

impl Default for SshOptions {
    fn default() -> Self {
        Self {
            auth_deadline: Duration::from_secs(30),
            max_auth_attempts: 6,
            max_channels: 64,
            keepalive_interval: Duration::from_secs(15),
            keepalive_max: 3,
        }
    }
}

/// How long a refused attempt takes at least.
const REJECTION_TIME: Duration = Duration::from_millis(50);

const KEX: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::DH_G16_SHA512,
    kex::DH_G14_SHA256,
    kex::EXTENSION_SUPPORT_AS_CLIENT,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];

/// Of host keys, and of the signatures that clients make. No SHA-1.
const KEYS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];

const CIPHERS_AES: &[cipher::Name] =
    &[cipher::AES_128_GCM, cipher::AES_256_GCM, cipher::AES_256_CTR, cipher::AES_128_CTR];

const CIPHERS_SOFT: &[cipher::Name] =
    &[cipher::CHACHA20_POLY1305, cipher::AES_128_GCM, cipher::AES_256_GCM, cipher::AES_256_CTR];

/// The client's preference decides among what both have, and OpenSSH prefers ChaCha20, which is
/// slower than AES where the processor knows AES: it is left out there.
fn ciphers() -> &'static [cipher::Name] {
    #[cfg(target_arch = "x86_64")]
    let hardware = std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    let hardware = std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let hardware = false;
    if hardware { CIPHERS_AES } else { CIPHERS_SOFT }
}

impl SshOptions {
    pub(crate) fn library_config(&self, host: &HostIdentity) -> Arc<server::Config> {
        Arc::new(server::Config {
            server_id: SshId::Standard(Cow::Borrowed("SSH-2.0-Access")),
            // The second is there only to tell people why the first failed.
            methods: MethodSet::from(
                [MethodKind::PublicKey, MethodKind::KeyboardInteractive].as_slice(),
            ),
            auth_rejection_time: REJECTION_TIME,
            // Every OpenSSH client asks for the methods in this way.
            auth_rejection_time_initial: Some(Duration::ZERO),
            keys: vec![host.key.clone()],
            certificates: vec![host.certificate.clone()],
            window_size: WINDOW,
            maximum_packet_size: 65_535,
            // Input is taken in the handler; these buffers stay empty.
            channel_buffer_size: 1,
            // Enough to overlap reading and sealing; more would hold whole megabytes of output.
            event_buffer_size: 16,
            preferred: Preferred {
                kex: Cow::Borrowed(KEX),
                key: Cow::Borrowed(KEYS),
                host_key_certificates: Cow::Borrowed(&[]),
                cipher: Cow::Borrowed(ciphers()),
                // A refusal is told right after the client's success was (see `auth`), at the
                // moment at which delayed compression would begin.
                compression: Cow::Borrowed(&[compression::NONE]),
                ..Preferred::DEFAULT
            },
            max_auth_attempts: self.max_auth_attempts,
            // Whether the client is still there is judged by the connection, which knows whether
            // it listened.
            inactivity_timeout: None,
            keepalive_interval: Some(self.keepalive_interval),
            keepalive_max: 0,
            ..server::Config::default()
        })
    }

    /// The silence after which a client is given up.
    pub(crate) fn dead_after(&self) -> Duration {
        self.keepalive_interval.saturating_mul(self.keepalive_max.saturating_add(1))
    }
}
