//! `ktstr selftest`: what this host can be used for, tried out.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use ktstr_record::machine::{KvmSelfTest, SelfTestOutcome};
use ktstr_record::selftest;

use super::commands::CommandArgs;
use super::out;

/// Try out what a machine is made of, on this host
///
/// `kvm`: guests of a few instructions in /dev/kvm, each of which shows a part of the KVM machine, how long the parts take, and
/// a trace of a tiny guest. Where the CPU executes guests, a kernel of the archive too, which is fetched if it is not in the
/// cache: to init on several topologies, a hundred boots, a test of 12 s, stops, watches, saved and restored, and a test whose
/// claims must come out as on the emulated machine. The exit code is 1 when a check fails, 3 where there is no KVM that can be
/// tried. Attach the output to a report.
#[derive(Args, Debug)]
pub struct SelftestArgs {
    /// What to try
    what: What,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum What {
    /// The KVM machine
    Kvm,
}

impl CommandArgs for SelftestArgs {
    fn run(self) -> anyhow::Result<ExitCode> {
        let What::Kvm = self.what;
        let mut told = Ok(());
        let rows = selftest::kvm(|row| {
            if !self.json && told.is_ok() {
                told = out::write(&line(row));
            }
        })
        .map_err(|why| anyhow!(why))?;
        told?;
        let failed = rows.iter().filter(|row| row.outcome == SelfTestOutcome::Fail).count();
        if self.json {
            out::write_json(&rows)?;
        } else {
            let passed = rows.iter().filter(|row| row.outcome == SelfTestOutcome::Pass).count();
            let not_run = rows.iter().filter(|row| row.outcome == SelfTestOutcome::NotRun).count();
            out::write(&format!("{passed} passed, {failed} failed, {not_run} not run\n"))?;
        }
        Ok(ExitCode::from(u8::from(failed > 0)))
    }
}

/// A row of the table, and what was seen in a line of its own.
fn line(row: &KvmSelfTest) -> String {
    let outcome = match row.outcome {
        SelfTestOutcome::Pass => "pass",
        SelfTestOutcome::Fail => "FAIL",
        SelfTestOutcome::Measured => "measured",
        SelfTestOutcome::NotRun => "not run",
    };
    let mut line = format!("{outcome:<9} {} ({} ms)\n", row.name, row.took_ms);
    for detail in row.detail.lines() {
        // Writing to a string does not fail.
        let _ = writeln!(line, "          {detail}");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_what_came_of_it_and_what_was_seen() {
        let row = KvmSelfTest {
            name: "registers",
            outcome: SelfTestOutcome::Fail,
            detail: "RIP 0x1\nrax 2".into(),
            took_ms: 12,
        };
        assert_eq!(line(&row), "FAIL      registers (12 ms)\n          RIP 0x1\n          rax 2\n");
    }
}
