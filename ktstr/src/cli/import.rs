//! `ktstr import`: a trace of a core file.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use ktstr_replay::import::{Imported, import_core};
use ktstr_replay::text::escaped;
use serde_json::json;

use super::commands::CommandArgs;
use super::{out, trace};

/// Make a trace of one checkpoint out of a core file of a Linux kernel, so that all views read it
///
/// ELF cores (/proc/vmcore, QEMU's dump-guest-memory, `ktstr trace export --vmcore`) and kdump-compressed ones (makedumpfile with
/// -c, -l, -p, -z; dump-guest-memory -z, -l, -s), also in makedumpfile's flattened form. The kernel is found in the core itself: no
/// debug information is needed, but BTF in the kernel.
#[derive(Args, Debug)]
pub struct ImportArgs {
    /// The core; it is only read
    core: PathBuf,
    /// The trace, which must not exist; default: in this folder, called as the core is, with `.trace.zst` after it
    to: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl CommandArgs for ImportArgs {
    fn run(self) -> anyhow::Result<ExitCode> {
        let to = match &self.to {
            Some(to) => to.clone(),
            None => {
                let name =
                    self.core.file_name().with_context(|| format!("{} has no name", self.core.display()))?;
                let mut name = name.to_owned();
                name.push(".trace.zst");
                name.into()
            }
        };
        trace::remove_at_signals(&to).context("could not handle signals")?;
        let imported = import_core(&self.core, &to)?;
        if self.json {
            out::write_json(
                &json!({ "core": out::path(&self.core), "trace": out::path(&to), "imported": imported }),
            )?;
            return Ok(ExitCode::SUCCESS);
        }
        let Imported {
            format,
            release,
            memory_bytes,
            kept_bytes,
            left_out_bytes,
            absent_bytes,
            vcpus,
            not_told,
        } = imported;
        // It is what the core says.
        let release = escaped(&release);
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let mut text = format!(
            "trace      {}\nof         {}, {format}, kernel {release}\n\
             memory     {:.1} MiB, of which {:.1} MiB are the kernel's data and {:.1} MiB were left out; {:.1} MiB are not in the core\n\
             registers  of {vcpus} CPUs\n",
            to.display(),
            self.core.display(),
            mib(memory_bytes),
            mib(kept_bytes),
            mib(left_out_bytes),
            mib(absent_bytes),
        );
        not_told.iter().for_each(|what| text.push_str(&format!("not told   {what}\n")));
        out::write(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}
