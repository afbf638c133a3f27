//! The Auth Service's API: types, client, pinning, and the watch-fed cache.
