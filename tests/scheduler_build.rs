//! Building C schedulers with the provisioned toolchain, for the provisioned kernel.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::thread;

use ktstr_record::provision::{BpfToolchain, Cache};
use ktstr_record::scheduler::{BuildError, build_c};
use ktstr_record::spec::Kernel;
use tempfile::TempDir;

fn sources() -> TempDir {
    let copy = tempfile::tempdir().expect("a folder");
    let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("scx_demo");
    for entry in fs::read_dir(original).expect("scx_demo") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), copy.path().join(entry.file_name())).expect("a copy");
    }
    copy
}
