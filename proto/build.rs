//! Compiles the `.proto` files with a compiler written in Rust, so that no
//! `protoc` has to be installed.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from("proto");
    let mut files: Vec<PathBuf> = std::fs::read_dir(root.join("skep/v1"))?
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "proto"))
        .collect();
    files.sort();
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(&files, [&root])?;
    tonic_prost_build::configure()
        // Maps in key order: the same object has the same bytes on every manager.
        .btree_map(".")
        .bytes(".skep.v1.SnapshotChunk.data")
        .bytes(".skep.v1.RaftEntry.transaction")
        .bytes(".skep.v1.LogLine.data")
        .compile_fds(descriptors)?;
    Ok(())
}
