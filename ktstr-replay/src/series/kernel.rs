//! Taking numbers of the kernel's memory out of the checkpoints that captures were taken with.

use std::collections::HashMap;

use super::read::{entry, read};
use super::{Absent, Column, Series};
use crate::kernel::query::{QueryError, follow, number};
use crate::kernel::{KernelProfile, KernelView};
use crate::path::Projection;
use crate::trace::Trace;
use crate::trace::record::Sample;
use crate::value::{Scalar, Snapshot, Value, ValueError};

impl Series {
    /// The columns of `projections`, in their order. Other than [`Series::column`] it has those of the kernel's memory
    /// too, for captures with a checkpoint in `trace`, which the series has to be of.
    pub fn columns_with(&self, trace: &Trace, projections: &[&Projection]) -> Vec<Column> {
        let wanted: Vec<&Projection> = projections.iter().copied().filter(|p| p.needs_kernel()).collect();
        let mut found = if wanted.is_empty() { HashMap::new() } else { self.in_checkpoints(trace, &wanted) };
        let column = |projection: &&Projection| match found.remove(*projection) {
            None => self.column(projection),
            Some(mut values) => self.build((*projection).clone(), |snapshot| {
                let lost = || Absent::Unreadable("it was not looked at".to_owned());
                values.remove(&snapshot.sample().index).unwrap_or_else(|| Err(lost()))
            }),
        };
        projections.iter().map(column).collect()
    }

    /// The values of each projection, by the sample's index. Each checkpoint is opened once.
    fn in_checkpoints<'p>(
        &self,
        trace: &Trace,
        wanted: &[&'p Projection],
    ) -> HashMap<&'p Projection, HashMap<u32, Result<Scalar, Absent>>> {
        let profile = KernelProfile::of_trace(trace).map_err(|error| error.to_string());
        let mut found: HashMap<&Projection, HashMap<u32, _>> = HashMap::new();
        for snapshot in self.snapshots() {
            let sample = snapshot.sample();
            let values = at_checkpoint(trace, &profile, &snapshot, wanted);
            for (projection, value) in wanted.iter().zip(values) {
                found.entry(projection).or_default().insert(sample.index, value);
            }
        }
        found
    }
}

fn at_checkpoint(
    trace: &Trace,
    profile: &Result<KernelProfile, String>,
    snapshot: &Snapshot<'_>,
    wanted: &[&Projection],
) -> Vec<Result<Scalar, Absent>> {
    let all = |why: &Absent| wanted.iter().map(|_| Err(why.clone())).collect();
    let sample = snapshot.sample();
    if let Some(why) = &sample.missed {
        return all(&Absent::Missed(why.clone()));
    }
    let unreadable = |why: String| Absent::Unreadable(why);
    let memory = match checkpoint_of(trace, sample) {
        Ok(memory) => memory,
        Err(why) => return all(&unreadable(why)),
    };
    match profile {
        Err(why) => all(&unreadable(format!("the kernel of the trace cannot be read: {why}"))),
        Ok(profile) => {
            let view = KernelView::new(profile, &memory);
            let one = |projection: &&Projection| {
                take(projection, snapshot, &view).map_err(|e| unreadable(e.to_string()))
            };
            wanted.iter().map(one).collect()
        }
    }
}

fn checkpoint_of<'t>(
    trace: &'t Trace,
    sample: &Sample,
) -> Result<crate::trace::CheckpointMemory<'t>, String> {
    let no = || "it is in the kernel's memory, and no checkpoint was taken with this capture (see `checkpoint` of #[ktstr_test])";
    trace.checkpoint_memory(sample.checkpoint.ok_or_else(no)?).map_err(|error| error.to_string())
}

fn take(
    projection: &Projection,
    snapshot: &Snapshot<'_>,
    view: &KernelView<'_>,
) -> Result<Scalar, QueryError> {
    let behind = |value: Value<'_>, path: &str, rest: &str| follow(view, &value, path, rest);
    match projection {
        Projection::Kernel(path) => number(view, path),
        Projection::Var(path) => {
            let (path, rest) = path.split_once("->").unwrap_or((path, ""));
            behind(snapshot.var(path)?, path, rest)
        }
        Projection::Map(path) => {
            let (field, rest) = path.field.split_once("->").unwrap_or((&path.field, ""));
            behind(entry(snapshot, path)?.get(field)?, field, rest)
        }
        Projection::MapCpu(path, cpu) => {
            let (field, rest) = path.field.split_once("->").unwrap_or((&path.field, ""));
            behind(entry(snapshot, path)?.cpu(*cpu)?.path(field)?, field, rest)
        }
        other => read(other, snapshot)
            .map_err(|absent| ValueError::Unread { map: other.to_string(), why: absent.to_string() }.into()),
    }
}
