//! BPF programs as a table.

use serde_json::json;

use super::maps::gaps;
use super::{OpenCheckpoint, Shown, cell};
use crate::kernel::maps::BpfObjects;
use crate::kernel::{BpfProgram, KernelError};
use crate::text::clean;
use crate::text::{Align, layout};

/// All programs; those of the running scheduler are marked, and of several schedulers the one that each is of is named.
pub(super) fn show(checkpoint: &OpenCheckpoint<'_>) -> Result<Shown, KernelError> {
    let objects = BpfObjects::read(&checkpoint.kernel())?;
    let head =
        ["id", "type", "name", "tag", "attached to", "runs", "ns", "misses", "jited", "at", "", "maps"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let programs = objects.programs();
    rows.extend(programs.programs().iter().map(row));
    let mut align = [Align::Right; 12];
    for left in [1, 2, 3, 4, 10, 11] {
        align[left] = Align::Left;
    }
    let gaps = gaps(&objects);
    Ok(Shown::new(
        layout(&align, &rows),
        &gaps,
        &json!({ "programs": programs.programs(), "code": programs.symbols(), "gaps": gaps }),
    ))
}

fn row(program: &BpfProgram) -> Vec<String> {
    let maps: Vec<_> = program.map_ids.iter().map(u32::to_string).collect();
    vec![
        program.id.to_string(),
        clean(&program.kind),
        clean(&program.name),
        program.tag.clone(),
        cell(program.attach_to.as_ref()),
        program.run_count.to_string(),
        program.run_time_ns.to_string(),
        cell(program.recursion_misses),
        program.jited_bytes.to_string(),
        program.jited_at.to_string(),
        match &program.scheduler {
            Some(name) => clean(name),
            None => if program.of_scheduler { "*" } else { "" }.to_owned(),
        },
        maps.join(","),
    ]
}
