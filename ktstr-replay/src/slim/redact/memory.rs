//! Kernel memory of a checkpoint: names stay, all other text goes.
//!
//! Whose a byte is cannot be told, so text is known by its looks: [`TEXT_BYTES`] characters in a row. Numbers rarely look
//! so, for the highest byte of a 64-bit one is almost never a character. Constant pages of the kernel's image are as they were
//! built, and stay.

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;

use super::types::names_of;
use super::{FILLER, Redactor, SECRET_BYTES, TEXT_BYTES};
use crate::btf::Types;
use crate::kernel::cgroup::read_cgroups;
use crate::kernel::task::read_tasks;
use crate::kernel::{BpfPrograms, Caps, KernelView, SampleReader, constant_pages, image_pages};
use crate::trace::record::PAGE_BYTES;
use crate::units::KernelVirt;

/// Constants that are not of the kernel's source, but of who built it.
const OF_THE_BUILDER: [&str; 3] = ["linux_banner", "linux_proc_banner", "kernel_config_data"];
/// Longest of them that is looked for.
const MAX_CONSTANT_BYTES: u64 = 1 << 20;
/// Longest name of a task, map, program or type that is looked for at the end of a text.
const MAX_NAME_BYTES: usize = 128;

/// Takes text out of the pages of one checkpoint.
pub(in crate::slim) struct MemoryText<'r> {
    secrets: &'r BTreeSet<Vec<u8>>,
    names: HashSet<Vec<u8>>,
    /// Frames that nothing writes to.
    constant: HashSet<u64>,
    /// Bytes of guest-physical memory that are overwritten whatever they look like.
    blanks: Vec<Range<u64>>,
}

impl Redactor {
    /// What is needed for the pages of the checkpoint that `view` looks at.
    pub(in crate::slim) fn memory(&self, view: &KernelView<'_>) -> MemoryText<'_> {
        let mut names = self.names.clone();
        let mut add = |name: &str| {
            names.insert(name.as_bytes().to_vec());
        };
        // What cannot be read now has no names that a view of the new trace could show.
        if let Ok(tasks) = read_tasks(view) {
            tasks.tasks.iter().for_each(|task| add(&task.comm));
            if let Ok(cgroups) = read_cgroups(view, &tasks) {
                cgroups.cgroups.iter().flat_map(|cgroup| cgroup.path.split('/')).for_each(&mut add);
            }
        }
        if let Ok(programs) = BpfPrograms::read(view) {
            programs.programs().iter().for_each(|program| add(&program.name));
            programs.symbols().iter().for_each(|symbol| add(&symbol.name));
        }
        let read = SampleReader::new(Caps::default()).read(view);
        read.maps.iter().for_each(|map| add(&map.name));
        let types = read.blobs.into_iter().filter_map(|blob| Types::parse(blob.bytes).ok());
        types.for_each(|types| names.extend(names_of(&types)));
        let constant = constant_frames(view);
        let blanks = OF_THE_BUILDER.iter().flat_map(|name| places(view, name)).collect();
        MemoryText { secrets: &self.secrets, names, constant, blanks }
    }
}

/// The frames of the kernel's image that are as they were built. What init writes before it is write-protected is among the
/// read-only data, and may be of the command line.
pub(super) fn constant_frames(view: &KernelView<'_>) -> HashSet<u64> {
    let (Ok(start), Ok(end)) = (view.symbol("__start_ro_after_init"), view.symbol("__end_ro_after_init"))
    else {
        // It cannot be told which of them init has written to.
        return HashSet::new();
    };
    let written = mapped(view, start.0, end.0);
    let page = PAGE_BYTES as u64;
    let is_written =
        |gfn: u64| written.iter().any(|bytes| bytes.start < (gfn + 1) * page && gfn * page < bytes.end);
    let image = image_pages(view).into_iter().map(|(frames, _)| frames);
    let frames = constant_pages(view).into_iter().chain(image);
    frames.flatten().filter(|gfn| !is_written(*gfn)).collect()
}

/// Where a constant is in guest-physical memory.
fn places(view: &KernelView<'_>, name: &str) -> Vec<Range<u64>> {
    let Ok(start) = view.symbol(name) else { return Vec::new() };
    let Some((_, bytes)) = view.profile().symbols().containing(start) else { return Vec::new() };
    mapped(view, start.0, start.0.saturating_add(bytes.min(MAX_CONSTANT_BYTES)))
}

/// Where the virtual addresses from `start` to `end` are in guest-physical memory.
fn mapped(view: &KernelView<'_>, start: u64, end: u64) -> Vec<Range<u64>> {
    let (mut at, mut found) = (start, Vec::new());
    while at < end {
        let Ok((place, rest)) = view.place_of(KernelVirt(at)) else { break };
        let len = rest.min(end - at).max(1);
        found.push(place.0..place.0 + len);
        at += len;
    }
    found
}

impl MemoryText<'_> {
    /// Take the text out of the page of frame `gfn`.
    pub(in crate::slim) fn blank(&self, gfn: u64, page: &mut [u8; PAGE_BYTES]) {
        let first = gfn * PAGE_BYTES as u64;
        for blank in &self.blanks {
            let from = blank.start.max(first).saturating_sub(first);
            let to = blank.end.min(first + PAGE_BYTES as u64).saturating_sub(first);
            if from < to {
                page[from as usize..to as usize].fill(FILLER);
            }
        }
        if self.constant.contains(&gfn) {
            return;
        }
        for text in runs(page) {
            let followed_by_nul = page.get(text.end).is_none_or(|byte| *byte == 0);
            let at_edge = (text.end == PAGE_BYTES && text.len() >= 2)
                || (text.start == 0 && text.len() >= SECRET_BYTES && followed_by_nul);
            // A name is stored with its NUL; what is before it may be the end of something else.
            let kept = if followed_by_nul { self.name_at_end(&page[text.clone()]) } else { 0 };
            let goes = text.start..text.end - kept;
            let part = &page[goes.clone()];
            if at_edge && kept == 0 || part.len() >= TEXT_BYTES || has_secret(part, self.secrets) {
                page[goes].fill(FILLER);
            }
        }
    }

    /// Length of the longest name that `text` ends with.
    fn name_at_end(&self, text: &[u8]) -> usize {
        let longest = text.len().min(MAX_NAME_BYTES);
        let is_name = |len: &usize| self.names.contains(&text[text.len() - len..]);
        (1..=longest).rev().find(is_name).unwrap_or(0)
    }
}

/// Take text out of bytes of which nothing is known.
pub(super) fn blank_text(bytes: &mut [u8], secrets: &BTreeSet<Vec<u8>>) {
    for text in runs(bytes) {
        if text.len() >= TEXT_BYTES || has_secret(&bytes[text.clone()], secrets) {
            bytes[text].fill(FILLER);
        }
    }
}

fn has_secret(text: &[u8], secrets: &BTreeSet<Vec<u8>>) -> bool {
    text.len() >= SECRET_BYTES
        && (SECRET_BYTES..=text.len()).any(|len| text.windows(len).any(|window| secrets.contains(window)))
}

/// The longest stretches of text, ascending.
fn runs(bytes: &[u8]) -> Vec<Range<usize>> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let len = text_bytes(&bytes[at..]);
        if len > 0 {
            found.push(at..at + len);
        }
        at += len.max(1);
    }
    found
}

/// How many bytes at the beginning are text: printable ASCII, white space, and other characters in UTF-8.
pub(super) fn text_bytes(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let len = match byte {
            b' '..=b'~' | b'\t' | b'\n' | b'\r' => 1,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => break,
        };
        if bytes.get(at..at + len).is_none_or(|part| std::str::from_utf8(part).is_err()) {
            break;
        }
        at += len;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blanked(text: &[u8], at: usize, names: &[&str], secrets: &[&str]) -> Vec<u8> {
        let secrets = secrets.iter().map(|text| text.as_bytes().to_vec()).collect();
        let names = names.iter().map(|text| text.as_bytes().to_vec()).collect();
        let memory =
            MemoryText { secrets: &secrets, names, constant: HashSet::from([7]), blanks: Vec::new() };
        let mut page = [0; PAGE_BYTES];
        page[at..at + text.len()].copy_from_slice(text);
        let before = page;
        memory.blank(7, &mut page);
        assert_eq!(page, before, "a constant page was changed");
        memory.blank(8, &mut page);
        page[at..at + text.len()].to_vec()
    }

    #[test]
    fn text_goes_and_names_and_numbers_stay() {
        assert_eq!(blanked(b"\0secret of a user\0", 64, &[], &[]), b"\0xxxxxxxxxxxxxxxx\0");
        assert_eq!(blanked("\0f\u{fc}r \u{2603}\u{2603}\0".as_bytes(), 64, &[], &[]), b"\0xxxxxxxxxxx\0");
        assert_eq!(blanked(b"\0kworker/0:1\0", 64, &["kworker/0:1"], &[]), b"\0kworker/0:1\0");
        assert_eq!(
            blanked(b"\0secretive kworker/0:1\0", 64, &["kworker/0:1"], &[]),
            b"\0xxxxxxxxxxkworker/0:1\0"
        );
        assert_eq!(blanked(b"\0short\0", 64, &[], &[]), b"\0short\0");
        assert_eq!(blanked(b"\0short\0", 64, &[], &["hort"]), b"\0xxxxx\0");
        let pointer = 0xffff_8880_4142_4344u64.to_le_bytes();
        assert_eq!(blanked(&pointer, 64, &[], &[]), pointer);
        let time = 0x0000_4142_4344_4546u64.to_le_bytes();
        assert_eq!(blanked(&time, 64, &[], &[]), time);
    }

    #[test]
    fn text_that_goes_on_in_the_next_page_goes_in_both() {
        assert_eq!(blanked(b"\0begin", PAGE_BYTES - 6, &[], &[]), b"\0xxxxx");
        assert_eq!(blanked(b"ning\0", 0, &[], &[]), b"xxxx\0");
        let pointer = 0xffff_8880_4142_4344u64.to_le_bytes();
        assert_eq!(blanked(&pointer, 0, &[], &[]), pointer);
    }
}
