//! Payloads and included files: found on the host, or in the archive's packages, and packed for the guest.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use guest_init::message::Program;
use ktstr_record::job::JobBuilder;
use ktstr_record::provision::Provisioner;

use super::program;
use super::sources::Sources;
use crate::payload::{FILES, Launch, PayloadDef};
use crate::test_def::{IncludeFiles, TestDef};

/// The environment of a payload, besides what its libraries need.
const VARIABLES: [&str; 2] = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"];

/// Pack the test's payloads, and the files that they and the test read.
///
/// # Errors
/// A program that is nowhere, or that the guest cannot run; a file that is not there.
pub fn pack(def: &TestDef, sources: &Sources, provisioner: &Provisioner, job: &mut JobBuilder) -> Result<()> {
    match def.include_files {
        None => {}
        Some(IncludeFiles::Paths(paths)) => {
            include(paths, &sources.now(def.manifest_dir), job).context("the files of `include_files`")?;
        }
        Some(IncludeFiles::By(files)) => {
            for file in files().context("the files of `include_files`")? {
                job.file(&file.host, &file.guest)?;
            }
        }
    }
    // Before the programs: their libraries are in the environment of these.
    for payload in def.payloads {
        let files = include(payload.include_files, &sources.now(payload.manifest_dir), job);
        files.with_context(|| format!("the files of payload `{}`", payload.name))?;
    }
    for payload in def.payloads {
        let launch = launch(payload, sources, provisioner, job);
        let launch = launch.with_context(|| format!("no program for payload `{}`", payload.name))?;
        job.bytes_for_test(&Launch::path(payload.name), 0o444, serde_json::to_vec(&launch)?);
    }
    Ok(())
}

fn include(paths: &[&str], manifest_dir: &Path, job: &mut JobBuilder) -> Result<()> {
    for text in paths {
        let (host, guest) = places(text);
        job.include(&manifest_dir.join(host), &guest)?;
    }
    Ok(())
}

/// Where a file of `include_files` is on the host, and where in the guest. The macros refuse what climbs out of the guest's folder.
fn places(text: &str) -> (&str, String) {
    match text.rsplit_once(":/") {
        Some((host, guest)) => (host, format!("/{guest}")),
        None if text.starts_with('/') => (text, text.to_owned()),
        None => (text, format!("{FILES}/{}", text.trim_start_matches("./").trim_end_matches('/'))),
    }
}

/// Pack the program, and say what starts it in the guest.
fn launch(
    payload: &PayloadDef,
    sources: &Sources,
    provisioner: &Provisioner,
    job: &mut JobBuilder,
) -> Result<Launch> {
    let (program, package) = match (on_host(payload, sources)?, payload.package) {
        (Some(path), _) => (job.payload(&path)?, String::new()),
        (None, Some(package)) => {
            let found = provisioner.package_program(package, payload.binary)?;
            (job.package_payload(package, &found)?, found.version)
        }
        (None, None) => bail!(
            "there is no program `{0}` on PATH: install it, give its path as `binary` (with a `/`), or name a package that has it, as \
             `package = \"{0}\"`",
            payload.binary
        ),
    };
    let Program { path, args, env } = program;
    let env = VARIABLES.iter().map(|&variable| variable.to_owned()).chain(env).collect();
    Ok(Launch { program: path, args, env, package })
}

/// The program on the host, if it is there.
fn on_host(payload: &PayloadDef, sources: &Sources) -> Result<Option<PathBuf>> {
    let binary = payload.binary;
    if binary.contains('/') {
        let path = sources.now(payload.manifest_dir).join(binary);
        return Ok(Some(program::at(&path, || format!("`binary = \"{binary}\"`"))?));
    }
    let beside = env::current_exe().ok();
    let beside = beside.iter().flat_map(|exe| exe.ancestors().skip(1).take(2).map(Path::to_owned));
    let folders = beside.chain(program::search_path());
    let found = folders.map(|folder| folder.join(binary)).find(|path| program::is_program(path));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::fs;

    use ktstr_record::provision::{Cache, Host, Progress};
    use tempfile::TempDir;

    use super::*;
    use crate::host::tests::TEST;
    use crate::payload::tests::SHELL;

    fn provisioner(dir: &Path) -> Provisioner {
        let host = Host { root: dir.join("host"), path: OsString::new(), qemu: None, bpf_root: None };
        Provisioner::new(Cache::at(dir.join("cache")).expect("a cache"), host, Progress::Silent).expect("one")
    }

    fn error(payload: PayloadDef) -> String {
        let dir = TempDir::new().expect("a folder");
        let payloads: &'static [&'static PayloadDef] = Box::leak(Box::new([&*Box::leak(Box::new(payload))]));
        let def = TestDef { payloads, ..TEST };
        let packed = pack(&def, &Sources::default(), &provisioner(dir.path()), &mut JobBuilder::new());
        format!("{:#}", packed.expect_err("refused"))
    }

    #[test]
    fn what_cannot_be_had_is_told_before_a_machine_is_started() {
        let nowhere = PayloadDef { binary: "no-such-program", ..SHELL };
        for (payload, words) in [
            (nowhere, "name a package that has it, as `package = \"no-such-program\"`"),
            (PayloadDef { package: Some("no-such-package"), ..nowhere }, "no-such-package"),
            (PayloadDef { binary: "no/such/path", ..SHELL }, "no/such/path"),
            (PayloadDef { binary: "/etc/passwd", ..SHELL }, "/etc/passwd"),
            (PayloadDef { include_files: &["no-such-file"], ..SHELL }, "no-such-file cannot be included"),
        ] {
            let text = error(payload);
            assert!(text.contains("payload `shell`") && text.contains(words), "{words}: {text}");
        }
    }

    #[test]
    fn a_program_of_the_host_is_packed_with_what_starts_it() {
        let dir = TempDir::new().expect("a folder");
        fs::create_dir(dir.path().join("data")).expect("a folder");
        fs::write(dir.path().join("data/x"), "x").expect("a file");
        let folder: &'static str = Box::leak(dir.path().display().to_string().into_boxed_str());
        let mut job = JobBuilder::new();
        let def = TestDef {
            payloads: &[&SHELL],
            include_files: Some(IncludeFiles::Paths(&["data"])),
            manifest_dir: folder,
            ..TEST
        };
        let (sources, provisioner) = (Sources::default(), provisioner(dir.path()));
        pack(&def, &sources, &provisioner, &mut job).expect("packed");
        let launch = launch(&SHELL, &sources, &provisioner, &mut job).expect("packed");
        assert!(launch.program.ends_with("/sh") && launch.args.is_empty(), "{launch:?}");
        assert!(launch.env.iter().any(|variable| variable.starts_with("LD_LIBRARY_PATH=")), "{launch:?}");
    }

    #[test]
    fn files_keep_their_relative_path_unless_they_say_another() {
        for (text, host, guest) in [
            ("jobs/a.fio", "jobs/a.fio", "/ktstr/files/jobs/a.fio"),
            ("./jobs/", "./jobs/", "/ktstr/files/jobs"),
            ("/etc/passwd", "/etc/passwd", "/etc/passwd"),
            ("../a:/etc/b", "../a", "/etc/b"),
            ("/a:/b:/c", "/a:/b", "/c"),
        ] {
            assert_eq!(places(text), (host, guest.to_owned()));
        }
    }
}
