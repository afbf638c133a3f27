//! What the daemons share: configuration, logging, signals, diagnostics.
