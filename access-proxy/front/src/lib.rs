//! The public front door: one port, routing by first bytes, SNI and ALPN, tunnels.
