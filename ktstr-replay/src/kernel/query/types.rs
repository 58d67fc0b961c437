//! Types by C's words, and those of the kernel's symbols.

use super::QueryError;
use crate::btf::{CType, Kind, Types, bare_name};
use crate::text::Candidates;

/// The types of symbols that BTF says nothing of: kernels encode only per-CPU variables. The first of them that
/// the kernel has is taken. Sources: `kernel/sched/ext.c`, `include/linux/jiffies.h`, `init/init_task.c`, `kernel/fork.c`.
const KNOWN: [(&str, &[&str]); 19] = [
    ("init_task", &["struct task_struct"]),
    ("jiffies", &["u64"]),
    ("jiffies_64", &["u64"]),
    ("nr_cpu_ids", &["u32"]),
    ("nr_threads", &["s32"]),
    ("root_task_group", &["struct task_group"]),
    ("runqueues", &["struct rq"]),
    ("scx_bypass_depth", &["s32"]),
    ("scx_enable_seq", &["u64"]),
    ("scx_enable_state_var", &["enum scx_enable_state"]),
    ("scx_exit_kind", &["s32"]),
    ("scx_hotplug_seq", &["u64"]),
    ("scx_nr_rejected", &["u64"]),
    ("scx_ops", &["struct sched_ext_ops"]),
    ("scx_ops_enable_state_var", &["enum scx_ops_enable_state"]),
    ("scx_root", &["struct scx_sched *"]),
    ("scx_watchdog_timeout", &["u64"]),
    ("scx_watchdog_timestamp", &["u64"]),
    ("total_forks", &["u64"]),
];

/// The type of a symbol, where BTF or the list above says it.
pub(super) fn of_symbol(types: &Types, name: &str) -> Result<CType, QueryError> {
    if let Some(var) = types.find(Kind::Var, name)
        && let Some(id) = types.target_of(var)?
    {
        return Ok(CType { id, stars: 0 });
    }
    let known = KNOWN.iter().find(|(known, _)| *known == name).map(|(_, words)| *words);
    let mut last = QueryError::Untyped { name: name.to_owned() };
    for words in known.unwrap_or_default() {
        match of_words(types, words) {
            Ok(found) => return Ok(found),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The type of C's words: `u64`, `struct rq`, `enum scx_enable_state`, `struct scx_sched *`.
pub(super) fn of_words(types: &Types, words: &str) -> Result<CType, QueryError> {
    types.of_words(words).ok_or_else(|| {
        let candidates = Box::new(Candidates::new(bare_name(words), types.alike_words(words)));
        QueryError::NoType { name: words.trim_end_matches(['*', ' ']).to_owned(), candidates }
    })
}
