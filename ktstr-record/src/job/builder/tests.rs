use std::os::unix::fs::symlink;
use std::process::Command;

use super::*;

const LIMITS: JobLimits = JobLimits { enable_ms: 1, test_ms: 2, exit_ms: 3 };

fn entry<'a>(job: &'a PackedJob, path: &str) -> &'a JobFile {
    let found = job.entries().find(|(at, _)| at == path);
    let paths = || job.entries().map(|(at, _)| at.as_str()).collect::<Vec<_>>();
    &found.unwrap_or_else(|| panic!("{path} in {:?}", paths())).1
}

#[test]
fn a_packed_tree_runs_when_its_loader_is_told_where_it_is() {
    // The whole job in a folder instead of a guest: the loader of the job starts bash of the job.
    let mut builder = JobBuilder::new();
    builder.test("/bin/bash".as_ref(), &[], &[]).expect("packed");
    let job = builder.build(LIMITS).expect("complete");
    let folder = tempfile::tempdir().expect("made");
    for (path, entry) in job.entries() {
        let at = folder.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(at.parent().expect("not the root")).expect("made");
        match entry {
            JobFile::File { mode, bytes } => {
                fs::write(&at, bytes).expect("written");
                fs::set_permissions(&at, fs::Permissions::from_mode(*mode)).expect("set");
            }
            JobFile::Link(target) => {
                symlink(folder.path().join(target.trim_start_matches('/')), at).expect("linked");
            }
        }
    }
    let variable = job.job.test.env.iter().find_map(|variable| variable.strip_prefix("LD_LIBRARY_PATH="));
    let folders = variable.expect("set").split(':').map(|at| format!("{}{at}", folder.path().display()));
    let output = Command::new(folder.path().join("lib64/ld-linux-x86-64.so.2"))
        .arg("--inhibit-cache")
        .arg("--library-path")
        .arg(folders.collect::<Vec<_>>().join(":"))
        .arg(folder.path().join("bin/bash"))
        .args(["-c", "while read -r line; do echo \"$line\"; done < /proc/self/maps"])
        .output()
        .expect("started");
    let maps = String::from_utf8_lossy(&output.stdout);
    let mapped: Vec<_> = maps.lines().filter(|line| line.contains(".so")).collect();
    assert!(!mapped.is_empty(), "{output:?}");
    let ours = folder.path().to_str().expect("UTF-8");
    assert!(mapped.iter().all(|line| line.contains(ours)), "{mapped:#?}");
}

#[test]
fn a_program_keeps_its_path_and_a_link_stays_one() {
    let folder = tempfile::tempdir().expect("made");
    let (real, link) = (folder.path().join("real"), folder.path().join("link"));
    fs::write(&real, crate::init_image()).expect("written");
    fs::set_permissions(&real, fs::Permissions::from_mode(0o750)).expect("set");
    symlink("real", &link).expect("linked");
    let mut builder = JobBuilder::new();
    builder.test(&link, &["a".into()], &["X=1".into()]).expect("packed");
    let job = builder.build(LIMITS).expect("complete");
    let real = fs::canonicalize(real).expect("there").to_str().expect("UTF-8").to_owned();
    assert_eq!(job.job.test.path, link.to_str().expect("UTF-8"));
    assert_eq!(job.job.test.args, ["a"]);
    assert_eq!(job.job.test.env, ["X=1"]);
    assert_eq!(entry(&job, &job.job.test.path), &JobFile::Link(real.clone()));
    assert!(
        matches!(entry(&job, &real), JobFile::File { mode: 0o750, bytes } if bytes == crate::init_image())
    );
    assert_eq!((job.job.enable_timeout_ms, job.job.test_timeout_ms, job.job.exit_timeout_ms), (1, 2, 3));
}

#[test]
fn a_script_brings_its_interpreter_and_that_ones_libraries() {
    let folder = tempfile::tempdir().expect("made");
    let script = folder.path().join("scheduler");
    fs::write(&script, "#!/bin/bash\necho enabled\n").expect("written");
    let mut builder = JobBuilder::new();
    builder.scheduler(&script, &[], &[]).expect("packed");
    builder.test("/bin/true".as_ref(), &[], &[]).expect("packed");
    let job = builder.build(LIMITS).expect("complete");
    for name in ["/bash", "/libc.so.6", "/ld-linux-x86-64.so.2"] {
        assert!(job.entries().any(|(path, _)| path.ends_with(name)), "{name}");
    }
}

#[test]
fn what_only_the_test_needs_comes_last() {
    let folder = tempfile::tempdir().expect("made");
    let config = folder.path().join("config");
    fs::write(&config, "x").expect("written");
    let mut builder = JobBuilder::new();
    builder.test("/bin/bash".as_ref(), &[], &[]).expect("packed");
    builder.scheduler("/bin/true".as_ref(), &[], &[]).expect("packed");
    builder.file(&config, "/etc/config").expect("packed");
    let job = builder.build(LIMITS).expect("complete");
    let has = |entries: &[(String, JobFile)], name| entries.iter().any(|(path, _)| path.ends_with(name));
    assert!(has(&job.late, "/bash") && !has(&job.early, "/bash"));
    // A scheduler may read any file, and the libraries of both are there before either is started.
    for name in ["/true", "/libc.so.6", "/etc/config"] {
        assert!(has(&job.early, name) && !has(&job.late, name), "{name}");
    }
}

#[test]
fn the_environments_library_path_comes_first() {
    let env = ["A=b".to_owned(), "LD_LIBRARY_PATH=/mine".to_owned()];
    let folders = ["/lib".into(), "/mine".into(), "/lib".into()];
    assert_eq!(with_library_path(&env, &folders), ["A=b", "LD_LIBRARY_PATH=/mine:/lib"]);
    assert_eq!(with_library_path(&env[..1], &[]), ["A=b"]);
}

#[test]
fn what_is_missing_is_named() {
    let mut builder = JobBuilder::new();
    let error = builder.test("/nowhere/test".as_ref(), &[], &[]).expect_err("not there");
    assert!(error.to_string().contains("/nowhere/test"), "{error}");
    assert!(matches!(builder.build(LIMITS), Err(JobError::NoTest)));
}
