//! Cores that others wrote, made traces: of makedumpfile, in all its forms, out of an exported core whose checkpoint is there to be
//! compared with.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ktstr::prelude::*;
use ktstr_record::provision::{PackageProgram, Provisioner};
use ktstr_replay::export::vmcore::write_vmcore;
use ktstr_replay::run::{Checkpoints, OpenCheckpoint, Run};
use ktstr_replay::series::Samples;
use ktstr_replay::trace::Trace as Recorded;
use ktstr_replay::trace::record::CaptureKind;
use ktstr_replay::view::View;
use ktstr_tests::{ktstr, run_bounded};
use serde_json::Value;

declare_scheduler!(DEMO, { name = "demo", source = "scx_demo", topology = (1, 1, 2, 1) });

const LIMIT: Duration = Duration::from_secs(300);
/// How makedumpfile writes a core, and what ktstr calls that. Level 1 leaves out pages of zeros.
/// The distribution's build has no snappy.
const FORMS: [(&[&str], &str); 6] = [
    (&["-c", "-d", "0"], "kdump-compressed core of dump level 0"),
    (&["-l", "-d", "1"], "kdump-compressed core of dump level 1"),
    (&["-z", "-d", "1"], "kdump-compressed core of dump level 1"),
    (&["-d", "0"], "kdump-compressed core of dump level 0"),
    (&["-F", "-l", "-d", "1"], "kdump-compressed core of dump level 1, flattened"),
    (&["-E", "-d", "0"], "ELF core"),
];

#[ktstr_test(scheduler = DEMO, duration_s = 1, pages = "all", checkpoint = "every", check = cores_say_the_same)]
fn cores_of_makedumpfile_are_imported(ctx: &Ctx) -> Result<AssertResult> {
    let result = execute_defs(ctx, vec![ctx.cgroup_def("cg_0")])?;
    ctx.capture_snapshot("now")?;
    Ok(result)
}

fn cores_say_the_same(trace: &Trace, v: &mut Verdict) -> Result<()> {
    let run = Run::load(trace);
    let checkpoints = Checkpoints::of(&run)?;
    let checkpoint = checkpoints.at(Some("now"))?;
    let expected = views(&checkpoint)?;
    v.check("views that have something to compare", expected.len()).at_least(8);
    let folder = tempfile::tempdir()?;
    let core = folder.path().join("vmcore");
    write_vmcore(&checkpoint, &core)?;
    compare(&core, "ELF core", &expected)?;
    let makedumpfile = Provisioner::open()?.package_program("makedumpfile", "makedumpfile")?;
    for (args, format) in FORMS {
        let dump = folder.path().join(format!("dump{}", args.concat()));
        made(&makedumpfile, args, &core, &dump)?;
        compare(&dump, format, &expected).with_context(|| format!("makedumpfile {}", args.join(" ")))?;
        // Each is as large as the guest's memory.
        std::fs::remove_file(dump)?;
    }
    Ok(())
}

/// What the views show of a checkpoint, those of them that can.
fn views(checkpoint: &OpenCheckpoint<'_>) -> Result<Vec<(String, Vec<String>)>> {
    let shown = View::plain().into_iter().filter_map(|view| {
        let lines = view.show(checkpoint).ok()?.lines;
        Some((view.to_string(), lines))
    });
    Ok(shown.filter(|(_, lines)| !lines.is_empty()).collect())
}

/// Import a core: all views are those of the checkpoint that it was made of.
fn compare(core: &Path, format: &str, expected: &[(String, Vec<String>)]) -> Result<()> {
    let (trace, said) = imported(core)?;
    ensure!(said["imported"]["format"] == format, "{said:#}");
    ensure!(said["imported"]["vcpus"] == 2, "{said:#}");
    let trace = Recorded::open(&trace)?;
    ensure!(trace.verify().is_clean(), "{:?}", trace.verify());
    let run = Run::load(&trace);
    let checkpoints = Checkpoints::of(&run)?;
    let found = views(&checkpoints.at(None)?)?;
    for ((view, lines), (other, expected)) in found.iter().zip(expected) {
        ensure!(view == other && lines == expected, "{view}: {lines:#?}\nand not {other}: {expected:#?}");
    }
    ensure!(found.len() == expected.len(), "{} views of {}", found.len(), expected.len());
    // The scheduler's variables are in the sample.
    let samples = Samples::load(&trace);
    let sample = samples.iter().find(|sample| sample.kind == CaptureKind::Import).context("a capture")?;
    let name = sample.scx.as_ref().and_then(|scx| scx.ops_name.clone());
    ensure!(name.as_deref() == Some("demo"), "{name:?}");
    let dispatched = samples.snapshot(sample).var("nr_dispatched")?.as_u64()?;
    ensure!(dispatched > 0, "it has dispatched nothing");
    Ok(())
}

/// A trace of a core, and what `ktstr import` says of it.
fn imported(core: &Path) -> Result<(PathBuf, Value)> {
    let to = core.with_extension("trace.zst");
    let _ = std::fs::remove_file(&to);
    let ended = run_bounded(ktstr().arg("import").arg(core).arg(&to).arg("--json"), LIMIT);
    ensure!(ended.status.success() && ended.stderr.is_empty(), "{ended}");
    let again = run_bounded(ktstr().arg("import").arg(core).arg(&to), LIMIT);
    ensure!(!again.status.success() && again.stderr.contains("exists already"), "{again}");
    let said = serde_json::from_str(&ended.stdout).with_context(|| ended.to_string())?;
    let why = run_bounded(ktstr().arg("why").arg(&to), LIMIT);
    ensure!(why.stdout.contains("not told: what ran before"), "{why}");
    let report = run_bounded(ktstr().arg("replay").arg(&to), LIMIT);
    ensure!(report.stdout.contains("it is of a core file, of which no test is known"), "{report}");
    Ok((to, said))
}

/// Have makedumpfile write a core anew.
fn made(makedumpfile: &PackageProgram, args: &[&str], core: &Path, to: &Path) -> Result<()> {
    let at = |path: &Path| makedumpfile.root.join(path);
    let loader = makedumpfile.loader.as_ref().context("a loader")?;
    let folders: Vec<String> =
        makedumpfile.folders.iter().map(|folder| at(folder).display().to_string()).collect();
    let mut command = Command::new(at(loader));
    command.arg("--library-path").arg(folders.join(":")).arg(at(&makedumpfile.program)).args(args).arg(core);
    // The flattened form is for a pipe.
    if args.contains(&"-F") {
        command.stdout(std::fs::File::create(to)?);
        ensure!(command.stderr(std::process::Stdio::piped()).output()?.status.success(), "{command:?}");
        return Ok(());
    }
    let ended = run_bounded(command.arg(to), LIMIT);
    ensure!(ended.status.success(), "{ended}");
    Ok(())
}
