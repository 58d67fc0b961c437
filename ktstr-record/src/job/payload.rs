//! Programs that a test starts: of the host, or of a package.

use std::path::{Path, PathBuf};

use guest_init::message::Program;

use super::builder::{JobBuilder, with_library_path};
use super::packed::{JobError, JobFile};
use super::read::{read, utf8};
use crate::elf::{is_elf, is_for_guest, script_interpreter};
use crate::provision::PackageProgram;

/// Where packages are in the guest, each in a folder of its name.
const PACKAGES: &str = "/opt/ktstr";

impl JobBuilder {
    /// A program of the host with its libraries, or a script with its interpreter. Returns what starts it in the guest: its path,
    /// no arguments, and the environment that its libraries need.
    ///
    /// # Errors
    /// What is neither a program of the guest's CPUs nor a script; an interpreter that `env` is to find; what it needs and is not there.
    pub fn payload(&mut self, host: &Path) -> Result<Program, JobError> {
        let refused = |why: String| JobError::Payload { path: host.to_owned(), why };
        let (_, data) = read(host)?;
        if is_elf(&data) {
            if !is_for_guest(&data) {
                return Err(JobError::Machine { path: host.to_owned() });
            }
        } else {
            let interpreter = script_interpreter(&data).ok_or_else(|| {
                refused("it is neither an ELF program nor a script that begins with `#!`".to_owned())
            })?;
            if Path::new(&interpreter).file_name().is_some_and(|name| name == "env") {
                return Err(refused(format!(
                    "its first line lets `{interpreter}` look for the interpreter, and only what that line names is packed: write the path \
                     of the interpreter there, as `#!/bin/sh`"
                )));
            }
            if !Path::new(&interpreter).is_file() {
                return Err(refused(format!("its interpreter `{interpreter}` is not there")));
            }
        }
        let (path, folders) = self.pack_with_binary(host)?;
        let all: Vec<PathBuf> = folders.into_iter().chain(self.included_folders.iter().cloned()).collect();
        Ok(Program { path, args: Vec::new(), env: with_library_path(&[], &all) })
    }

    /// A program of a package with its own loader and libraries, in a folder of the guest that has nothing else. Returns what starts
    /// it: that loader, and as arguments where the libraries are and the program.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub fn package_payload(&mut self, package: &str, program: &PackageProgram) -> Result<Program, JobError> {
        let inside = |path: &Path| Ok(format!("{PACKAGES}/{package}/{}", utf8(path)?));
        for file in program.loader.iter().chain([&program.program]).chain(&program.libraries) {
            let host = program.root.join(file);
            let (mode, bytes) = read(&host)?;
            self.insert_with_binary(&inside(file)?, JobFile::File { mode, bytes }, &utf8(&host)?);
        }
        let path = inside(&program.program)?;
        let Some(loader) = &program.loader else {
            return Ok(Program { path, ..Program::default() });
        };
        let folders = program.folders.iter().map(|folder| inside(folder)).collect::<Result<Vec<_>, _>>()?;
        let name = program.program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let args = ["--argv0".into(), name, "--library-path".into(), folders.join(":"), path].to_vec();
        Ok(Program { path: inside(loader)?, args, env: Vec::new() })
    }

    /// A file that does not exist on the host and that only the test reads.
    pub fn bytes_for_test(&mut self, guest: &str, mode: u32, bytes: Vec<u8>) {
        self.insert_with_binary(guest, JobFile::File { mode, bytes }, "a file that ktstr makes for the test");
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::job::JobLimits;
    use crate::job::packed::PackedJob;

    const LIMITS: JobLimits = JobLimits { enable_ms: 1, restart_ms: 4, test_ms: 2, exit_ms: 3 };

    fn file(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
        let path = folder.join(name);
        fs::write(&path, bytes).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
        path
    }

    fn built(mut builder: JobBuilder) -> PackedJob {
        builder.scheduler("/bin/true".as_ref(), &[], &[]).expect("packed");
        builder.test("/bin/true".as_ref(), &[], &[]).expect("packed");
        builder.build(LIMITS).expect("complete")
    }

    fn has(entries: &[(String, JobFile)], end: &str) -> bool {
        entries.iter().any(|(path, _)| path.ends_with(end))
    }

    #[test]
    fn what_cannot_be_run_in_a_guest_is_refused_with_what_to_do() {
        let dir = tempfile::tempdir().expect("made");
        // An ELF header of a 64-bit Arm program.
        let mut arm = crate::init_image().to_vec();
        arm[18..20].copy_from_slice(&183_u16.to_le_bytes());
        for (bytes, words) in [
            (&b"just text"[..], "neither an ELF program nor a script"),
            (b"", "neither an ELF program nor a script"),
            (b"#!/usr/bin/env python3\n", "write the path of the interpreter"),
            (b"#!/no/such/sh\n", "`/no/such/sh` is not there"),
            (&arm, "not a 64-bit x86 program"),
        ] {
            let error =
                JobBuilder::new().payload(&file(dir.path(), "p", bytes)).expect_err(words).to_string();
            assert!(error.contains(words) && error.contains("/p"), "{error}");
        }
        let error = JobBuilder::new().payload(&dir.path().join("absent")).expect_err("absent").to_string();
        assert!(error.contains("/absent"), "{error}");
    }

    #[test]
    fn a_payload_comes_with_the_test_binary_and_no_template_has_it() {
        let digest = |payload: Option<&str>| {
            let mut builder = JobBuilder::new();
            if let Some(path) = payload {
                let program = builder.payload(path.as_ref()).expect("packed");
                assert_eq!(program.path, path);
            }
            let job = built(builder);
            if payload.is_some() {
                assert!(
                    has(&job.binary, "/bash") && has(&job.binary, "/libtinfo.so.6"),
                    "{:?}",
                    job.binary.len()
                );
                // The scheduler needs it, too.
                assert!(has(&job.early, "/libc.so.6") && !has(&job.binary, "/libc.so.6"));
            }
            job.scheduler_digest().expect("archived")
        };
        assert_eq!(digest(None), digest(Some("/bin/bash")));
    }

    #[test]
    fn a_script_brings_its_interpreter() {
        let dir = tempfile::tempdir().expect("made");
        let mut builder = JobBuilder::new();
        builder.payload(&file(dir.path(), "script", b"#!/bin/bash\necho hi\n")).expect("packed");
        assert!(has(&built(builder).binary, "/bash"));
    }

    #[test]
    fn a_program_of_a_package_is_started_by_its_own_loader() {
        let dir = tempfile::tempdir().expect("made");
        for name in ["ld.so", "fio", "liba.so"] {
            file(dir.path(), name, name.as_bytes());
        }
        let mut program = PackageProgram {
            root: dir.path().to_owned(),
            version: "fio_3.39_amd64.deb".to_owned(),
            program: "fio".into(),
            loader: Some("ld.so".into()),
            libraries: vec!["liba.so".into()],
            folders: vec!["".into(), "lib".into()],
        };
        let mut builder = JobBuilder::new();
        let started = builder.package_payload("fio", &program).expect("packed");
        assert_eq!(started.path, "/opt/ktstr/fio/ld.so");
        let args =
            ["--argv0", "fio", "--library-path", "/opt/ktstr/fio/:/opt/ktstr/fio/lib", "/opt/ktstr/fio/fio"];
        assert_eq!(started.args, args);
        program.loader = None;
        assert_eq!(builder.package_payload("fio", &program).expect("packed").path, "/opt/ktstr/fio/fio");
        let job = built(builder);
        for name in ["/ld.so", "/fio", "/liba.so"] {
            assert!(has(&job.binary, name), "{name}");
        }
    }
}
