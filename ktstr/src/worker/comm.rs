//! The command names of workers that were given none: `cg_0/3`, as the report's table of workers has it.

use std::ffi::CStr;
use std::fmt::Write;

/// Longest command name (`TASK_COMM_LEN` of the kernel's `include/linux/sched.h`, without the zero).
const BYTES: usize = 15;
/// Stands for what is left out of a cgroup's name.
const CUT: char = '~';

/// A command name, made before the fork.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerName([u8; BYTES + 1]);

impl WorkerName {
    /// That of a worker, by its number in its group: `cg_0/3`. Where the cgroup's name is too long, its beginning and its end are there:
    /// `backgr~tarved/0`.
    pub fn of(cgroup: &str, index: usize) -> Self {
        Self::cut(cgroup, &format!("/{index}"))
    }

    /// That of the process whose threads are the workers of a cgroup.
    pub fn of_process(cgroup: &str) -> Self {
        Self::cut(cgroup, "")
    }

    fn cut(cgroup: &str, number: &str) -> Self {
        let room = BYTES.saturating_sub(number.len());
        let mut name = String::with_capacity(BYTES);
        if cgroup.len() <= room {
            name.push_str(cgroup);
        } else {
            let kept = room.saturating_sub(CUT.len_utf8());
            let begin = cgroup.floor_char_boundary(kept / 2);
            let end = cgroup.ceil_char_boundary(cgroup.len() - (kept - kept / 2));
            let (begin, end) =
                (cgroup.get(..begin).unwrap_or_default(), cgroup.get(end..).unwrap_or_default());
            // Writing to a string does not fail.
            let _ = write!(name, "{begin}{CUT}{end}");
        }
        name.push_str(number);
        let mut bytes = [0; BYTES + 1];
        for (to, from) in bytes.iter_mut().take(BYTES).zip(name.bytes()) {
            *to = from;
        }
        Self(bytes)
    }

    /// As the kernel takes it.
    pub fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_cgroup_and_number_in_15_bytes() {
        for (cgroup, index, name) in [
            ("cg_0", 3, "cg_0/3"),
            ("", 0, "/0"),
            ("exactly_13_by", 0, "exactly_13_by/0"),
            ("exactly_14_byt", 0, "exactl~14_byt/0"),
            ("background_is_starved", 0, "backgr~tarved/0"),
            ("background_is_served", 0, "backgr~served/0"),
            ("background_is_starved", 1234, "back~arved/1234"),
            ("outer/inner", 63, "outer/inner/63"),
            ("äöüäöüäöüäöü", 0, "äöü~äöü/0"),
            ("cut\0off", 0, "cut"),
        ] {
            let made = WorkerName::of(cgroup, index);
            let made = made.as_c_str().to_str().expect("text");
            assert_eq!(made, name, "{cgroup} {index}");
            assert!(made.len() <= BYTES, "{made}");
        }
        assert_eq!(WorkerName::of_process("background_is_starved").as_c_str(), c"backgro~starved");
        assert!(WorkerName::of("x", usize::MAX).as_c_str().count_bytes() <= BYTES);
    }
}
