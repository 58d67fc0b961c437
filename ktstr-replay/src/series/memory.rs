//! The kernel's memory at a capture, opened when the first projection asks for it.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::sync::OnceLock;

use super::Absent;
use crate::columns::Rows;
use crate::kernel::{KernelProfile, KernelView};
use crate::path::TableName;
use crate::trace::record::Sample;
use crate::trace::{CheckpointMemory, Trace};

/// The kernel at one capture.
pub(super) struct Memory<'m> {
    pub view: KernelView<'m>,
    tables: RefCell<HashMap<TableName, Result<Rows, String>>>,
}

impl<'m> Memory<'m> {
    fn new(profile: &'m KernelProfile, memory: &'m CheckpointMemory<'m>) -> Self {
        Self { view: KernelView::new(profile, memory), tables: RefCell::default() }
    }

    /// What `look` finds in a table, which is read once.
    pub(super) fn table<R>(
        &self,
        table: TableName,
        look: impl FnOnce(&Rows) -> Result<R, String>,
    ) -> Result<R, String> {
        let mut tables = self.tables.borrow_mut();
        match tables.entry(table).or_insert_with(|| Rows::read(table, &self.view)) {
            Ok(rows) => look(rows),
            Err(why) => Err(why.clone()),
        }
    }
}

/// The kernel of a trace, read when it is first asked for.
pub(super) struct Kernel<'t> {
    trace: Option<&'t Trace>,
    profile: &'t OnceLock<Result<KernelProfile, String>>,
}

impl<'t> Kernel<'t> {
    pub(super) fn new(
        trace: Option<&'t Trace>,
        profile: &'t OnceLock<Result<KernelProfile, String>>,
    ) -> Self {
        Self { trace, profile }
    }

    fn profile(&self, trace: &Trace) -> Result<&'t KernelProfile, Absent> {
        let read = || KernelProfile::of_trace(trace).map_err(|error| error.to_string());
        self.profile
            .get_or_init(read)
            .as_ref()
            .map_err(|why| Absent::Unreadable(format!("the kernel of the trace cannot be read: {why}")))
    }

    /// Give `look` what opens the memory of a sample's checkpoint. It is opened at most once.
    pub(super) fn at<R>(&self, sample: &Sample, look: impl FnOnce(&Open<'_>) -> R) -> R {
        let checkpoint = OnceCell::new();
        let memory = OnceCell::new();
        let open = || -> Result<&Memory<'_>, Absent> {
            // First, as a trace without memory may have no kernel either, and the memory is what was asked for.
            let trace =
                self.trace.ok_or_else(|| Absent::NoMemory("the trace cannot be read again".to_owned()))?;
            let checkpoint = checkpoint.get_or_init(|| checkpoint_of(trace, sample));
            let checkpoint = checkpoint.as_ref().map_err(Absent::clone)?;
            let profile = self.profile(trace)?;
            Ok(memory.get_or_init(|| Memory::new(profile, checkpoint)))
        };
        look(&open)
    }
}

/// What opens the kernel's memory at a capture, or says why there is none.
pub(super) type Open<'o> = dyn Fn() -> Result<&'o Memory<'o>, Absent> + 'o;

fn checkpoint_of<'t>(trace: &'t Trace, sample: &Sample) -> Result<CheckpointMemory<'t>, Absent> {
    let Some(index) = sample.checkpoint else {
        let why = "it is in the kernel's memory, and no checkpoint was taken with this capture (see `checkpoint` of #[ktstr_test])";
        return Err(Absent::NoMemory(why.to_owned()));
    };
    trace.checkpoint_memory(index).map_err(|error| Absent::NoMemory(error.to_string()))
}
