//! What is left unfinished when a signal ends `ktstr trace slim`: it is removed before the process ends as it would without this.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use ktstr_record::recorder::heeded;
use ktstr_replay::trace::{folder_of, unfinished_folder, unfinished_suffix};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

/// Have what this process makes beside `to` removed when a signal ends it.
///
/// # Errors
/// A handler that cannot be installed.
pub(in crate::cli) fn remove_at_signals(to: &Path) -> io::Result<()> {
    let mut signals = Signals::new(heeded([SIGHUP, SIGINT, SIGTERM]))?;
    let parent = folder_of(to).to_owned();
    thread::Builder::new().name("ktstr-signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            // Until nothing is there: the other threads go on meanwhile, and may make the next one.
            while unfinished(&parent).iter().any(|path| remove(path)) {}
            let _ended = emulate_default_handler(signal);
        }
    })?;
    Ok(())
}

fn unfinished(folder: &Path) -> Vec<PathBuf> {
    let (begin, end) = (unfinished_folder(), unfinished_suffix());
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let is_ours = |name: &str| name.starts_with(&begin) || name.ends_with(&end);
    entries.filter(|entry| is_ours(&entry.file_name().to_string_lossy())).map(|entry| entry.path()).collect()
}

fn remove(path: &Path) -> bool {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.is_ok()
}
