//! The parameters that exist, and the one that was probably meant.

/// Parameters that are understood.
pub(super) const KNOWN: &[&str] = &[
    "application_name",
    "channel_binding",
    "client_encoding",
    "connect_timeout",
    "dbname",
    "fallback_application_name",
    "gssencmode",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "load_balance_hosts",
    "options",
    "password",
    "pool_max_conn_idle_time",
    "pool_max_conn_lifetime",
    "pool_max_conns",
    "port",
    "sslcert",
    "sslcompression",
    "sslkey",
    "sslmode",
    "sslnegotiation",
    "sslrootcert",
    "sslsni",
    "target_session_attrs",
    "tcp_user_timeout",
    "user",
];

/// Parameters of libpq or pgx that have no place here, and what to do instead.
const ELSEWHERE: &[(&str, &str)] = &[
    ("sslpassword", "keep the key without a passphrase, readable for its owner alone"),
    ("sslcrl", "revocation is by short-lived certificates"),
    ("sslcrldir", "revocation is by short-lived certificates"),
    ("passfile", "give the password itself, or a client certificate with sslcert and sslkey"),
    ("service", "write the parameters of the service out"),
    ("krbsrvname", "GSSAPI is not spoken; use a password or a client certificate"),
    ("gsslib", "GSSAPI is not spoken; use a password or a client certificate"),
    ("gssdelegation", "GSSAPI is not spoken; use a password or a client certificate"),
    ("requirepeer", "name the host by TCP with sslmode=verify-full"),
    ("requiressl", "write sslmode=verify-full"),
    ("replication", "the store opens no replication connection"),
    ("pool_min_conns", "connections are opened as they are needed; leave it out"),
    ("pool_health_check_period", "connections are checked as they are used; leave it out"),
    ("statement_cache_capacity", "every statement is prepared once a connection; leave it out"),
    ("default_query_exec_mode", "statements are prepared; leave it out"),
];

/// What to say of a parameter that is not understood.
pub(super) fn unknown(name: &str) -> String {
    if let Some((_, instead)) = ELSEWHERE.iter().find(|(known, _)| *known == name) {
        return format!("parameter {name} is not supported: {instead}");
    }
    let shown: String = name.chars().take(40).collect();
    match nearest(name) {
        Some(near) => format!("unknown parameter {shown:?}; did you mean {near}?"),
        None => format!("unknown parameter {shown:?}; known are {}", KNOWN.join(", ")),
    }
}

fn nearest(name: &str) -> Option<&'static str> {
    let name = name.to_lowercase();
    if name.len() > 40 {
        return None;
    }
    let (distance, near) = KNOWN.iter().map(|known| (distance(&name, known), *known)).min()?;
    (distance <= 1 + near.len() / 4).then_some(near)
}

/// How many letters have to be put in, taken out or changed.
/// <https://en.wikipedia.org/wiki/Levenshtein_distance>
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (at, a) in one.chars().enumerate() {
        let mut left = at + 1;
        let mut corner = at;
        let mut next = vec![left];
        for (above, b) in row.iter().skip(1).zip(other.chars()) {
            let here = (corner + usize::from(a != b)).min(left + 1).min(above + 1);
            corner = *above;
            left = here;
            next.push(here);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}
