//! The rules themselves. `ARCHITECTURE.md` says the same in a picture.

/// What a crate of ours may import.
#[derive(Debug)]
pub(super) struct CrateRule {
    /// Its name.
    pub(super) name: &'static str,
    /// The crates of ours that it may import, its tests apart; `None` for any.
    pub(super) imports: Option<&'static [&'static str]>,
    /// Crates that neither it nor any of ours that it imports may declare, and why.
    pub(super) never: &'static [Never],
}

/// A crate that must not be reached, and why.
pub(super) type Never = (&'static str, &'static str);

const fn member(
    name: &'static str,
    imports: &'static [&'static str],
    never: &'static [Never],
) -> CrateRule {
    CrateRule { name, imports: Some(imports), never }
}

const fn top(name: &'static str) -> CrateRule {
    CrateRule { name, imports: None, never: &[] }
}

/// What needs no authority and no store must not carry one.
const NO_AUTHORITY: &[Never] = &[
    ("access-auth", "the Auth Service is for Auth alone"),
    ("access-ca", "no authority outside Auth"),
    ("access-backend", "no store outside Auth"),
    ("rusqlite", "no store outside Auth"),
    ("argon2", "no password hash outside Auth"),
    ("rcgen", "no authority outside Auth"),
];

/// The core decides; others open sockets and files.
const NO_IO: &[Never] = &[
    ("tokio-rustls", "the core opens no socket"),
    ("hyper", "the core opens no socket"),
    ("hyper-util", "the core opens no socket"),
    ("socket2", "the core opens no socket"),
    ("mio", "the core opens no socket"),
    ("nix", "the core asks nothing of the system"),
    ("libc", "the core asks nothing of the system"),
    ("tonic", "the core speaks no API"),
    ("russh", "the core speaks no protocol"),
    ("rusqlite", "the core stores nothing"),
    ("rcgen", "the core issues nothing"),
    ("argon2", "the core knows no password"),
];

const NO_CORE: &[Never] = &[
    ("access-core", "the multiplexer authenticates and decides nothing"),
    ("rustls", "the transport is the caller's"),
    ("tokio-rustls", "the transport is the caller's"),
];

/// A protocol is taken with the core alone.
const NO_CLUSTER: &[Never] = &[
    ("access-tunnel", "a protocol needs no tunnel"),
    ("access-client", "a protocol needs no Auth Service"),
    ("access-auth", "a protocol needs no Auth Service"),
    ("access-proxy", "a protocol needs no proxy"),
    ("access-agent", "a protocol needs no agent"),
    ("access-ca", "a protocol needs no authority"),
    ("access-backend", "a protocol needs no store"),
    ("tonic", "a protocol needs no API"),
];

/// What routes and runs sessions for other crates knows no protocol beyond its prelude.
const NO_PROTOCOL: &[Never] = &[
    ("access-auth", "the Auth Service is for Auth alone"),
    ("access-ca", "no authority outside Auth"),
    ("access-backend", "no store outside Auth"),
    ("rusqlite", "no store outside Auth"),
    ("argon2", "no password hash outside Auth"),
    ("rcgen", "no authority outside Auth"),
    ("access-postgres", "protocols are registered by the program"),
    ("access-ssh", "protocols are registered by the program"),
    ("russh", "protocols are registered by the program"),
];

/// Every crate of the workspace.
pub(super) const MEMBERS: &[CrateRule] = &[
    member("access-core", &[], NO_IO),
    member("access-backend", &[], &[]),
    member(
        "access-backend-sql",
        &["access-backend"],
        &[("access-core", "a store knows no user, role or certificate")],
    ),
    member("access-ca", &["access-core"], &[]),
    member("access-client", &["access-core"], NO_AUTHORITY),
    member(
        "access-auth",
        &["access-core", "access-backend", "access-ca", "access-client"],
        &[
            ("access-ssh", "Auth speaks no user protocol"),
            ("russh", "Auth speaks no user protocol"),
            ("access-tunnel", "Auth holds no tunnel"),
        ],
    ),
    member("access-tunnel", &[], NO_CORE),
    member("access-proxy", &["access-core", "access-tunnel"], NO_PROTOCOL),
    member("access-agent", &["access-core", "access-tunnel", "access-client"], NO_PROTOCOL),
    member("access-host", &["access-core"], NO_CLUSTER),
    member("access-ssh", &["access-core"], NO_CLUSTER),
    member("access-postgres", &["access-core"], NO_CLUSTER),
    // What daemons share holds how a host joins, too, and how its SSH keys come from that.
    member(
        "access-daemon",
        &["access-core", "access-client", "access-agent", "access-host", "access-ssh"],
        NO_AUTHORITY,
    ),
    member(
        "access-cli",
        // Of PostgreSQL the prelude: a loopback port of its own answers the client's first words.
        &["access-core", "access-client", "access-postgres", "access-host", "access-daemon"],
        NO_AUTHORITY,
    ),
    member(
        "accessctl-cli",
        &[
            "access-core",
            "access-client",
            "access-host",
            "access-daemon",
            // Beside a stopped Auth Service it opens the store itself.
            "access-auth",
            "access-backend",
            // It moves a store to another engine.
            "access-backend-sql",
            "access-ca",
            "access-bin-auth",
        ],
        &[],
    ),
    member(
        "access-bin-auth",
        &[
            "access-core",
            "access-backend",
            "access-backend-sql",
            "access-ca",
            "access-client",
            "access-auth",
            "access-host",
            "access-daemon",
        ],
        &[],
    ),
    member(
        "access-bin-proxy",
        &[
            "access-core",
            "access-client",
            "access-tunnel",
            "access-proxy",
            // The proxy joins and renews as an agent does.
            "access-agent",
            "access-postgres",
            "access-ssh",
            "access-host",
            "access-daemon",
        ],
        NO_AUTHORITY,
    ),
    member(
        "access-bin-agent",
        &[
            "access-core",
            "access-client",
            "access-tunnel",
            "access-agent",
            "access-postgres",
            "access-ssh",
            "access-host",
            "access-daemon",
        ],
        NO_AUTHORITY,
    ),
    top("access-bin-quickstart"),
    top("access-benches"),
    top("access-e2e"),
    top("access-examples"),
    member("xtask", &[], &[]),
];

/// Crates that only some of ours may import, tests apart.
pub(super) const OWNED: &[(&str, &[&str], &str)] = &[
    ("rusqlite", &["access-backend"], "state is reached through access-backend"),
    ("tokio-postgres", &["access-backend-sql"], "state is reached through access-backend-sql"),
    ("argon2", &["access-auth"], "passwords are hashed by access-auth"),
    // The end-to-end tests forge certificates with it; the benches make those of other programs.
    ("rcgen", &["access-ca", "access-e2e", "access-benches"], "certificates are made by access-ca"),
    ("russh", &["access-ssh"], "SSH is spoken by access-ssh"),
    ("postgres-protocol", &["access-postgres"], "PostgreSQL is spoken by access-postgres"),
    ("object_store", &["access-auth"], "recordings are stored by access-auth"),
];

/// Features that must not be asked for: crate, its dependency, features, why.
pub(super) const FEATURES: &[(&str, &str, &[&str], &str)] = &[(
    "access-core",
    "tokio",
    &["full", "rt", "rt-multi-thread", "net", "fs", "process", "signal"],
    "the core opens no socket or file and spawns nothing",
)];

/// Crates that must not be in the graph, whoever brings them.
pub(super) const FORBIDDEN: &[Never] = &[
    ("aws-lc-rs", "the one provider is ring"),
    ("aws-lc-sys", "the one provider is ring"),
    ("aws-lc-fips-sys", "the one provider is ring"),
    ("boring", "the one provider is ring"),
    ("boring-sys", "the one provider is ring"),
    ("openssl", "the one provider is ring"),
    ("openssl-sys", "the one provider is ring"),
    ("rustls-openssl", "the one provider is ring"),
    ("native-tls", "TLS is rustls"),
    ("rustls-pemfile", "unmaintained, RUSTSEC-2025-0134; rustls-pki-types reads PEM"),
    ("mysql_common", "framing is by hand; this doubles it"),
    ("opensrv-mysql", "a query shim, not a proxy"),
    ("samael", "needs OpenSSL"),
];
