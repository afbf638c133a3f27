//! Issuing: draft → vetted → signed.

mod database;
mod draft;
mod host;
mod names;
mod policy;
mod signed;
mod ssh;
mod vetted;
mod x509;

pub use database::{DatabaseClientDraft, DatabaseServer, DatabaseServerDraft};
pub use draft::{ServerDraft, SshPermissions, UserDraft};
pub use host::HostDraft;
pub use names::SanName;
pub use policy::IssuingPolicy;
pub use signed::Signed;
pub use vetted::Vetted;

/// Makes 16 random bytes a serial number: positive, and of the same length each time (RFC 5280,
/// section 4.1.2.2). 126 of its bits are random.
pub(crate) fn make_positive(serial: &mut [u8; 16]) {
    let [first, ..] = serial;
    *first = (*first & 0x3f) | 0x40;
}
