//! Columns of the cgroups.

use super::{Cell, Column};
use crate::kernel::cgroup::Cgroup;

/// The columns, in the order of the view.
pub(crate) const CGROUPS: &[Column<Cgroup>] = &[
    Column::<Cgroup>::left("path", "cgroup", |cgroup| Cell::Text(cgroup.path.clone())),
    Column::<Cgroup>::right("tasks", "tasks", |cgroup| Cell::number(Some(cgroup.tasks as u64))),
    Column::<Cgroup>::right("cpu_weight", "cpu.weight", |cgroup| Cell::number(cgroup.cpu_weight)),
    Column::<Cgroup>::right("scx_weight", "scx weight", |cgroup| Cell::number(cgroup.scx_weight)),
    Column::<Cgroup>::right("cpu_ms", "cpu ms", |cgroup| {
        Cell::millis(cgroup.cpu_ns.map(|ns| i64::try_from(ns).unwrap_or(i64::MAX)))
    }),
    Column::<Cgroup>::hidden("level", |cgroup| Cell::number(cgroup.level)),
];
