//! The agent's runtime: join, renew, hold tunnels, dispatch to protocols, spool.
