//! Words and decisions of the access domain: identities, roles, the gate, audit events, recordings.
