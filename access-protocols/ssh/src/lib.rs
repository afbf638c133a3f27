//! The SSH protocol behind the gate: the agent's server and the proxy's jump host.
