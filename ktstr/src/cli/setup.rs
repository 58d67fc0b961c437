//! `ktstr setup`: everything that tests need, fetched ahead of the first of them.

use std::process::ExitCode;

use clap::Args;
use ktstr_record::provision::{Clean, KernelSpec, Provisioner};

use super::commands::CommandArgs;
use super::doctor::diagnose;
use super::out;

/// Fetch the emulator, a kernel and the BPF toolchain, or remove all that was fetched
///
/// Without root, and without changing the host: everything goes into $XDG_CACHE_HOME/ktstr. Commands that need
/// something fetch it by themselves; this does it ahead of time, after which no network is needed.
#[derive(Debug, Args)]
pub struct SetupArgs {
    /// The kernel to fetch: a version, its prefix, `latest`, or a path
    #[arg(long, value_name = "SPEC", default_value = "latest")]
    kernel: String,
    /// Fetch what is newer in the archive too
    #[arg(long)]
    refresh: bool,
    /// Empty the cache instead: emulator, kernels, toolchain, package lists, VM templates, built schedulers
    #[arg(long, conflicts_with_all = ["kernel", "refresh"])]
    clean: bool,
    /// Fetch nothing, and print what this host has and lacks, as `ktstr doctor` does
    #[arg(long, conflicts_with_all = ["kernel", "refresh", "clean"])]
    check: bool,
}

impl CommandArgs for SetupArgs {
    fn run(self) -> anyhow::Result<ExitCode> {
        if self.check {
            return diagnose(false);
        }
        let provisioner = Provisioner::open()?;
        if self.clean {
            let removed = provisioner.clean(Clean::Everything)?;
            let root = provisioner.cache().root().display();
            match removed.as_slice() {
                [] => out::write(&format!("{root} was empty\n"))?,
                names => out::write(&format!("removed {} from {root}\n", names.join(", ")))?,
            }
            return Ok(ExitCode::SUCCESS);
        }
        let spec = KernelSpec::parse(&self.kernel)?;
        if self.refresh {
            provisioner.refresh_bundles()?;
            provisioner.fetch_kernel(&spec)?;
        }
        let emulator = provisioner.emulator()?;
        out::write(&format!("emulator   QEMU {} ({})\n", emulator.version, emulator.origin))?;
        let kernel = provisioner.kernel(&spec)?;
        let sched_ext = if kernel.has_sched_ext { "" } else { ", without sched_ext" };
        out::write(&format!("kernel     {}{sched_ext}\n", kernel.release))?;
        let config = provisioner.kernel_config(&spec, &kernel, None)?;
        let origin = config.map_or_else(|| "not found".to_owned(), |config| config.origin);
        out::write(&format!("           configuration: {origin}\n"))?;
        let toolchain = provisioner.toolchain()?;
        out::write(&format!("toolchain  {}\n", toolchain.root.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::parsed;

    #[test]
    fn cleaning_and_fetching_exclude_each_other() {
        let parsed = |words: &[&str]| parsed::<SetupArgs>(words);
        assert!(parsed(&["--clean"]).unwrap().clean);
        assert!(parsed(&["--clean", "--refresh"]).is_err());
        assert!(parsed(&["--clean", "--kernel", "7"]).is_err());
        let fetch = parsed(&[]).unwrap();
        assert_eq!((fetch.kernel.as_str(), fetch.refresh), ("latest", false));
    }
}
