//! Certificates on disk, in Swarm's places: `<data>/certificates/`.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use skep_proto::transport::Credentials;
use skep_proto::{Error, Result};

const DIRECTORY: &str = "certificates";
const ROOT: &str = "swarm-root-ca.crt";
const CERT: &str = "swarm-node.crt";
const KEY: &str = "swarm-node.key";
/// A key is a secret: for its owner's eyes only.
const KEY_MODE: u32 = 0o600;
const CERT_MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o700;

/// What a node shows and trusts, PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, and what it was signed by up to the root.
    pub cert_pem: Vec<u8>,
    /// Its private key.
    pub key_pem: Vec<u8>,
    /// The roots to trust.
    pub root_pem: Vec<u8>,
}

impl std::fmt::Debug for CertificateFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificateFiles").finish_non_exhaustive()
    }
}

fn failed<'a>(what: &'a str, path: &'a Path) -> impl Fn(io::Error) -> Error + 'a {
    move |e| {
        let error = Error::internal(format!("cannot {what} {}: {e}", path.display()));
        match e.kind() {
            io::ErrorKind::StorageFull => error.hint("the disk is full: make room"),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                error.hint("the daemon must be able to write to its data directory")
            }
            _ => error,
        }
    }
}

/// Where the certificates of the host with this data directory are.
pub fn directory(data_dir: &Path) -> PathBuf {
    data_dir.join(DIRECTORY)
}

impl CertificateFiles {
    /// Ready for connections.
    pub fn credentials(&self) -> Result<Credentials> {
        Credentials::from_pem(&self.cert_pem, &self.key_pem, &self.root_pem)
            .map_err(|e| Error::internal(format!("this node's certificate cannot be used: {e}")))
    }

    /// Writes all three, so that after a crash at any moment either the old or
    /// the new certificate is there with the key that belongs to it.
    pub fn save(&self, data_dir: &Path) -> Result<()> {
        let directory = directory(data_dir);
        ensure_directory(&directory)?;
        // More roots than before do no harm with the old certificate, and a new
        // one may need them: roots first. Certificate and key go into one file,
        // so that one rename exchanges both.
        replace(&directory.join(ROOT), &self.root_pem, CERT_MODE)?;
        let both = [self.key_pem.as_slice(), self.cert_pem.as_slice()].concat();
        replace(&directory.join(KEY), &both, KEY_MODE)?;
        replace(&directory.join(CERT), &self.cert_pem, CERT_MODE)?;
        sync(&directory)
    }

    /// Reads them back. `None` when this host is no node of any swarm. Modes
    /// that let others read the key are set right, with a warning in the log.
    pub fn load(data_dir: &Path) -> Result<Option<Self>> {
        let directory = directory(data_dir);
        let key = directory.join(KEY);
        let both = match fs::read(&key) {
            Ok(both) => both,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed("read", &key)(e)),
        };
        narrow(&directory, DIRECTORY_MODE)?;
        narrow(&key, KEY_MODE)?;
        let root = directory.join(ROOT);
        let root_pem = fs::read(&root).map_err(|e| {
            failed("read", &root)(e).hint(
                "copy swarm-root-ca.crt from another node of this swarm, or leave and join again",
            )
        })?;
        let (key_pem, cert_pem) = split(&both).ok_or_else(|| {
            Error::internal(format!(
                "{} does not hold a private key and its certificate",
                key.display()
            ))
            .hint("restore it, or move the certificates away and join again")
        })?;
        let files = Self {
            cert_pem,
            key_pem,
            root_pem,
        };
        // Say now what cannot work later.
        files.credentials().map_err(|e| {
            Error::internal(format!("{}: {}", directory.display(), e.message))
                .hint("restore the certificates, or move them away and join again")
        })?;
        Ok(Some(files))
    }

    /// Removes them: the host has left its swarm.
    pub fn remove(data_dir: &Path) -> Result<()> {
        let directory = directory(data_dir);
        match fs::remove_dir_all(&directory) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove", &directory)(e)),
            _ => Ok(()),
        }
    }
}

/// The key and the certificates behind it.
fn split(both: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let text = std::str::from_utf8(both).ok()?;
    let at = text.find("-----BEGIN CERTIFICATE-----")?;
    let (key, cert) = text.split_at(at);
    key.contains("PRIVATE KEY-----")
        .then(|| (key.as_bytes().to_vec(), cert.as_bytes().to_vec()))
}

fn ensure_directory(directory: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(directory)
        .map_err(failed("create", directory))?;
    if let Some(parent) = directory.parent() {
        sync(parent)?;
    }
    narrow(directory, DIRECTORY_MODE)
}

/// Makes renames and new files in `directory` outlast a power failure.
fn sync(directory: &Path) -> Result<()> {
    File::open(directory)
        .and_then(|d| d.sync_all())
        .map_err(failed("sync", directory))
}

/// Takes away every right that `mode` does not give.
fn narrow(path: &Path, mode: u32) -> Result<()> {
    let now = fs::metadata(path)
        .map_err(failed("examine", path))?
        .permissions()
        .mode()
        & 0o7777;
    if now & !mode == 0 {
        return Ok(());
    }
    tracing::warn!(path = %path.display(), mode = format!("{now:o}"), "others had access; set right");
    fs::set_permissions(path, Permissions::from_mode(now & mode))
        .map_err(failed("set the mode of", path))
}

/// All of the new content or all of the old, even if the power fails.
fn replace(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let temporary = path.with_extension("new");
    let write = || -> io::Result<()> {
        match fs::remove_file(&temporary) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|e| {
        let _ = fs::remove_file(&temporary);
        failed("write", path)(e)
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    use super::*;

    pub(crate) fn sample(node: &str) -> CertificateFiles {
        let mut root = CertificateParams::default();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root_key = KeyPair::generate().unwrap();
        let root_pem = root.self_signed(&root_key).unwrap().pem();
        let issuer = Issuer::new(root, root_key);
        let mut leaf = CertificateParams::new(vec!["swarm-manager".to_owned()]).unwrap();
        for (kind, text) in [
            (DnType::CommonName, node),
            (DnType::OrganizationalUnitName, "swarm-manager"),
            (DnType::OrganizationName, "c1"),
        ] {
            leaf.distinguished_name.push(kind, text);
        }
        let key = KeyPair::generate().unwrap();
        CertificateFiles {
            cert_pem: leaf.signed_by(&key, &issuer).unwrap().pem().into(),
            key_pem: key.serialize_pem().into(),
            root_pem: root_pem.into(),
        }
    }

    #[test]
    fn what_is_saved_is_read_back_and_only_its_owner_may_read_the_key() {
        let dir = tempfile::tempdir().unwrap();
        assert!(CertificateFiles::load(dir.path()).unwrap().is_none());
        let (old, new) = (sample("n1"), sample("n2"));
        old.save(dir.path()).unwrap();
        new.save(dir.path()).unwrap();
        let read = CertificateFiles::load(dir.path()).unwrap().unwrap();
        assert_eq!(read, new);
        let mode = |p: PathBuf| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        let certificates = directory(dir.path());
        assert_eq!(mode(certificates.join(KEY)), KEY_MODE);
        assert_eq!(mode(certificates.clone()), DIRECTORY_MODE);
        CertificateFiles::remove(dir.path()).unwrap();
        assert!(CertificateFiles::load(dir.path()).unwrap().is_none());
    }

    #[test]
    fn a_key_that_others_may_read_is_set_right() {
        let dir = tempfile::tempdir().unwrap();
        sample("n1").save(dir.path()).unwrap();
        let key = directory(dir.path()).join(KEY);
        fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
        CertificateFiles::load(dir.path()).unwrap();
        assert_eq!(
            fs::metadata(&key).unwrap().permissions().mode() & 0o777,
            KEY_MODE
        );
    }

    #[test]
    fn a_damaged_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let files = sample("n1");
        files.save(dir.path()).unwrap();
        let certificates = directory(dir.path());
        fs::write(certificates.join(KEY), b"rubbish").unwrap();
        let error = CertificateFiles::load(dir.path()).unwrap_err();
        assert!(error.message.contains(KEY), "{error}");
        files.save(dir.path()).unwrap();
        fs::write(certificates.join(ROOT), b"").unwrap();
        let error = CertificateFiles::load(dir.path()).unwrap_err();
        assert!(error.message.contains("root certificate"), "{error}");
        fs::remove_file(certificates.join(ROOT)).unwrap();
        let error = CertificateFiles::load(dir.path()).unwrap_err();
        assert!(error.message.contains(ROOT), "{error}");
    }
}
