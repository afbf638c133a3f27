//! The Auth Service: login, joining, issuing, roles, audit and recording storage, and its API.
