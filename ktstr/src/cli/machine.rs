//! `ktstr machine`: which machine runs tests on this host, and why.

use std::process::ExitCode;

use clap::Args;
use ktstr_record::machine::KvmProbe;
use ktstr_record::provision::Cache;

use super::commands::CommandArgs;
use super::out;
use crate::host::environment::Environment;
use crate::host::machine;

/// Say which machine runs tests on this host, and why
///
/// Opening /dev/kvm proves nothing, so a guest of a few instructions is run in it, for at most 50 ms. What that
/// showed is kept until the host boots again. KTSTR_MACHINE, or --machine of cargo ktstr test, forces a machine, unless it
/// cannot run a kernel here.
#[derive(Args, Debug)]
pub struct MachineArgs {
    /// Run the guest again, whatever was found before, and keep what it shows now
    #[arg(long)]
    fresh: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl CommandArgs for MachineArgs {
    fn run(self) -> anyhow::Result<ExitCode> {
        let cache = Cache::open()?;
        let probe = match self.fresh {
            true => KvmProbe::renewed(cache.root()),
            false => KvmProbe::cached(cache.root()),
        };
        let choice = machine::decide(probe, &Environment::read())?;
        if self.json {
            out::write_json(&choice)?;
        } else {
            out::write(&format!("machine    {}\nwhy        {}\n", choice.machine, choice.why))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
