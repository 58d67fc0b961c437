//! `ktstr why`: why a run ended as it did, or what a pasted dump says of that.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use ktstr_replay::judge::CheckSource;
use ktstr_replay::pasted::{Pasted, read_pasted};
use ktstr_replay::run::Run;
use ktstr_replay::why;
use serde_json::{Value, json};

use super::commands::CommandArgs;
use super::{opened, out};

/// Longest text that is looked for dumps in, in bytes.
const MAX_TEXT_BYTES: u64 = 64 << 20;

/// Tell why a recorded run ended as it did, from the verdict back
///
/// Each sentence has the capture and the guest time (since the test's body began) that it is seen at. What is concluded
/// and not seen says "may".
#[derive(Args, Debug)]
pub struct WhyArgs {
    /// The trace
    #[arg(required_unless_present = "dump", conflicts_with = "dump")]
    trace: Option<PathBuf>,
    /// Tell of the sched_ext dumps and messages in this text instead: what a scheduler printed, an excerpt of a journal or of
    /// dmesg, a pasted report; `-` for stdin
    #[arg(long, value_name = "FILE")]
    dump: Option<PathBuf>,
    /// Of several dumps in the text tell only of this one, counted from 1
    #[arg(long, value_name = "N", requires = "dump")]
    nth: Option<usize>,
    /// Tell of this machine of the run, in place of the first: 1 is the second machine, on which a failure was to happen again
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "dump")]
    segment: u16,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl CommandArgs for WhyArgs {
    fn run(self) -> anyhow::Result<ExitCode> {
        match (&self.trace, &self.dump) {
            (_, Some(dump)) => self.of_dump(dump),
            (Some(trace), None) => self.of_trace(trace),
            (None, None) => bail!("neither a trace nor `--dump` was given"),
        }
    }
}

impl WhyArgs {
    fn of_trace(&self, path: &Path) -> anyhow::Result<ExitCode> {
        let what = || format!("could not explain {}", path.display());
        let trace = opened::open(path).with_context(what)?;
        let trace = opened::segment(trace, self.segment).with_context(what)?;
        let run = Run::load(&trace);
        let verdict = run.recorded_verdict().unwrap_or_else(|| run.judge(None, CheckSource::Recorded));
        let explanation = why::explain(&run, &verdict).with_context(what)?;
        if self.json {
            out::write_json(&json!({ "trace": out::path(path), "why": explanation }))?;
        } else {
            out::write(&explanation.render())?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn of_dump(&self, path: &Path) -> anyhow::Result<ExitCode> {
        let text = text_of(path).with_context(|| format!("could not read {}", path.display()))?;
        let pasted = read_pasted(&text);
        if let Some(lines) = pasted.cut_after {
            out::note(&format!(
                "note: only the first {lines} lines of {} were read: cut out the part with the dump",
                path.display()
            ));
        }
        let chosen = self.chosen(path, &pasted)?;
        let told = chosen.iter().filter_map(|number| Some((number, pasted.ends.get(number - 1)?)));
        let told = told.map(|(number, end)| (number, why::explain_pasted(end)));
        if self.json {
            let all: Vec<Value> = told.map(|(number, why)| json!({ "nth": number, "why": why })).collect();
            out::write_json(&json!({ "dump": out::path(path), "reversed": pasted.reversed, "ends": all }))?;
        } else {
            let all: Vec<String> = told.map(|(_, why)| why.render()).collect();
            out::write(&all.join("\n"))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The numbers, from 1, of the ends that are told.
    fn chosen(&self, path: &Path, pasted: &Pasted) -> anyhow::Result<Vec<usize>> {
        let count = pasted.ends.len();
        if count == 0 {
            bail!(
                "{} has no dump of sched_ext and no message of a scheduler's end. A dump has lines such as `CPU 0   : nr_run=1 \
                 flags=0x1 ...` and `R task[123] -5000ms`; a scheduler prints it on stderr when the kernel ends it (`journalctl`, \
                 without `-k`)",
                path.display()
            );
        }
        match self.nth {
            Some(nth) if (1..=count).contains(&nth) => Ok(vec![nth]),
            Some(nth) => {
                bail!("there is no dump number {nth}: {} has {count}, counted from 1", path.display())
            }
            None => Ok((1..=count).collect()),
        }
    }
}

/// The text of a file, or of stdin for `-`. Bytes that are no UTF-8 are replaced.
fn text_of(path: &Path) -> anyhow::Result<String> {
    let input: Box<dyn Read> =
        if path == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(path)?) };
    let mut bytes = Vec::new();
    input.take(MAX_TEXT_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_TEXT_BYTES {
        bail!(
            "it is longer than {} MiB: cut out the part with the dump (`journalctl --since ... --until ...`)",
            MAX_TEXT_BYTES >> 20
        );
    }
    // A zstd frame, or a skippable one, as a trace begins with: RFC 8878, 3.1.
    if matches!(bytes.as_slice(), [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]) {
        bail!(
            "it is a trace, or compressed: `ktstr why TRACE` tells of a trace, and a text has to be given as it is"
        );
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
