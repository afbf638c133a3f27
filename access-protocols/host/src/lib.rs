//! This host: the system clock, TCP reach, and processes spawned as the login user.
