//! Looking at everything in a trace.

use super::error::{Fault, FaultKind};
use super::kind::Kind;
use super::reader::{Completeness, Trace};
use super::record::{
    Checkpoint, ClaimRecord, Clock, Commit, EventChunk, IndexEntry, Loss, Manifest, Sample, VerdictText,
};

/// What came of a verification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    /// Records that were looked at.
    pub records: u64,
    /// Everything that is wrong, ascending by offset.
    pub faults: Vec<Fault>,
    /// How whole the trace is.
    pub completeness: Completeness,
}

impl Verification {
    /// Whether the trace is finished and everything in it is intact. Of more machines than are read that is not known.
    pub fn is_clean(&self) -> bool {
        self.faults.is_empty()
            && self.completeness.finalized
            && self.completeness.uncommitted_bytes == 0
            && self.completeness.absent_records == 0
            && self.completeness.unread_segments == 0
    }
}

impl Trace {
    /// Read and decode every record, and resolve every page of every checkpoint, of all segments.
    pub fn verify(&self) -> Verification {
        // What is known already counts, too.
        let (mut records, mut faults) = (0, self.faults());
        for machine in self.machines() {
            for entry in machine.records() {
                // A fault is noted in the trace.
                let _ = machine.verify_record(entry);
            }
            records += machine.records().len() as u64;
            faults.extend(machine.faults());
        }
        Verification { records, faults: Fault::in_order(faults), completeness: self.completeness() }
    }

    /// Decode one record, whatever its kind. Of what only newer releases read (a kind, a version) the checksums are all
    /// that can be verified.
    fn verify_record(&self, entry: &IndexEntry) -> Result<(), Fault> {
        let wrong = |why: String| Err(self.blame(entry, FaultKind::Content(why)));
        match entry.read_as().filter(|kind| entry.version <= kind.newest_version()) {
            None => self.raw_record(entry).map(drop),
            Some(Kind::Manifest) => self.decode::<Manifest>(entry).map(drop),
            Some(Kind::Blob) => self.decode_blob(entry).map(drop),
            Some(Kind::Events) => self.decode::<EventChunk>(entry).map(drop),
            Some(Kind::Sample) => self.decode::<Sample>(entry).map(drop),
            Some(Kind::PageChunk) => self.decode_chunk(entry).map(drop),
            Some(Kind::Checkpoint) => self.verify_checkpoint(entry),
            Some(Kind::Claim) => self.decode::<ClaimRecord>(entry).map(drop),
            Some(Kind::Verdict) => {
                let VerdictText(text) = self.decode(entry)?;
                match serde_json::from_str::<serde::de::IgnoredAny>(&text) {
                    Ok(_) => Ok(()),
                    Err(e) => wrong(format!("it is not JSON: {e}")),
                }
            }
            Some(Kind::Loss) => self.decode::<Loss>(entry).map(drop),
            Some(Kind::Clock) => self.decode::<Clock>(entry).map(drop),
            Some(Kind::Commit) => {
                let commit: Commit = self.decode(entry)?;
                if [commit.records, commit.bytes] == entry.keys {
                    return Ok(());
                }
                wrong("its body is not what its header says".to_owned())
            }
            Some(Kind::Index) => wrong("an index among the records".to_owned()),
        }
    }

    fn verify_checkpoint(&self, entry: &IndexEntry) -> Result<(), Fault> {
        self.decode::<Checkpoint>(entry)?;
        let index = u32::try_from(entry.keys[0]).unwrap_or(u32::MAX);
        let why = match self.checkpoint_memory(index) {
            Ok(memory) => match memory.first_unresolved() {
                None => return Ok(()),
                Some(gfn) => format!("the page of frame {gfn:#x} is not in the trace"),
            },
            Err(e) => e.to_string(),
        };
        Err(self.blame(entry, FaultKind::Content(why)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::kind::MAX_SEGMENTS;
    use crate::trace::writer::{Labels, TraceWriter};

    #[test]
    fn machines_that_are_not_read_are_not_said_to_be_intact() {
        let dir = tempfile::tempdir().unwrap();
        for (machines, clean) in [(MAX_SEGMENTS, true), (MAX_SEGMENTS + 1, false)] {
            let path = dir.path().join(machines.to_string());
            let mut writer = TraceWriter::create(&path, &Manifest::default()).unwrap();
            for segment in 1..=machines {
                writer.begin_segment(u16::try_from(segment).unwrap());
                writer.body(&Manifest::default(), Labels::default()).unwrap();
            }
            writer.finish().unwrap();
            let verification = Trace::open(&path).unwrap().verify();
            assert_eq!((verification.is_clean(), verification.faults), (clean, Vec::new()));
        }
    }
}
