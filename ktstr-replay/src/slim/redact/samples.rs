//! Captures: numbers, and the kernel's own words.

use regex_lite::Regex;

use super::memory::blank_text;
use super::{Redactor, hide, hide_all};
use crate::trace::record::{CpuState, MapState, Sample, ScxState, VcpuRegs};

impl Redactor {
    /// A capture without text.
    pub(in crate::slim) fn sample(&self, sample: Sample) -> Sample {
        let Sample {
            index,
            tag,
            kind,
            guest_ns,
            host_ns,
            phase,
            missed,
            scx,
            maps,
            cpus,
            vcpus,
            faults,
            checkpoint,
            pause_us,
            machine_us,
        } = sample;
        Sample {
            index,
            tag,
            kind,
            guest_ns,
            host_ns,
            phase,
            missed: missed.map(hide),
            scx: scx.map(redacted_scx),
            maps: maps.into_iter().map(|map| self.map(map)).collect(),
            cpus: cpus.into_iter().map(cpu).collect(),
            vcpus: vcpus.into_iter().map(|vcpu| self.registers(vcpu)).collect(),
            faults: hide_all(faults),
            checkpoint,
            pause_us,
            machine_us,
        }
    }

    /// Registers; one that holds eight characters, as when a text is copied or compared, or a short argument, is 0. The others are
    /// addresses and flags.
    fn registers(&self, mut registers: VcpuRegs) -> VcpuRegs {
        for word in &mut registers.gpr {
            let mut bytes = word.to_le_bytes();
            blank_text(&mut bytes, &self.secrets);
            if bytes != word.to_le_bytes() {
                *word = 0;
            }
        }
        registers
    }

    fn map(&self, mut map: MapState) -> MapState {
        let redacted = self.contents(&map);
        let MapState {
            id: _,
            name: _,
            map_type: _,
            key_size: _,
            value_size: _,
            max_entries: _,
            btf,
            key_type_id: _,
            value_type_id: _,
            contents,
        } = &mut map;
        *btf = btf.and_then(|old| self.new_id(old));
        *contents = redacted;
        map
    }
}

/// sched_ext's state. Messages are what the scheduler's author formats, but for the watchdog's; a dump has the scheduler's
/// own lines among the kernel's.
pub(super) fn redacted_scx(mut scx: ScxState) -> ScxState {
    let ScxState {
        state: _,
        ops_name: _,
        exit_kind: _,
        exit_kind_name: _,
        exit_code: _,
        exit_reason: _,
        exit_message,
        exit_dump,
        enable_seq: _,
        bypass_depth: _,
        nr_rejected: _,
        watchdog_timeout_ns: _,
    } = &mut scx;
    // Source: `check_rq_for_timeouts` and `scx_tick` in kernel/sched/ext.c.
    let watchdog = Regex::new(r"^(.{1,15}\[\d+\] failed to run|watchdog failed to check in) for \d+\.\d+s$");
    let is_watchdog = |text: &String| watchdog.as_ref().is_ok_and(|pattern| pattern.is_match(text));
    *exit_message = exit_message.take().map(|text| if is_watchdog(&text) { text } else { hide(text) });
    *exit_dump = exit_dump.take().map(hide);
    scx
}

/// A runqueue: numbers, and the name of a task.
fn cpu(cpu: CpuState) -> CpuState {
    let CpuState { cpu, nr_running, curr_pid, curr_comm, clock_ns, scx_nr_running, local_dsq_nr, scx_flags } =
        cpu;
    CpuState { cpu, nr_running, curr_pid, curr_comm, clock_ns, scx_nr_running, local_dsq_nr, scx_flags }
}
