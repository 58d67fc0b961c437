//! Files without a name: they vanish with the last process that holds them, however that ends.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::fs::{MemfdFlags, memfd_create};

/// A file in memory, closed on exec, `len` bytes long and all hole.
pub(super) fn memfd(name: &str, len: u64) -> io::Result<File> {
    let file = File::from(memfd_create(name, MemfdFlags::CLOEXEC)?);
    file.set_len(len)?;
    Ok(file)
}

/// A path by which a child that inherits `fd` opens that file anew.
pub(super) fn inherited_path(fd: i32) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{fd}"))
}

/// The bytes of `file` from `from` to its end.
pub(super) fn read_from(file: &File, from: u64) -> io::Result<Vec<u8>> {
    let len = file.metadata()?.len().saturating_sub(from);
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], from + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// At most the last `max` bytes of `file` as text, beginning with a whole line where one was cut.
pub(super) fn tail(file: &File, max: u64) -> String {
    let len = file.metadata().map_or(0, |m| m.len());
    let from = len.saturating_sub(max);
    let bytes = read_from(file, from).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let text = match text.split_once('\n') {
        Some((_, whole)) if from > 0 => whole,
        _ => &text,
    };
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::{memfd, read_from, tail};

    #[test]
    fn tail_begins_with_a_whole_line() {
        let mut file = memfd("test", 0).unwrap();
        file.write_all(b"first line\nsecond\nthird\n").unwrap();
        assert_eq!(tail(&file, 1000), "first line\nsecond\nthird");
        assert_eq!(tail(&file, 15), "second\nthird");
        assert_eq!(read_from(&file, 18).unwrap(), b"third\n");
        assert_eq!(read_from(&file, 1000).unwrap(), b"");
    }
}
