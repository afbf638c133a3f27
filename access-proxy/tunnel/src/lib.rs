//! A reverse-tunnel multiplexer: sans-I/O core, async driver, fair and bounded.
