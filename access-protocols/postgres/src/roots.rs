//! Roots for the certificates of databases, and a file of them that is followed.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::error::PostgresError;

/// The largest file of roots that is read.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// What is trusted: what was given once, or what a file says at the moment.
#[derive(Clone, Debug)]
pub(crate) enum Roots {
    Fixed(Arc<RootCertStore>),
    File(Arc<Followed>),
}

/// A file as it was read last.
#[derive(Debug)]
pub(crate) struct Followed {
    path: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    /// What the file held when it was looked at last, which may be nothing that can be used.
    bytes: Vec<u8>,
    roots: Arc<RootCertStore>,
}

impl Roots {
    pub(crate) fn fixed(
        roots: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Result<Self, PostgresError> {
        Ok(Self::Fixed(Arc::new(store(roots)?)))
    }

    pub(crate) fn file(path: PathBuf) -> Result<Self, PostgresError> {
        let known = read(&path).and_then(|bytes| {
            let roots = Arc::new(parse(&bytes)?);
            Ok(Known { bytes, roots })
        });
        match known {
            Ok(known) => Ok(Self::File(Arc::new(Followed { path, known: Mutex::new(known) }))),
            Err(why) => Err(PostgresError::RootFile { path, why }),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.now().is_empty()
    }

    /// The roots of the moment. A file is read each time, which takes less than anything that is
    /// done with its roots; one that cannot be used any more leaves them as they were.
    pub(crate) fn now(&self) -> Arc<RootCertStore> {
        let followed = match self {
            Self::Fixed(roots) => return Arc::clone(roots),
            Self::File(followed) => followed,
        };
        let path = followed.path.display();
        let read = read(&followed.path);
        let mut known = followed.known.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = match read {
            Ok(bytes) if bytes == known.bytes => return Arc::clone(&known.roots),
            Ok(bytes) => {
                let parsed = parse(&bytes);
                // Whatever they are: it is told once for each change.
                known.bytes = bytes;
                parsed
            }
            Err(why) => Err(why),
        };
        match changed {
            Ok(roots) => {
                tracing::info!(%path, "the roots for a database have changed and are followed");
                known.roots = Arc::new(roots);
            }
            Err(why) => tracing::warn!(%path, "the roots for a database stay as they were: {why}"),
        }
        Arc::clone(&known.roots)
    }
}

fn store(
    roots: impl IntoIterator<Item = CertificateDer<'static>>,
) -> Result<RootCertStore, PostgresError> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root).map_err(PostgresError::Root)?;
    }
    Ok(store)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let file = File::open(path).map_err(|err| err.to_string())?;
    let size = file.metadata().map_or(0, |about| about.len().min(MAX_FILE));
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|err| err.to_string())?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!("it is longer than {MAX_FILE} bytes"));
    }
    Ok(bytes)
}

fn parse(bytes: &[u8]) -> Result<RootCertStore, String> {
    let roots: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let store = store(roots.map_err(|_| "it is not whole PEM".to_owned())?)
        .map_err(|err| err.to_string())?;
    if store.is_empty() { Err("there is no certificate in it".into()) } else { Ok(store) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(name: &str) -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.self_signed(&key).unwrap().pem()
    }

    #[test]
    fn a_file_is_followed_as_long_as_it_can_be_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("roots.pem");
        let refused = |path: &Path| Roots::file(path.to_owned()).unwrap_err().to_string();
        assert!(refused(&path).contains("roots.pem"), "it is not there");
        std::fs::write(&path, "no certificate").unwrap();
        assert!(refused(&path).contains("there is no certificate in it"));
        let (one, two) = (root("one"), root("two"));
        std::fs::write(&path, &one).unwrap();
        let roots = Roots::file(path.clone()).unwrap();
        let first = roots.now();
        assert_eq!(first.len(), 1);
        assert!(Arc::ptr_eq(&first, &roots.now()), "nothing is parsed again");
        std::fs::write(&path, format!("{one}{two}")).unwrap();
        assert_eq!(roots.now().len(), 2);
        // Half a file, none, and one that is too long.
        let torn = &one[..one.len() / 2];
        for bad in [Some(torn.to_owned()), None, Some(" ".repeat(MAX_FILE as usize + 1))] {
            match bad {
                Some(bad) => std::fs::write(&path, bad).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            assert_eq!(roots.now().len(), 2);
        }
        std::fs::write(&path, &two).unwrap();
        let last = roots.now();
        assert!(last.len() == 1 && last.roots[0].subject != first.roots[0].subject);
    }
}
