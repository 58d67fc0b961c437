//! Where each CPU's time went.

use super::{OpenCheckpoint, Shown, cell, millis};
use crate::kernel::KernelError;
use crate::kernel::cputime::read_cpu_times;
use crate::text::clean;
use crate::text::{Align, layout};

pub(super) fn show(checkpoint: &OpenCheckpoint<'_>) -> Result<Shown, KernelError> {
    let all = read_cpu_times(&checkpoint.kernel())?;
    let mut rows = vec![vec!["cpu (ms)".to_owned()]];
    rows[0].extend(all.kinds.iter().map(|kind| clean(kind)));
    rows.extend(all.cpus.iter().map(|one| {
        let times = one.ns.iter().map(|ns| millis(i64::try_from(*ns).unwrap_or(i64::MAX)));
        let offline = if one.online { "" } else { " (offline)" };
        std::iter::once(format!("{}{offline}", one.cpu)).chain(times).collect()
    }));
    let up = all.uptime_ns.map(|ns| format!("{:.3}s", ns as f64 / 1e9));
    let mut lines = vec![format!("uptime {}", cell(up))];
    lines.extend(layout(&vec![Align::Right; rows[0].len()], &rows));
    Ok(Shown::new(lines, &all.gaps, &all))
}
