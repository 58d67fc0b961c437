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

    fn map(&self, map: MapState) -> MapState {
        let contents = self.contents(&map);
        let MapState {
            id,
            name,
            map_type,
            key_size,
            value_size,
            max_entries,
            btf,
            key_type_id,
            value_type_id,
            contents: _,
        } = map;
        let btf = btf.and_then(|old| self.new_id(old));
        MapState {
            id,
            name,
            map_type,
            key_size,
            value_size,
            max_entries,
            btf,
            key_type_id,
            value_type_id,
            contents,
        }
    }
}

/// sched_ext's state. Messages are what the scheduler's author formats, but for the watchdog's; a dump has the scheduler's
/// own lines among the kernel's.
pub(super) fn redacted_scx(scx: ScxState) -> ScxState {
    let ScxState {
        state,
        ops_name,
        exit_kind,
        exit_kind_name,
        exit_code,
        exit_reason,
        exit_message,
        exit_dump,
        enable_seq,
        bypass_depth,
        nr_rejected,
        watchdog_timeout_ns,
    } = scx;
    // Source: `check_rq_for_timeouts` and `scx_tick` in kernel/sched/ext.c.
    let watchdog = Regex::new(r"^(.{1,15}\[\d+\] failed to run|watchdog failed to check in) for \d+\.\d+s$");
    let is_watchdog = |text: &String| watchdog.as_ref().is_ok_and(|pattern| pattern.is_match(text));
    let exit_message = exit_message.map(|text| if is_watchdog(&text) { text } else { hide(text) });
    ScxState {
        state,
        ops_name,
        exit_kind,
        exit_kind_name,
        exit_code,
        exit_reason,
        exit_message,
        exit_dump: exit_dump.map(hide),
        enable_seq,
        bypass_depth,
        nr_rejected,
        watchdog_timeout_ns,
    }
}

/// A runqueue: numbers, and the name of a task.
fn cpu(cpu: CpuState) -> CpuState {
    let CpuState { cpu, nr_running, curr_pid, curr_comm, clock_ns, scx_nr_running, local_dsq_nr, scx_flags } =
        cpu;
    CpuState { cpu, nr_running, curr_pid, curr_comm, clock_ns, scx_nr_running, local_dsq_nr, scx_flags }
}
