use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::process::Command;

use super::*;

/// The files that `ldd` names for a program, as they really are.
fn by_ldd(program: &Path) -> BTreeSet<PathBuf> {
    let output = Command::new("ldd").arg(program).output().expect("ldd of the C library's tools");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(|path| fs::canonicalize(path).expect("there"))
        .collect()
}

fn really(files: &[PathBuf]) -> BTreeSet<PathBuf> {
    files.iter().map(|path| fs::canonicalize(path).expect("there")).collect()
}

#[test]
fn finds_what_the_hosts_loader_finds() {
    let me = std::env::current_exe().expect("known");
    let loader = Loader::of_host();
    for program in [me.as_path(), Path::new("/bin/bash"), Path::new("/usr/bin/cc")] {
        let closure = loader.closure(program).expect("complete");
        assert_eq!(really(&closure.files), by_ldd(program), "{}", program.display());
    }
}

#[test]
fn a_static_program_needs_no_files() {
    let folder = tempfile::tempdir().expect("made");
    let program = folder.path().join("init");
    fs::write(&program, crate::init_image()).expect("written");
    assert!(Loader::of_host().closure(&program).expect("complete").files.is_empty());
}

#[test]
fn a_missing_library_is_named_with_who_needs_it_and_where_it_was_sought() {
    let me = std::env::current_exe().expect("known");
    let blind = Loader { library_path: vec![PathBuf::from("/nowhere")], cache: LdCache::default() };
    let root = Object { path: me.clone(), needs: Needs::default(), parent: None };
    let error = blind.find("libnone.so.7", &[root], 0, &mut Vec::new()).expect_err("not there");
    let text = error.to_string();
    for part in ["libnone.so.7", me.to_str().expect("UTF-8"), "/nowhere", "/usr/lib64", ld_cache::PATH] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn run_paths_are_searched_as_the_loader_does() {
    let folder = tempfile::tempdir().expect("made");
    let libc = fs::canonicalize("/lib/x86_64-linux-gnu/libc.so.6").expect("Debian");
    for place in ["rpath", "variable", "runpath"] {
        fs::create_dir(folder.path().join(place)).expect("made");
        symlink(&libc, folder.path().join(place).join("libx.so")).expect("linked");
    }
    let within = |place: &str| folder.path().join(place).join("libx.so");
    let loader = |variable: &str| Loader {
        library_path: vec![folder.path().join(variable)],
        cache: LdCache::default(),
    };
    let path = folder.path().join("program");
    let object = |rpath: &str, runpath: &[&str]| Object {
        path: path.clone(),
        needs: Needs {
            rpath: vec![format!("$ORIGIN/{rpath}")],
            runpath: runpath.iter().map(|folder| format!("${{ORIGIN}}/{folder}")).collect(),
            ..Needs::default()
        },
        parent: None,
    };
    let find = |loader: Loader, object| loader.find("libx.so", &[object], 0, &mut Vec::new()).expect("there");
    assert_eq!(find(loader("variable"), object("rpath", &[])), within("rpath"));
    assert_eq!(find(loader("variable"), object("rpath", &["runpath"])), within("variable"));
    assert_eq!(find(loader("none"), object("rpath", &["runpath"])), within("runpath"));
    // Another file of that name that is no library is passed over.
    fs::remove_file(within("rpath")).expect("removed");
    fs::write(within("rpath"), "INPUT(libx.a)").expect("written");
    assert_eq!(find(loader("variable"), object("rpath", &[])), within("variable"));
}

#[test]
fn the_run_path_of_an_ancestor_counts() {
    let folder = tempfile::tempdir().expect("made");
    symlink("/lib/x86_64-linux-gnu/libc.so.6", folder.path().join("libx.so")).expect("linked");
    let rpath = Needs { rpath: vec!["$ORIGIN".into()], ..Needs::default() };
    let objects = [
        Object { path: folder.path().join("program"), needs: rpath, parent: None },
        Object { path: "/elsewhere/liby.so".into(), needs: Needs::default(), parent: Some(0) },
    ];
    let blind = Loader { library_path: vec![], cache: LdCache::default() };
    let found = blind.find("libx.so", &objects, 1, &mut Vec::new()).expect("there");
    assert_eq!(found, folder.path().join("libx.so"));
}
