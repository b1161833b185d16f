//! Keeps the house in order: what can be read off the files alone.
//!
//! A rule that only people keep is a rule that rots: the map, the purity of
//! the pure rooms, the direction of imports and the size of files are checked
//! here, in milliseconds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// No file is longer. A long one has more than one idea in it.
const LINES_MAX: usize = 600;

/// Rooms whose code is given everything and reaches out for nothing.
const PURE: &[&str] = &[
    "manager/src/state/",
    "manager/src/engine/",
    "manager/src/control/verbs/",
];

/// What a pure room never names.
const IMPURE: &[&str] = &[
    "tokio",
    "tonic",
    "openraft",
    "rocksdb",
    "rand",
    "std::time",
    "std::fs",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::net::UdpSocket",
    "std::net::ToSocketAddrs",
    "std::thread",
    "std::env",
    "std::process",
    "HashMap",
    "HashSet",
];

/// (folder, what its files never name).
const DIRECTIONS: &[(&str, &[&str])] = &[
    ("proto/", &["skep_manager", "skep_worker"]),
    ("manager/", &["skep_worker"]),
    ("worker/", &["skep_manager"]),
    (
        "manager/src/state/",
        &[
            "crate::engine",
            "crate::control",
            "crate::consensus",
            "crate::dispatch",
            "crate::identity",
            "crate::proposer",
        ],
    ),
    (
        "manager/src/engine/",
        &[
            "crate::control",
            "crate::consensus",
            "crate::dispatch",
            "crate::identity",
            "crate::proposer",
        ],
    ),
    ("src/cli/", &["skep_manager", "skep_worker"]),
    ("src/client/", &["skep_manager", "skep_worker"]),
    ("src/drill/", &["skep_manager", "skep_worker"]),
    ("src/format/", &["skep_manager", "skep_worker"]),
    ("src/ui/", &["skep_manager", "skep_worker"]),
];

/// Folders whose own folders are rooms, each with its place on the map.
const FLOORS: &[&str] = &["src", "manager/src", "worker/src", "proto/src", "."];

/// This file, which has to spell out what is not to be written.
const SELF: &str = "tests/tidy.rs";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file of the project, as a path from its root.
fn files() -> Vec<String> {
    fn walk(folder: &Path, into: &mut Vec<String>) {
        let mut entries: Vec<PathBuf> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        entries.sort();
        for path in entries {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "target" && name != ".git" && name != "__pycache__" {
                    walk(&path, into);
                }
            } else if name != ".git" {
                let path = path.strip_prefix(root()).unwrap();
                into.push(path.to_string_lossy().into_owned());
            }
        }
    }
    let mut all = Vec::new();
    walk(root(), &mut all);
    assert!(all.len() > 50, "the walk went astray: {all:?}");
    all
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Whether it is text that people of this project wrote.
fn is_written(path: &str) -> bool {
    let written = [
        ".rs", ".proto", ".md", ".toml", ".sh", ".py", ".yml", ".service", ".txt",
    ];
    path != "Cargo.lock"
        && (written.iter().any(|end| path.ends_with(end))
            || path.starts_with("deploy/")
            || path.starts_with("benches/")
            || path.starts_with(".ci/"))
}

/// The code of a line: what stands before a comment.
fn code(line: &str) -> &str {
    match line.find("//") {
        Some(at) if !line[..at].contains('"') => &line[..at],
        _ => line,
    }
}

/// Whether `line` has `name` with no letter on either side.
fn names(line: &str, name: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(name).any(|(at, _)| {
        !line[..at].chars().next_back().is_some_and(is_part)
            && !line[at + name.len()..].chars().next().is_some_and(is_part)
    })
}

/// Fails with every breach, so that one run tells all.
fn assert_none(rule: &str, breaches: &[String]) {
    assert!(breaches.is_empty(), "{rule}:\n  {}", breaches.join("\n  "));
}

#[test]
fn pure_rooms_reach_out_for_nothing() {
    let mut breaches = Vec::new();
    for path in files() {
        // Tests measure and read scripts.
        let test = path.contains("/tests/") || path.ends_with("tests.rs");
        if test || !path.ends_with(".rs") || !PURE.iter().any(|room| path.starts_with(room)) {
            continue;
        }
        for (index, line) in read(&path).lines().enumerate() {
            for word in IMPURE {
                if names(code(line), word) {
                    breaches.push(format!("{path}:{}: {word}", index + 1));
                }
            }
        }
    }
    assert_none("pure code is given what it needs as arguments", &breaches);
}

#[test]
fn pure_rooms_have_the_lints_denied() {
    for room in PURE {
        let path = format!("{room}mod.rs");
        if root().join(&path).exists() {
            assert!(
                read(&path)
                    .contains("#![deny(clippy::disallowed_methods, clippy::disallowed_types"),
                "{path} must deny clippy::disallowed_methods and clippy::disallowed_types"
            );
        }
    }
}

#[test]
fn imports_point_one_way() {
    let mut breaches = Vec::new();
    for path in files() {
        for (folder, banned) in DIRECTIONS {
            // The binary's crate has both sides at hand, so its tests may use them.
            let test = path.starts_with("src/") && path.contains("/tests/");
            let source = path.ends_with(".rs") || path.ends_with(".toml");
            if !path.starts_with(folder) || !source || test {
                continue;
            }
            for (index, line) in read(&path).lines().enumerate() {
                for name in *banned {
                    let package = name.replace('_', "-");
                    if names(code(line), name)
                        || (path.ends_with(".toml") && line.starts_with(&package))
                    {
                        breaches.push(format!("{path}:{}: {name}", index + 1));
                    }
                }
            }
        }
    }
    assert_none("a room knows only those below it", &breaches);
}

#[test]
fn no_file_is_too_long() {
    let long: Vec<String> = files()
        .iter()
        .filter(|path| is_written(path))
        .map(|path| (path, read(path).lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(path, lines)| format!("{path}: {lines} lines"))
        .collect();
    assert_none("split by idea", &long);
}

#[test]
fn nothing_is_left_unfinished() {
    let markers = [
        "todo!(",
        "unimplemented!(",
        "dbg!(",
        "FIXME",
        "TODO",
        "XXX",
        "#[ignore]",
    ];
    let mut breaches = Vec::new();
    for path in files()
        .iter()
        .filter(|path| is_written(path) && *path != SELF)
    {
        for (index, line) in read(path).lines().enumerate() {
            // Templates of random names, as mktemp wants them, are no marker.
            let line = line.replace(".XXXXXX", "");
            for marker in markers {
                if line.contains(marker) {
                    breaches.push(format!("{path}:{}: {marker}", index + 1));
                }
            }
        }
    }
    assert_none("finish it or leave it out", &breaches);
}

#[test]
fn nothing_speaks_of_one_machine() {
    let words = [
        "/work/",
        "/root/",
        ".library",
        "../shared",
        "index.crates.io",
        "static.crates.io",
        "deb.debian.org",
        "pypi.org",
        "registry.npmjs.org",
    ];
    let mut breaches = Vec::new();
    for path in files()
        .iter()
        .filter(|path| is_written(path) && *path != SELF)
    {
        for (index, line) in read(path).lines().enumerate() {
            for word in words {
                if line.contains(word) {
                    breaches.push(format!("{path}:{}: {word}", index + 1));
                }
            }
        }
    }
    assert_none("the project stands alone", &breaches);
}

#[test]
fn every_module_is_declared() {
    let all = files();
    let mut dead = Vec::new();
    for path in all.iter().filter(|path| path.ends_with(".rs")) {
        let file = Path::new(path);
        let stem = file.file_stem().unwrap().to_str().unwrap();
        let folder = file.parent().unwrap();
        let top = ["tests", "manager/tests", "worker/tests", "proto/tests"]
            .iter()
            .any(|tests| folder == Path::new(tests));
        if top || ["lib", "main", "build"].contains(&stem) {
            continue;
        }
        let (name, place) = match stem {
            "mod" => (
                folder.file_name().unwrap().to_str().unwrap(),
                folder.parent().unwrap(),
            ),
            _ => (stem, folder),
        };
        let declares = |other: &str| {
            let other = Path::new(other);
            let beside = other.parent() == Some(place);
            let above = other.with_extension("") == place;
            (beside || above)
                && read(other.to_str().unwrap()).lines().any(|line| {
                    let line = code(line);
                    names(line, &format!("mod {name}")) || line.contains(&format!("{stem}.rs\""))
                })
        };
        let declared = all
            .iter()
            .any(|other| other.ends_with(".rs") && other != path && declares(other));
        if !declared {
            dead.push(path.clone());
        }
    }
    assert_none("no `mod` names it, so nothing compiles or tests it", &dead);
}

/// Paths that a document names in `code`: those with a slash or a file's ending.
fn paths_of(document: &str) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for (index, part) in read(document).split('`').enumerate() {
        let is_path = index % 2 == 1
            && !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_alphanumeric() || "/._-".contains(c))
            && !part.starts_with('/')
            && (part.contains('/') || part.contains('.') || root().join(part).exists());
        if is_path {
            paths.insert(part.trim_end_matches('/').to_owned());
        }
    }
    paths
}

#[test]
fn every_path_on_the_map_exists() {
    let mut lost = Vec::new();
    for document in ["ARCHITECTURE.md", "README.md"] {
        for path in paths_of(document) {
            let first = path.split('/').next().unwrap();
            // `skep/web` and the like name images, not files.
            let ours = root().join(first).exists() || first.contains('.');
            if ours && !root().join(&path).exists() {
                lost.push(format!("{document}: {path}"));
            }
        }
    }
    assert_none("the map names what is not there", &lost);
}

#[test]
fn every_room_is_on_the_map() {
    let on_map = paths_of("ARCHITECTURE.md");
    let mut missing = Vec::new();
    for floor in FLOORS {
        for entry in fs::read_dir(root().join(floor)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().to_string_lossy().into_owned();
            let hidden = name == ".git" || name == "target";
            if !entry.path().is_dir() || hidden {
                continue;
            }
            let path = match *floor {
                "." => name,
                floor => format!("{floor}/{name}"),
            };
            let below = format!("{path}/");
            if !on_map.contains(&path) && !on_map.iter().any(|on| on.starts_with(&below)) {
                missing.push(path);
            }
        }
    }
    assert_none("say on ARCHITECTURE.md what the room is for", &missing);
}

#[test]
fn links_of_documents_lead_somewhere() {
    let mut broken = Vec::new();
    for path in files().iter().filter(|path| path.ends_with(".md")) {
        let text = read(path);
        for part in text.split("](").skip(1) {
            let target = part.split([')', '#', ' ']).next().unwrap();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let folder = root().join(path).parent().unwrap().to_path_buf();
            if !folder.join(target).exists() {
                broken.push(format!("{path}: {target}"));
            }
        }
    }
    assert_none("a link leads nowhere", &broken);
}

#[test]
fn the_changelog_keeps_its_shape() {
    let text = read("CHANGELOG.md");
    let kinds = [
        "Added",
        "Changed",
        "Deprecated",
        "Removed",
        "Fixed",
        "Security",
    ];
    assert!(text.starts_with("# Changelog\n"), "begins with its title");
    let releases: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("## ")).collect();
    assert_eq!(
        releases.first(),
        Some(&"[Unreleased]"),
        "what is next comes first"
    );
    for release in releases.iter().skip(1) {
        let (version, date) = release.split_once(" - ").expect("## [x.y.z] - yyyy-mm-dd");
        assert!(
            version.starts_with('[') && version.ends_with(']'),
            "{release}"
        );
        assert!(date.len() == 10 && date.as_bytes()[4] == b'-', "{release}");
    }
    for kind in text.lines().filter_map(|line| line.strip_prefix("### ")) {
        assert!(kinds.contains(&kind), "'{kind}' is none of {kinds:?}");
    }
}
