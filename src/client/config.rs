//! Contexts: named swarms with an operator's certificate for each, kept under
//! `~/.config/skep/contexts/<name>/`, readable by their owner only.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use skep_proto::{Code, Error, Result};

/// The name of this host's own daemon.
pub const DEFAULT_CONTEXT: &str = "default";
/// Longest name of a context, characters.
const NAME_MAX: usize = 63;

/// Everything that is needed to operate a swarm from elsewhere. As JSON it is
/// what `context export` writes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// What the operator calls it.
    pub name: String,
    /// Which swarm it is for.
    pub cluster_id: String,
    /// `host:port` of its managers when it was made.
    pub managers: Vec<String>,
    /// Root certificate of the swarm.
    pub root_pem: String,
    /// The operator's certificate.
    pub cert_pem: String,
    /// Its private key.
    pub key_pem: String,
}

/// The contexts of one user.
#[derive(Debug, Clone)]
pub struct Contexts {
    dir: PathBuf,
}

impl Contexts {
    /// `$SKEP_CONFIG_DIR`, else `$XDG_CONFIG_HOME/skep`, else `~/.config/skep`.
    pub fn of_user() -> Result<Self> {
        let dir = |name: &str| {
            std::env::var_os(name)
                .filter(|v| !v.is_empty())
                .map(PathBuf::from)
        };
        dir("SKEP_CONFIG_DIR")
            .or_else(|| dir("XDG_CONFIG_HOME").map(|d| d.join("skep")))
            .or_else(|| dir("HOME").map(|d| d.join(".config/skep")))
            .map(|dir| Self { dir })
            .ok_or_else(|| {
                Error::precondition("neither HOME nor SKEP_CONFIG_DIR is set")
                    .hint("contexts are kept in ~/.config/skep, or where SKEP_CONFIG_DIR says")
            })
    }

    /// Contexts under `dir`.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    fn dir_of(&self, name: &str) -> PathBuf {
        self.dir.join("contexts").join(name)
    }

    /// Every name but `default`, sorted.
    pub fn names(&self) -> Result<Vec<String>> {
        let dir = self.dir.join("contexts");
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("read", &dir, &error)),
        };
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| check_name(name).is_ok())
            .collect();
        names.sort();
        Ok(names)
    }

    /// The context in use, `default` if none was chosen.
    pub fn current(&self) -> String {
        fs::read_to_string(self.dir.join("current-context"))
            .map(|text| text.trim().to_owned())
            .ok()
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| DEFAULT_CONTEXT.to_owned())
    }

    /// Uses `name` from now on.
    pub fn choose(&self, name: &str) -> Result<()> {
        if name != DEFAULT_CONTEXT {
            self.load(name)?;
        }
        self.make_dir(&self.dir)?;
        let path = self.dir.join("current-context");
        fs::write(&path, format!("{name}\n")).map_err(|e| failed("write", &path, &e))
    }

    /// Reads one.
    pub fn load(&self, name: &str) -> Result<Bundle> {
        check_name(name)?;
        let path = self.dir_of(name).join("context.json");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(
                    Error::new(Code::NotFound, format!("context {name} not found"))
                        .hint("skep context ls lists what there is"),
                );
            }
            Err(error) => return Err(failed("read", &path, &error)),
        };
        let mut bundle = parse(&text, &path.display().to_string())?;
        bundle.name = name.to_owned();
        Ok(bundle)
    }

    /// Refuses a name that cannot be given, or is taken.
    pub fn check_free(&self, name: &str) -> Result<()> {
        check_name(name)?;
        if name == DEFAULT_CONTEXT {
            return Err(Error::invalid(
                "name",
                "default is this host's own daemon and cannot be made",
            ));
        }
        if self.dir_of(name).join("context.json").exists() {
            return Err(
                Error::new(Code::Exists, format!("context {name} exists already"))
                    .hint(format!("skep context rm {name} first")),
            );
        }
        Ok(())
    }

    /// Keeps a new one.
    pub fn save(&self, bundle: &Bundle) -> Result<()> {
        self.check_free(&bundle.name)?;
        let dir = self.dir_of(&bundle.name);
        self.make_dir(&dir)?;
        write_private(&dir.join("context.json"), bundle)
    }

    /// Forgets one. The certificate stays valid until it expires.
    pub fn remove(&self, name: &str, force: bool) -> Result<()> {
        self.load(name)?;
        if self.current() == name {
            if !force {
                return Err(Error::precondition(format!("context {name} is in use"))
                    .hint("skep context use default, or rm --force"));
            }
            self.choose(DEFAULT_CONTEXT)?;
        }
        let dir = self.dir_of(name);
        fs::remove_dir_all(&dir).map_err(|e| failed("remove", &dir, &e))
    }

    fn make_dir(&self, dir: &Path) -> Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|e| failed("make", dir, &e))
    }
}

/// The bundle in the text of a file; `from` names the file.
pub fn parse(text: &str, from: &str) -> Result<Bundle> {
    let bundle: Bundle = serde_json::from_str(text).map_err(|e| {
        Error::invalid("context", format!("{from} is no exported context: {e}"))
            .hint("skep context export NAME writes one")
    })?;
    for (field, value) in [
        ("root_pem", &bundle.root_pem),
        ("cert_pem", &bundle.cert_pem),
        ("key_pem", &bundle.key_pem),
    ] {
        if !value.contains("-----BEGIN ") {
            return Err(Error::invalid(field, format!("{from}: is not PEM")));
        }
    }
    Ok(bundle)
}

/// Writes a bundle to a file that only its owner may read.
pub fn write_private(path: &Path, bundle: &Bundle) -> Result<()> {
    let mut text = serde_json::to_string_pretty(bundle)
        .map_err(|e| Error::internal(format!("the context cannot be written as JSON: {e}")))?;
    text.push('\n');
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|e| failed("make", path, &e))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(|e| failed("write", path, &e))
}

/// A name that is safe as a folder's.
fn check_name(name: &str) -> Result<()> {
    let sound = !name.is_empty()
        && name.len() <= NAME_MAX
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if sound {
        Ok(())
    } else {
        Err(
            Error::invalid("name", format!("{name:?} is no name for a context"))
                .hint("letters, digits, - _ and ., 63 at most, a letter or digit first"),
        )
    }
}

fn failed(verb: &str, path: &Path, error: &std::io::Error) -> Error {
    Error::precondition(format!("cannot {verb} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn bundle(name: &str) -> Bundle {
        let pem = "-----BEGIN X-----\n".to_owned();
        Bundle {
            name: name.into(),
            cluster_id: "c1".into(),
            managers: vec!["10.0.0.1:2377".into()],
            root_pem: pem.clone(),
            cert_pem: pem.clone(),
            key_pem: pem,
        }
    }

    #[test]
    fn a_context_comes_back_as_it_was_kept_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let contexts = Contexts::at(dir.path().join("skep"));
        assert_eq!(contexts.current(), "default");
        contexts.save(&bundle("prod")).unwrap();
        assert_eq!(contexts.load("prod").unwrap(), bundle("prod"));
        assert_eq!(contexts.names().unwrap(), ["prod"]);
        let path = dir.path().join("skep/contexts/prod/context.json");
        let mode = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(
            contexts.save(&bundle("prod")).unwrap_err().code(),
            Code::Exists
        );
    }

    #[test]
    fn the_context_in_use_is_not_removed_by_accident() {
        let dir = tempfile::tempdir().unwrap();
        let contexts = Contexts::at(dir.path());
        contexts.save(&bundle("prod")).unwrap();
        contexts.choose("prod").unwrap();
        assert_eq!(contexts.current(), "prod");
        assert!(contexts.remove("prod", false).is_err());
        contexts.remove("prod", true).unwrap();
        assert_eq!(contexts.current(), "default");
        assert!(contexts.choose("prod").is_err());
    }

    #[test]
    fn a_name_cannot_leave_its_folder() {
        for name in ["", "..", "a/b", ".hidden", "a b"] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        assert!(check_name("eu-1.prod_x").is_ok());
    }

    #[test]
    fn a_file_that_is_no_context_is_named() {
        let error = parse("{}", "x.json").unwrap_err();
        assert!(error.message.contains("x.json"));
        let mut broken = bundle("a");
        broken.key_pem.clear();
        let text = serde_json::to_string(&broken).unwrap();
        assert_eq!(parse(&text, "x").unwrap_err().field, "key_pem");
    }
}
