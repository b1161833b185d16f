//! A world in a file: a mark, a header (what it is the state of), the records,
//! each length-delimited, and a SHA-256 of all that.
//!
//! A file appears under its name only when it is whole and on disk.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use skep_proto::v1::{RaftSnapshotHeader, Record};

use crate::consensus::convert::{header_in, header_out, malformed};
use crate::consensus::types::SnapshotMeta;
use crate::state::World;

const MARK: &[u8; 8] = b"SKEPSNP1";
/// Largest record that is believed, bytes.
const RECORD_BYTES_MAX: u64 = 16 << 20;
/// Largest snapshot that is taken over the network, bytes.
pub const SNAPSHOT_BYTES_MAX: u64 = 4 << 30;

/// A whole snapshot on disk. Stays readable after a newer one replaced it.
#[derive(Debug, Clone)]
pub struct SnapshotFile {
    path: PathBuf,
    file: Arc<File>,
    length: u64,
}

impl SnapshotFile {
    /// Opens a file that somebody wrote, believing nothing of it yet.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Self {
            path: path.to_owned(),
            file: Arc::new(file),
            length,
        })
    }

    /// Its size, bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Where it is, if it has not been replaced.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Up to `length` bytes from `offset`; fewer only at the end.
    pub fn chunk(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let left = self.length.saturating_sub(offset);
        let length = usize::try_from(left).map_or(length, |left| left.min(length));
        let mut chunk = vec![0; length];
        self.file.read_exact_at(&mut chunk, offset)?;
        Ok(chunk.into())
    }

    /// Checks the sum and reads what it is the state of.
    pub fn verify(&self) -> io::Result<SnapshotMeta> {
        let body = self.body()?;
        let mut sum = Context::new(&SHA256);
        let mut reader = self.reader(0, body);
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = reader.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            sum.update(buffer.get(..read).unwrap_or_default());
        }
        let mut expected = [0; SHA256_OUTPUT_LEN];
        self.file.read_exact_at(&mut expected, body)?;
        if sum.finish().as_ref() != expected {
            return Err(malformed(format!(
                "snapshot {}: its sum is wrong",
                self.path.display()
            )));
        }
        Ok(self.start()?.0)
    }

    /// Reads the world. Call [`Self::verify`] first.
    pub fn world(&self) -> io::Result<World> {
        let (_, mut reader) = self.start()?;
        let mut world = World::default();
        while let Some(bytes) = read_delimited(&mut reader)? {
            let record = Record::decode(bytes.as_slice())
                .map_err(|error| malformed(format!("snapshot record: {error}")))?;
            world.load(record);
        }
        Ok(world)
    }

    fn body(&self) -> io::Result<u64> {
        self.length
            .checked_sub(SHA256_OUTPUT_LEN as u64)
            .filter(|body| *body > MARK.len() as u64)
            .ok_or_else(|| malformed(format!("snapshot {} is cut off", self.path.display())))
    }

    fn reader(&self, from: u64, until: u64) -> BufReader<Section> {
        BufReader::new(Section {
            file: self.file.clone(),
            from,
            until,
        })
    }

    fn start(&self) -> io::Result<(SnapshotMeta, BufReader<Section>)> {
        let mut reader = self.reader(0, self.body()?);
        let mut mark = [0; MARK.len()];
        reader.read_exact(&mut mark)?;
        if &mark != MARK {
            return Err(malformed(format!(
                "{} is no snapshot of this version",
                self.path.display()
            )));
        }
        let header = read_delimited(&mut reader)?
            .ok_or_else(|| malformed(format!("snapshot {} is cut off", self.path.display())))?;
        let header = RaftSnapshotHeader::decode(header.as_slice())
            .map_err(|error| malformed(format!("snapshot header: {error}")))?;
        Ok((header_in(header)?, reader))
    }
}

/// Part of a file, read without moving anybody else's position in it.
struct Section {
    file: Arc<File>,
    from: u64,
    until: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.until.saturating_sub(self.from)).unwrap_or(usize::MAX);
        let length = left.min(buffer.len());
        let part = buffer.get_mut(..length).unwrap_or_default();
        let read = self.file.read_at(part, self.from)?;
        self.from += read as u64;
        Ok(read)
    }
}

/// One message with its length before it; `None` at the end.
fn read_delimited(reader: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let (mut length, mut shift) = (0u64, 0);
    loop {
        let mut byte = [0u8];
        if reader.read(&mut byte)? == 0 {
            return if shift == 0 {
                Ok(None)
            } else {
                Err(malformed("a snapshot record is cut off"))
            };
        }
        let [byte] = byte;
        length |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
        shift += 7;
        if shift > 56 {
            return Err(malformed("a snapshot record has an impossible length"));
        }
    }
    if length > RECORD_BYTES_MAX {
        return Err(malformed("a snapshot record has an impossible length"));
    }
    let mut bytes = Vec::new();
    reader.by_ref().take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != length {
        return Err(malformed("a snapshot record is cut off"));
    }
    Ok(Some(bytes))
}

struct Summed<W> {
    inner: W,
    sum: Context,
}

impl<W: Write> Summed<W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.inner.write_all(bytes)
    }
}

/// Writes a world's snapshot into `folder` and makes it the newest. Blocks.
pub fn write(folder: &Path, meta: &SnapshotMeta, world: &World) -> io::Result<SnapshotFile> {
    let name = name_of(meta);
    let unfinished = folder.join(format!("{name}.part"));
    let mut out = Summed {
        inner: BufWriter::new(File::create(&unfinished)?),
        sum: Context::new(&SHA256),
    };
    out.put(MARK)?;
    out.put(&header_out(meta).encode_length_delimited_to_vec())?;
    for record in world.records() {
        out.put(&record.encode_length_delimited_to_vec())?;
    }
    let sum = out.sum.finish();
    let mut file = out.inner;
    file.write_all(sum.as_ref())?;
    file.into_inner()
        .map_err(io::IntoInnerError::into_error)?
        .sync_all()?;
    adopt(folder, &unfinished, meta)
}

/// Makes a whole, verified file the newest snapshot, and removes older ones.
pub fn adopt(folder: &Path, whole: &Path, meta: &SnapshotMeta) -> io::Result<SnapshotFile> {
    let name = name_of(meta);
    let path = folder.join(&name);
    fs::rename(whole, &path)?;
    File::open(folder)?.sync_all()?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let other = entry.file_name();
        if other.to_string_lossy().ends_with(".snapshot") && other.to_string_lossy() != name {
            fs::remove_file(entry.path())?;
        }
    }
    SnapshotFile::open(&path)
}

/// The newest whole snapshot of a folder. Removes what was never finished.
pub fn newest(folder: &Path) -> io::Result<Option<(SnapshotMeta, SnapshotFile)>> {
    let mut newest: Option<(SnapshotMeta, SnapshotFile)> = None;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match path.extension().and_then(|e| e.to_str()) {
            Some("part") => fs::remove_file(&path)?,
            Some("snapshot") => {
                let file = SnapshotFile::open(&path)?;
                let meta = file.verify()?;
                if newest
                    .as_ref()
                    .is_none_or(|(other, _)| other.last_log_id < meta.last_log_id)
                {
                    newest = Some((meta, file));
                }
            }
            _ => {}
        }
    }
    Ok(newest)
}

fn name_of(meta: &SnapshotMeta) -> String {
    let (term, index) = meta
        .last_log_id
        .map_or((0, 0), |id| (id.leader_id.term, id.index));
    format!("{term:020}-{index:020}.snapshot")
}
