//! An ordered key-value store with revisions, expiry, atomic batches and watch: memory and SQLite engines.
