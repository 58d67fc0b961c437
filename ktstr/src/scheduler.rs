//! A scheduler, as `declare_scheduler!` describes it.

use ktstr_record::spec::Topology;

use crate::gauntlet::Constraints;
use crate::limits::Assert;
use crate::payload::same;

/// A scheduler under test; made by `declare_scheduler!`.
///
/// ```
/// use ktstr::prelude::*;
///
/// declare_scheduler!(MINE, { name = "mine", binary = "scx_mine", sched_args = ["-v"], topology = (1, 2, 2, 1) });
///
/// assert_eq!((MINE.name, MINE.sched_args), ("mine", &["-v"][..]));
/// assert!(!MINE.is_built_in());
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scheduler {
    /// What reports call it.
    pub name: &'static str,
    /// Where its program comes from.
    pub source: SchedulerSource,
    /// Lines `echo VALUE > /path` that are run in the guest before it is started.
    pub enable: &'static [&'static str],
    /// The same for its end, however it comes.
    pub disable: &'static [&'static str],
    /// Its arguments.
    pub sched_args: &'static [&'static str],
    /// The topology of tests that give none.
    pub topology: Option<Topology>,
    /// Words for the kernel's command line.
    pub kargs: &'static [&'static str],
    /// Kernel parameters that are set before it is started, `NAME=VALUE`.
    pub sysctls: &'static [&'static str],
    /// Its configuration, relative to the package's folder.
    pub config_file: Option<&'static str>,
    /// How it takes the configuration of a test: arguments with `{file}`, and the path in the guest.
    pub config_file_def: Option<(&'static str, &'static str)>,
    /// The cgroup that its tests make theirs in.
    pub cgroup_parent: Option<&'static str>,
    /// How long it may take to become enabled, in s; `None`: what fits the machine.
    pub enable_timeout_s: Option<u64>,
    /// The limits of all tests of it, where they do not set their own.
    pub assert: Option<Assert>,
    /// The machines of the gauntlet that its tests are for, where they do not set their own bounds.
    pub constraints: Option<Constraints>,
    /// The kernels that it is for, as `7.1..`; `None`: all.
    pub kernels: Option<&'static str>,
    /// Folder of the package that declares it, for relative paths.
    pub manifest_dir: &'static str,
}

/// Where a scheduler's program comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchedulerSource {
    /// A package of the workspace, or a program beside the test binary or on `PATH`.
    Binary(&'static str),
    /// A program's path, relative to the package's folder.
    Path(&'static str),
    /// A folder with C sources, relative to the package's folder.
    CSource(&'static str),
    /// A version of a package of the registry: `scx_lavd@1.1.4`.
    Crate(&'static str),
    /// It is part of the kernel: its `enable` lines switch it on.
    BuiltIn,
}

impl Scheduler {
    /// Whether it is part of the kernel, and has no program.
    pub fn is_built_in(&self) -> bool {
        self.source == SchedulerSource::BuiltIn
    }
}

/// The parts of a line `echo VALUE > /path`, as the macro has checked it: the value without quotes, and the path.
pub fn echo_parts(line: &str) -> Option<(&str, &str)> {
    let (value, path) = line.trim().strip_prefix("echo ")?.rsplit_once('>')?;
    let value = value.trim();
    let quoted = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    Some((quoted('"').or_else(|| quoted('\'')).unwrap_or(value), path.trim()))
}

/// Whether a test gives a configuration exactly where its scheduler wants one.
///
/// # Panics
/// While compiling, where it does not.
pub const fn check_config(scheduler: &Scheduler, is_given: bool) {
    assert!(
        is_given || scheduler.config_file_def.is_none(),
        "the scheduler's declaration has a `config_file_def`: the test must give the `config`"
    );
    assert!(
        !is_given || scheduler.config_file_def.is_some(),
        "the test gives a `config`, and the scheduler's declaration has no `config_file_def` that says how it is taken"
    );
}

/// Whether the schedulers that may take the place of a test's own declare nothing that would be left out: they are started in the running
/// guest, which has its kernel, and whose parameters are set. What the test, with these `kargs` and `sysctls`, or its own scheduler declares,
/// too, is there.
///
/// # Panics
/// While compiling, where one does.
pub const fn check_staged(scheduler: &Scheduler, staged: &[&Scheduler], kargs: &[&str], sysctls: &[&str]) {
    let mut one = 0;
    while one < staged.len() {
        let Scheduler { name, source, enable, config_file_def, .. } = *staged[one];
        assert!(
            !matches!(source, SchedulerSource::BuiltIn) && enable.is_empty(),
            "one of `staged_schedulers` has `enable` lines, which are written before the first scheduler is started: make it the \
             `scheduler` of a test"
        );
        assert!(
            config_file_def.is_none(),
            "one of `staged_schedulers` has a `config_file_def`, and `config` is for the test's own scheduler: give the other one a \
             `config_file`"
        );
        assert!(
            has_all(staged[one].kargs, scheduler.kargs, kargs),
            "one of `staged_schedulers` declares `kargs`, and the kernel has booted when it is started: give them to the test"
        );
        assert!(
            has_all(staged[one].sysctls, scheduler.sysctls, sysctls),
            "one of `staged_schedulers` declares `sysctls`, which are set before the body: give them to the test, or use `Op::sysctl`"
        );
        let mut other = 0;
        while other < one {
            assert!(
                !same(name.as_bytes(), staged[other].name.as_bytes()),
                "two of `staged_schedulers` have one name, by which they are told apart"
            );
            other += 1;
        }
        assert!(
            !same(name.as_bytes(), scheduler.name.as_bytes()),
            "one of `staged_schedulers` has the name of the test's `scheduler`, and by their names they are told apart"
        );
        one += 1;
    }
}

/// Whether each of these texts is in one list or the other.
const fn has_all(texts: &[&str], one: &[&str], other: &[&str]) -> bool {
    let mut nth = 0;
    while nth < texts.len() {
        if !has(one, texts[nth]) && !has(other, texts[nth]) {
            return false;
        }
        nth += 1;
    }
    true
}

const fn has(list: &[&str], text: &str) -> bool {
    let mut nth = 0;
    while nth < list.len() {
        if same(list[nth].as_bytes(), text.as_bytes()) {
            return true;
        }
        nth += 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two versions of one scheduler declare the same: the second of them was refused for what is there.
    #[test]
    fn what_the_first_scheduler_or_the_test_has_too_is_had_by_the_second() {
        assert!(has_all(&["quiet", "nohz_full=1"], &["nohz_full=1"], &["quiet"]));
        assert!(!has_all(&["quiet", "nohz_full=1"], &["nohz_full=2"], &["quiet"]));
        assert!(has_all(&[], &[], &[]));
    }

    #[test]
    fn a_line_is_a_value_and_a_path() {
        assert_eq!(echo_parts("echo 1 > /proc/sys/a"), Some(("1", "/proc/sys/a")));
        assert_eq!(echo_parts(r#"echo "a > b" >/x"#), Some(("a > b", "/x")));
        assert_eq!(echo_parts("echo 'a b' > /x"), Some(("a b", "/x")));
        assert_eq!(echo_parts("rm /x"), None);
    }
}
