//! Lines of addresses.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use addr2line::Loader;
use object::read::{Object, ReadCache};

use super::{BuildId, DebugInfoError};
use crate::kernel::KernelProfile;
use crate::kernel::unwind::{SourceLine, Stack, Stacks};
use crate::units::KernelVirt;

/// Most functions that are inlined into each other at one address.
const MAX_INLINED: usize = 64;

/// The DWARF of the kernel of a trace.
pub struct DebugInfo {
    loader: Loader,
    /// How far KASLR moved the kernel from where it was linked to be.
    moved: u64,
    /// What precedes the kernel's own tree in the names of its files, as they were built; it says nothing to a reader.
    tree: String,
}

/// A function of every kernel, and the file that it is in.
const LANDMARK: (&str, &str) = ("start_kernel", "init/main.c");

impl DebugInfo {
    /// The debug information of a trace's kernel: `given` is its `vmlinux`, or a folder that a debug package was unpacked to;
    /// `None` looks where this system keeps such files.
    ///
    /// # Errors
    /// [`DebugInfoError`]: no file, one of another build, one without DWARF.
    pub fn of(profile: &KernelProfile, given: Option<&Path>) -> Result<Self, DebugInfoError> {
        let wanted = BuildId::of(profile)?;
        let path = wanted.locate(given, profile.release())?;
        let unreadable = |why: String| DebugInfoError::Unreadable { path: path.clone(), why };
        let file = File::open(&path).map_err(|error| unreadable(error.to_string()))?;
        let cache = ReadCache::new(file);
        let elf = object::File::parse(&cache).map_err(|error| unreadable(error.to_string()))?;
        let found = elf.build_id().ok().flatten().map(BuildId::new);
        if found.as_ref() != Some(&wanted) {
            return Err(DebugInfoError::OtherKernel {
                path: path.clone(),
                release: profile.release().to_owned(),
                found: found.map_or_else(|| "none".to_owned(), |id| id.to_string()),
                wanted,
            });
        }
        if elf.section_by_name(".debug_info").is_none() {
            return Err(DebugInfoError::Stripped { path });
        }
        let moved = profile.vmcoreinfo().get("KERNELOFFSET");
        let moved = moved.and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0);
        let loader = Loader::new(&path).map_err(|error| unreadable(error.to_string()))?;
        let mut new = Self { loader, moved, tree: String::new() };
        if let Some(at) = profile.symbols().address(LANDMARK.0)
            && let Some(file) = new.lines(at).pop().and_then(|line| line.file)
            && let Some(tree) = file.strip_suffix(LANDMARK.1)
        {
            new.tree = tree.to_owned();
        }
        Ok(new)
    }

    /// What the instruction at `at` was compiled from: the innermost inlined function first, the one with a symbol last.
    /// Empty where nothing is known.
    #[must_use]
    pub fn lines(&self, at: KernelVirt) -> Vec<SourceLine> {
        let mut lines = Vec::new();
        let Ok(mut frames) = self.loader.find_frames(at.0.wrapping_sub(self.moved)) else { return lines };
        while let Ok(Some(frame)) = frames.next() {
            if lines.len() >= MAX_INLINED {
                break;
            }
            let location = frame.location.as_ref();
            let name = frame.function.as_ref().and_then(|name| name.raw_name().ok());
            lines.push(SourceLine {
                function: name.map(std::borrow::Cow::into_owned),
                file: location.and_then(|at| at.file).map(|file| self.in_tree(file)),
                line: location.and_then(|at| at.line),
            });
        }
        lines
    }

    /// The name of a file within the kernel's tree.
    fn in_tree(&self, file: &str) -> String {
        let file = tidy(file);
        file.strip_prefix(&self.tree).map_or_else(|| file.clone(), str::to_owned)
    }

    /// Put lines to the frames of all stacks.
    pub(crate) fn annotate(&self, stacks: &mut Stacks) {
        // Most tasks sleep in the same few places.
        let mut known = HashMap::new();
        let tasks = stacks.tasks.iter_mut().map(|task| &mut task.stack);
        for stack in tasks.chain(stacks.vcpus.iter_mut().map(|(_, stack)| stack)) {
            self.annotate_one(stack, &mut known);
        }
    }

    fn annotate_one(&self, stack: &mut Stack, known: &mut HashMap<KernelVirt, Vec<SourceLine>>) {
        for frame in &mut stack.frames {
            let at = frame.lookup();
            frame.source = known.entry(at).or_insert_with(|| self.lines(at)).clone();
        }
    }
}

/// A path without what says nothing: `./a/../b` is `b`.
fn tidy(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "." => {}
            ".." if parts.last().is_some_and(|last| !last.is_empty() && *last != "..") => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}
