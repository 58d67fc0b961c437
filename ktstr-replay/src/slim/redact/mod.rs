//! Redaction: a trace for people who are not to learn of the host, its user, or arguments.
//!
//! Every field of every record is taken apart by name here, so that a new one does not compile until somebody has decided
//! what becomes of it. What is neither a number nor a name is removed; memory keeps no text but names.

mod channels;
mod events;
mod manifest;
mod maps;
mod memory;
mod samples;
mod types;
mod verdict;
#[cfg(test)]
mod tests;

pub use channels::{CHANNELS, Channel};
pub(super) use events::log_without_text;
pub(super) use verdict::redacted_verdict;

use std::collections::{BTreeSet, HashMap, HashSet};

use types::{blanked_strings, names_of};

use crate::btf::Types;
use crate::trace::record::{
    Blob, BlobId, BlobRole, EventBody, EventChunk, Loss, MapContents, MapState, Sample, blob_id,
};
use crate::trace::{Kind, Trace};

/// In place of a text that is not to be told.
const REDACTED: &str = "(redacted)";

/// Shortest text that is taken out of memory wherever it is, and out of bytes whose types are not known.
const TEXT_BYTES: usize = 8;
/// Shortest text that is taken out of memory because it was an argument.
const SECRET_BYTES: usize = 4;
/// What text in memory is overwritten with. Not zeros: it shows that something was there.
const FILLER: u8 = b'x';

/// What has to be known of a trace before a record of it can be redacted.
pub(super) struct Redactor {
    /// Words of arguments, and texts of scheduler's variables, each with at least [`SECRET_BYTES`].
    secrets: BTreeSet<Vec<u8>>,
    /// Texts that decoders need: names of types, tasks, cgroups, maps and programs.
    names: HashSet<Vec<u8>>,
    /// The types of BPF programs.
    types: HashMap<BlobId, Types>,
    /// What the types of programs become, by their old ids; `None`: they cannot be read, and are left out.
    blobs: HashMap<BlobId, Option<Vec<u8>>>,
}

impl Redactor {
    /// Look through a trace.
    pub(super) fn of(trace: &Trace) -> Self {
        let mut found = Self {
            secrets: BTreeSet::new(),
            names: HashSet::new(),
            types: HashMap::new(),
            blobs: HashMap::new(),
        };
        if let Ok(manifest) = trace.manifest() {
            found.know_manifest(manifest);
        }
        for entry in trace.of_kind(Kind::Blob) {
            let Ok(blob) = trace.decode::<Blob>(entry) else { continue };
            if blob.role != BlobRole::ProgramBtf {
                continue;
            }
            let types = Types::parse(blob.bytes.clone()).ok();
            found.names.extend(types.iter().flat_map(names_of));
            let blanked = types.as_ref().and_then(|types| blanked_strings(types, &names_of(types)));
            found.blobs.insert(blob.id, blanked);
            found.types.extend(types.map(|types| (blob.id, types)));
        }
        for sample in trace.samples().filter_map(Result::ok) {
            found.know_sample(&sample);
        }
        for entry in trace.of_kind(Kind::Events) {
            let Ok(chunk) = trace.decode::<EventChunk>(entry) else { continue };
            for event in &chunk.events {
                if let EventBody::Payload(run) = &event.body {
                    run.args.iter().for_each(|arg| found.know_argument(arg));
                }
            }
        }
        found
    }

    /// An argument: it, its words, and what follows their `=`, are looked for in memory.
    fn know_argument(&mut self, argument: &str) {
        for word in argument.split_whitespace() {
            self.know_secret(word.as_bytes());
            for part in word.split(['=', ',']) {
                self.know_secret(part.as_bytes());
            }
        }
    }

    fn know_secret(&mut self, text: &[u8]) {
        if text.len() >= SECRET_BYTES {
            self.secrets.insert(text.to_vec());
        }
    }

    fn know_name(&mut self, name: &str) {
        self.names.insert(name.as_bytes().to_vec());
    }

    fn know_sample(&mut self, sample: &Sample) {
        for map in &sample.maps {
            self.know_name(&map.name);
            let texts = self.texts_of(map);
            texts.iter().for_each(|text| self.know_secret(text));
        }
        if let Some(scx) = &sample.scx {
            // The kernel's own words, which a report repeats.
            let kept = samples::redacted_scx(scx.clone());
            for text in [kept.ops_name, kept.exit_reason, kept.exit_message].into_iter().flatten() {
                self.know_name(&text);
            }
        }
    }

    /// A blob, if it is carried over.
    pub(super) fn blob(&self, blob: Blob) -> Option<Blob> {
        let Blob { id, role, bytes } = blob;
        match role {
            // What the kernel's builder put into it: names, and the release.
            BlobRole::KernelBtf | BlobRole::KernelSymbols | BlobRole::Vmcoreinfo => {
                Some(Blob { id, role, bytes })
            }
            BlobRole::ProgramBtf => {
                self.blobs.get(&id).cloned().flatten().map(|bytes| Blob::new(role, bytes))
            }
            BlobRole::KernelConfig => Some(Blob::new(role, manifest::config_without_texts(&bytes))),
        }
    }

    /// The new id of the types of a map.
    fn new_id(&self, old: BlobId) -> Option<BlobId> {
        match self.blobs.get(&old) {
            Some(blanked) => blanked.as_deref().map(blob_id),
            // Not those of a program.
            None => Some(old),
        }
    }

    /// A loss: what was lost, and whether on purpose.
    pub(super) fn loss(&self, loss: Loss) -> Loss {
        let on_purpose = loss.is_on_purpose();
        let Loss { host_ns, kind, count, detail } = loss;
        let detail = match () {
            () if is_own_drop(&detail) => detail,
            () if on_purpose => format!("{REDACTED}, {}", Loss::ON_PURPOSE),
            () => REDACTED.to_owned(),
        };
        Loss { host_ns, kind, count, detail }
    }

    /// The entries of a map, without text.
    fn contents(&self, map: &MapState) -> MapContents {
        maps::without_text(self, map)
    }

    fn texts_of(&self, map: &MapState) -> Vec<Vec<u8>> {
        maps::texts(self, map)
    }
}

/// Whether a loss is one of those that `slim` itself writes.
fn is_own_drop(detail: &str) -> bool {
    super::Dropped::ALL.iter().any(|sort| {
        let rest = detail.strip_prefix(&sort.to_string());
        let rest = rest.map(|rest| rest.strip_prefix(" events").unwrap_or(rest));
        rest.is_some_and(|rest| rest == format!(" dropped {}, by `ktstr trace slim`", Loss::ON_PURPOSE))
    })
}

/// Replace a text by one that says so; an empty one says nothing.
fn hide(text: String) -> String {
    if text.is_empty() { text } else { REDACTED.to_owned() }
}

fn hide_all(texts: Vec<String>) -> Vec<String> {
    texts.into_iter().map(hide).collect()
}
