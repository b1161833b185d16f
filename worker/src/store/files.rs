//! The files of a worker's folder. Each holds a checksum and a message, so that
//! a torn or foreign file is told from a whole one.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use prost::Message;

use super::{Known, Stored};

const TASKS: &str = "tasks";
const KNOWN: &str = "managers";
const DAMAGED: &str = "damaged";
const TEMPORARY: &str = ".tmp";

/// Makes the folders, readable by their owner only.
pub fn prepare(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder.join(TASKS))
}

fn task_path(folder: &Path, task_id: &str) -> io::Result<PathBuf> {
    // An id becomes a file name: nothing else may pass.
    let sound = !task_id.is_empty()
        && task_id.len() <= 128
        && task_id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    if sound {
        Ok(folder.join(TASKS).join(task_id))
    } else {
        Err(io::Error::new(
            ErrorKind::InvalidInput,
            format!("\"{task_id}\" is no task id"),
        ))
    }
}

/// Every task that can be read.
pub fn read_tasks(folder: &Path) -> io::Result<Vec<Stored>> {
    let mut tasks = Vec::new();
    let mut entries: Vec<PathBuf> = fs::read_dir(folder.join(TASKS))?
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .collect();
    entries.sort();
    for path in entries {
        let name = path
            .file_name()
            .and_then(|n| n.to_str())
            .unwrap_or_default();
        if name.ends_with(TEMPORARY) {
            let _ = fs::remove_file(&path);
            continue;
        }
        let stored = read(&path).and_then(|bytes| {
            Stored::decode(bytes.as_slice()).map_err(|e| io::Error::new(ErrorKind::InvalidData, e))
        });
        match stored {
            Ok(stored)
                if stored
                    .assignment
                    .as_ref()
                    .is_some_and(|a| a.task_id == name) =>
            {
                tasks.push(stored);
            }
            Ok(_) => set_aside(folder, &path, "it is another task's"),
            Err(error) => set_aside(folder, &path, &error.to_string()),
        }
    }
    Ok(tasks)
}

/// What is known of the managers; nothing when it cannot be read.
pub fn read_known(folder: &Path) -> Known {
    let path = folder.join(KNOWN);
    let known = read(&path).and_then(|bytes| {
        Known::decode(bytes.as_slice()).map_err(|e| io::Error::new(ErrorKind::InvalidData, e))
    });
    match known {
        Ok(known) => known,
        Err(error) if error.kind() == ErrorKind::NotFound => Known::default(),
        Err(error) => {
            set_aside(folder, &path, &error.to_string());
            Known::default()
        }
    }
}

/// Exchanges a task's file.
pub fn write_task(folder: &Path, task_id: &str, bytes: &[u8]) -> io::Result<()> {
    write(&task_path(folder, task_id)?, bytes)
}

/// Exchanges the managers' file.
pub fn write_known(folder: &Path, bytes: &[u8]) -> io::Result<()> {
    write(&folder.join(KNOWN), bytes)
}

/// Removes a task's file; fine when there is none.
pub fn remove_task(folder: &Path, task_id: &str) -> io::Result<()> {
    match fs::remove_file(task_path(folder, task_id)?) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes all files of the worker.
pub fn destroy(folder: &Path) -> io::Result<()> {
    for part in [TASKS, DAMAGED] {
        match fs::remove_dir_all(folder.join(part)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    match fs::remove_file(folder.join(KNOWN)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let bytes = fs::read(path)?;
    let damaged = || io::Error::new(ErrorKind::InvalidData, "it is torn");
    let (sum, message) = bytes.split_first_chunk::<8>().ok_or_else(damaged)?;
    if u64::from_le_bytes(*sum) == checksum(message) {
        Ok(message.to_vec())
    } else {
        Err(damaged())
    }
}

fn write(path: &Path, message: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(TEMPORARY);
    let temporary = PathBuf::from(temporary);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(&checksum(message).to_le_bytes())?;
    file.write_all(message)?;
    drop(file);
    fs::rename(&temporary, path)
}

/// FNV-1a: against tearing, not against people.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn set_aside(folder: &Path, path: &Path, why: &str) {
    tracing::warn!(file = %path.display(), why, "a file cannot be read and is put aside");
    let place = folder.join(DAMAGED);
    let moved = fs::create_dir_all(&place).and_then(|()| match path.file_name() {
        Some(name) => fs::rename(path, place.join(name)),
        None => Ok(()),
    });
    if moved.is_err() {
        let _ = fs::remove_file(path);
    }
}
