//! Numbers of a task as `ps` and `chrt` call them.

use crate::kernel::KernelView;
use crate::units::KernelVirt;

/// Bits of `__state` and `exit_state` that are reported (`TASK_REPORT`), and their letters by the highest bit that is
/// set. Source: `__task_state_index` and `task_index_to_char` of `include/linux/sched.h`, whose bits are macros that
/// BTF does not have.
const REPORTED: u64 = 0x7f;
const LETTERS: [char; 8] = ['R', 'S', 'D', 'T', 't', 'X', 'Z', 'P'];
/// `TASK_NOLOAD`: with it, uninterruptible sleep is idling.
const NO_LOAD: u64 = 0x400;
/// `TASK_RTLOCK_WAIT` and `TASK_FROZEN` are shown as uninterruptible sleep.
const SHOWN_AS_SLEEP: u64 = 0x1000 | 0x8000;
const UNINTERRUPTIBLE: u64 = 2;

/// The state as `ps` shows it.
pub(super) fn letter(state: u64, exit_state: u64) -> char {
    let either = state | exit_state;
    if either & (UNINTERRUPTIBLE | NO_LOAD) == UNINTERRUPTIBLE | NO_LOAD {
        return 'I';
    }
    if either & SHOWN_AS_SLEEP != 0 {
        return 'D';
    }
    let highest = 64 - (either & REPORTED).leading_zeros();
    LETTERS.get(highest as usize).copied().unwrap_or('?')
}

/// `ext` for `ext_sched_class`: the class by the name of its symbol.
pub(crate) fn class_of(view: &KernelView<'_>, at: KernelVirt) -> String {
    let symbols = view.profile().symbols();
    let name = match symbols.at(at) {
        Some((symbol, 0)) => symbol.name,
        _ => return at.to_string(),
    };
    // The linker script has a label at the first class, which is that of the stopper threads.
    let labelled = name.starts_with("__") && symbols.address("stop_sched_class") == Some(at);
    if labelled { "stop".to_owned() } else { name.trim_end_matches("_sched_class").to_owned() }
}

/// The policy by its name in `include/uapi/linux/sched.h`, whose values are part of the system call interface.
pub(super) fn policy(number: u64) -> String {
    let names = ["NORMAL", "FIFO", "RR", "BATCH", "ISO", "IDLE", "DEADLINE", "EXT"];
    let name = usize::try_from(number).ok().and_then(|number| names.get(number));
    name.map_or_else(|| number.to_string(), |name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_those_of_ps() {
        let shown: String = [
            (0, 0),
            (1, 0),
            (2, 0),
            (0x402, 0),
            (4, 0),
            (8, 0),
            (0, 0x20),
            (0, 0x10),
            (0x40, 0),
            (0x8000, 0),
        ]
        .into_iter()
        .map(|(state, exit)| letter(state, exit))
        .collect();
        assert_eq!(shown, "RSDITtZXPD");
    }
}
