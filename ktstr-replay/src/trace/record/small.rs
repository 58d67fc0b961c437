//! The records of a few words: claims, losses, clocks, commit marks; the verdict; the index.

use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

use crate::trace::body::{Body, BodyError, archived_body};
use crate::trace::kind::Kind;
use crate::units::{GuestNs, HostNs};

/// A judgement that the test asked for, as text.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct ClaimV1 {
    /// The claim in its one text form (see `claim`), or the label of a closure.
    pub text: String,
    /// Who made it.
    pub origin: ClaimOriginV1,
}

/// Who made a claim.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClaimOriginV1 {
    /// The test's `claims` attribute, or a builder call: data, judged by any reader.
    Data,
    /// The test's `check` function: only the test binary can run it again.
    Closure,
}

/// Something that should be in the trace and is not.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct LossV1 {
    /// Host time since the recording began, in ns, when it was noticed.
    pub host_ns: HostNs,
    /// What was lost.
    pub kind: LossKindV1,
    /// How many of it; 0 when that is not known.
    pub count: u64,
    /// For people.
    pub detail: String,
}

impl LossV1 {
    /// What the detail of something says that a person had left out.
    pub const ON_PURPOSE: &str = "on purpose";

    /// A person wanted it left out, as by `ktstr trace slim`.
    #[must_use]
    pub fn is_on_purpose(&self) -> bool {
        self.detail.contains(Self::ON_PURPOSE)
    }
}

/// What was lost.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LossKindV1 {
    /// Frames of the guest channel were damaged or dropped.
    GuestFrames,
    /// A capture came later than it was due, or not at all.
    Capture,
    /// Pages of a checkpoint.
    Pages,
    /// The recorder could not write.
    Write,
    /// Lines of the kernel log.
    Kmsg,
    /// Records of the trace itself; `repair` says so of what it could not carry over.
    Records,
    /// Writes to a watched address; without a count, why some may have been missed. Reserved, as the one below, for those that were
    /// counted: this release loses none of them.
    WatchFires,
    /// Hits of a probe.
    ProbeHits,
    /// Steps of the history; without a count, why there is none, or not all of it.
    SchedEvents,
    /// Time in which the host did not run the machine, in ns; told when it was over.
    HostTime,
}

impl LossKindV1 {
    /// What is counted, in the plural.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GuestFrames => "frames of the guest",
            Self::Capture => "captures",
            Self::Pages => "pages of memory",
            Self::Write => "records not written",
            Self::Kmsg => "lines of the kernel log",
            Self::Records => "records",
            Self::WatchFires => "writes to a watched address",
            Self::ProbeHits => "hits of a probe",
            Self::SchedEvents => "steps of the history",
            Self::HostTime => "ns in which the host did not run the machine",
        }
    }
}

/// A pair of times taken together.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockV1 {
    /// Guest `CLOCK_MONOTONIC`, in ns.
    pub guest_ns: GuestNs,
    /// Host time since the recording began, in ns.
    pub host_ns: HostNs,
}

/// Everything before it is whole: a reader of an unfinished trace goes by the last one.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitV1 {
    /// Records before this one.
    pub records: u64,
    /// Bytes of the file before this record.
    pub bytes: u64,
}

archived_body!(ClaimV1, Claim, 1);
archived_body!(LossV1, Loss, 1);
archived_body!(ClockV1, Clock, 1);
archived_body!(CommitV1, Commit, 1);

/// The current claim.
pub type ClaimRecord = ClaimV1;
/// The current claim origin.
pub type ClaimOrigin = ClaimOriginV1;
/// The current loss.
pub type Loss = LossV1;
/// The current loss kind.
pub type LossKind = LossKindV1;
/// The current clock.
pub type Clock = ClockV1;
/// The current commit mark.
pub type Commit = CommitV1;

/// A verdict record's body: one JSON text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerdictText(pub String);

impl Body for VerdictText {
    const KIND: Kind = Kind::Verdict;
    const VERSION: u16 = 1;

    fn encode(&self) -> Result<AlignedVec, BodyError> {
        let mut bytes = AlignedVec::with_capacity(self.0.len());
        bytes.extend_from_slice(self.0.as_bytes());
        Ok(bytes)
    }

    fn decode(version: u16, bytes: &[u8]) -> Result<Self, BodyError> {
        if version != Self::VERSION {
            return Err(BodyError::Version { found: version, known: Self::VERSION });
        }
        let text = std::str::from_utf8(bytes).map_err(|e| BodyError::Invalid(e.to_string()))?;
        Ok(Self(text.to_owned()))
    }
}

/// The index's body: one entry for each record before it, ascending by offset.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct IndexV1 {
    /// The entries.
    pub entries: Vec<IndexEntryV1>,
}

/// A record's place, and its header but for what is the same in all headers. As JSON, `kind` is the code.
#[derive(Archive, Serialize, Deserialize, serde::Serialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntryV1 {
    /// Offset of the record's header in the file, in bytes.
    pub offset: u64,
    /// Code of its kind.
    pub kind: u16,
    /// Version of its body.
    pub version: u16,
    /// Flags.
    pub flags: u16,
    /// Segment.
    pub segment: u16,
    /// Sequence number.
    pub sequence: u64,
    /// Length of its zstd frame.
    pub stored_len: u64,
    /// Length of its decoded body.
    pub raw_len: u64,
    /// Guest time.
    pub guest_ns: GuestNs,
    /// Host time.
    pub host_ns: HostNs,
    /// Keys.
    pub keys: [u64; 2],
}

impl IndexEntryV1 {
    /// Its kind, if this release reads it.
    pub fn read_as(&self) -> Option<Kind> {
        Kind::from_code(self.kind)
    }

    /// Whether it is of the whole file: a commit mark, or the index.
    pub(crate) fn is_of_file(&self) -> bool {
        self.segment == 0 && self.read_as().is_some_and(Kind::is_of_file)
    }

    /// In words: `sample`, `machine-state`, `unknown (77)`, `sample (segment 1)`.
    pub fn kind_name(&self) -> String {
        let name = Kind::name_of(self.kind).map_or_else(|| format!("unknown ({})", self.kind), str::to_owned);
        if self.segment == 0 { name } else { format!("{name} (segment {})", self.segment) }
    }
}

archived_body!(IndexV1, Index, 1);

/// The current index.
pub type Index = IndexV1;
/// The current index entry.
pub type IndexEntry = IndexEntryV1;
