//! Finding shared libraries where the dynamic loader finds them.
//!
//! The order is that of ld.so(8): `DT_RPATH` of the library that asks and of those that led to it (unless it has
//! a `DT_RUNPATH`), `LD_LIBRARY_PATH`, `DT_RUNPATH`, the cache, the default folders.
//!
//! The cache is `/etc/ld.so.cache` in the format that glibc writes since 2.2 (`struct cache_file_new` of glibc's
//! sysdeps/generic/dl-cache.h):
//!
//! ```text
//!  0 "glibc-ld.so.cache1.1"
//! 20 u32 entries   24 u32 bytes of strings   28 u8 flags, padding and extensions to 48
//! 48 entries of { i32 flags, u32 name, u32 path, u32 -, u64 hwcap }, name and path as offsets in the file
//! ```

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::packed::JobError;
use crate::elf::{Needs, is_for_guest, needs};

/// Folders that loaders search last, of the distributions that there are.
const DEFAULT_FOLDERS: [&str; 6] =
    ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"];

/// How this host's loader searches.
#[derive(Debug)]
pub(super) struct Loader {
    library_path: Vec<PathBuf>,
    cache: LdCache,
}

/// All files that a program needs to be started.
#[derive(Debug, Default)]
pub(super) struct Closure {
    /// Loader and libraries, each once.
    pub(super) files: Vec<PathBuf>,
    /// Folders that no run path names and in which libraries were found, in order.
    pub(super) folders: Vec<PathBuf>,
}

/// One of the objects of a program that is being loaded.
struct Object {
    path: PathBuf,
    needs: Needs,
    /// The object that named it, an index.
    parent: Option<usize>,
}

impl Loader {
    /// This host's, with the `LD_LIBRARY_PATH` of this process.
    pub(super) fn of_host() -> Self {
        let variable = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let library_path = std::env::split_paths(&variable).filter(|folder| folder.is_absolute()).collect();
        Self { library_path, cache: LdCache::of_host() }
    }

    /// Everything that the ELF at `program` needs.
    pub(super) fn closure(&self, program: &Path, data: &[u8]) -> Result<Closure, JobError> {
        let mut closure = Closure::default();
        let root = Object { path: program.to_owned(), needs: needs_of(program, data)?, parent: None };
        closure.files.extend(root.needs.interpreter.as_ref().map(PathBuf::from));
        let mut seen = HashSet::new();
        // Breadth first, as the loader does it; a name is loaded once, whoever asks again.
        let mut objects = vec![root];
        let mut at = 0;
        while at < objects.len() {
            for name in std::mem::take(&mut objects[at].needs.libraries) {
                if !seen.insert(name.clone()) {
                    continue;
                }
                let path = self.find(&name, &objects, at, &mut closure.folders)?;
                objects.push(Object {
                    needs: needs_of(&path, &read(&path)?)?,
                    path: path.clone(),
                    parent: Some(at),
                });
                closure.files.push(path);
            }
            at += 1;
        }
        Ok(closure)
    }

    fn find(
        &self,
        name: &str,
        objects: &[Object],
        asking: usize,
        found_in: &mut Vec<PathBuf>,
    ) -> Result<PathBuf, JobError> {
        let asked_by = &objects[asking];
        let missing = |searched| JobError::MissingLibrary {
            name: name.to_owned(),
            needed_by: asked_by.path.clone(),
            searched,
        };
        if name.contains('/') {
            let path = PathBuf::from(name);
            return if usable(&path) { Ok(path) } else { Err(missing(Vec::new())) };
        }
        let mut search = Search { name, searched: Vec::new() };
        if let Some(path) = search.within(rpaths(objects, asking)) {
            return Ok(path);
        }
        let by_variable = search.within(self.library_path.iter().cloned());
        if by_variable.is_none()
            && let Some(path) = search.within(expand(&asked_by.needs.runpath, &asked_by.path))
        {
            return Ok(path);
        }
        let path = by_variable
            .or_else(|| self.cache.find(name).filter(|path| usable(path)).map(Path::to_owned))
            .or_else(|| search.within(DEFAULT_FOLDERS.iter().map(PathBuf::from)));
        let Some(path) = path else {
            search.searched.push(PathBuf::from(CACHE_PATH));
            return Err(missing(search.searched));
        };
        let folder = path.parent().map(Path::to_owned).unwrap_or_default();
        if !found_in.contains(&folder) {
            found_in.push(folder);
        }
        Ok(path)
    }
}

/// The search for one library, and where it went.
struct Search<'a> {
    name: &'a str,
    searched: Vec<PathBuf>,
}

impl Search<'_> {
    fn within(&mut self, folders: impl IntoIterator<Item = PathBuf>) -> Option<PathBuf> {
        folders.into_iter().find_map(|folder| {
            let path = folder.join(self.name);
            self.searched.push(folder);
            usable(&path).then_some(path)
        })
    }
}

/// `DT_RPATH` of an object and of its ancestors, which a `DT_RUNPATH` of the object itself turns off.
fn rpaths(objects: &[Object], asking: usize) -> impl Iterator<Item = PathBuf> {
    let off = !objects[asking].needs.runpath.is_empty();
    let chain = std::iter::successors(Some(asking), |&at| objects[at].parent);
    chain
        .filter(move |&at| !off && objects[at].needs.runpath.is_empty())
        .flat_map(|at| expand(&objects[at].needs.rpath, &objects[at].path))
}

/// The folders of a run path, with the object's own folder for `$ORIGIN`.
fn expand(folders: &[String], object: &Path) -> Vec<PathBuf> {
    let origin = object.parent().unwrap_or(Path::new("/")).to_string_lossy();
    let expand =
        |folder: &String| PathBuf::from(folder.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin));
    folders.iter().map(expand).filter(|folder| folder.is_absolute()).collect()
}

/// Whether the loader would take this file: others of the name, for other CPUs, are passed over.
fn usable(path: &Path) -> bool {
    let mut start = [0; 64];
    fs::File::open(path).is_ok_and(|mut file| {
        std::io::Read::read_exact(&mut file, &mut start).is_ok() && is_for_guest(&start)
    })
}

fn read(path: &Path) -> Result<Vec<u8>, JobError> {
    fs::read(path).map_err(|source| JobError::Read { path: path.to_owned(), source })
}

fn needs_of(path: &Path, data: &[u8]) -> Result<Needs, JobError> {
    if !is_for_guest(data) {
        return Err(JobError::Machine { path: path.to_owned() });
    }
    needs(data).map_err(|source| JobError::Elf { path: path.to_owned(), source })
}

/// Where it lies.
const CACHE_PATH: &str = "/etc/ld.so.cache";

const CACHE_MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const HEADER_BYTES: usize = 48;
const ENTRY_BYTES: usize = 24;
/// `FLAG_X8664_LIB64 | FLAG_ELF_LIBC6`.
const X86_64: u32 = 0x0303;

/// Libraries for x86-64 by name.
#[derive(Debug, Default)]
struct LdCache {
    libraries: HashMap<String, PathBuf>,
}

impl LdCache {
    /// The host's cache; empty where there is none, or one that is not understood.
    pub(super) fn of_host() -> Self {
        std::fs::read(CACHE_PATH).map_or_else(|_| Self::default(), |data| Self::parse(&data))
    }

    /// Where the cache says that the library is.
    pub(super) fn find(&self, name: &str) -> Option<&Path> {
        self.libraries.get(name).map(PathBuf::as_path)
    }

    fn parse(data: &[u8]) -> Self {
        let entries =
            Some(data).filter(|data| data.starts_with(CACHE_MAGIC)).and_then(|data| data.get(HEADER_BYTES..));
        let count = u32_at(data, CACHE_MAGIC.len()).unwrap_or(0) as usize;
        let mut libraries = HashMap::new();
        for entry in entries.unwrap_or_default().chunks_exact(ENTRY_BYTES).take(count) {
            // Variants for certain CPUs only are left aside: the guest's CPU is another.
            let hwcap = u32_at(entry, 16).zip(u32_at(entry, 20));
            if u32_at(entry, 0) != Some(X86_64) || hwcap != Some((0, 0)) {
                continue;
            }
            let string = |at| u32_at(entry, at).and_then(|offset| string_at(data, offset as usize));
            if let (Some(name), Some(path)) = (string(4), string(8)) {
                libraries.entry(name.to_owned()).or_insert_with(|| PathBuf::from(path));
            }
        }
        Self { libraries }
    }
}

fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    data.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

fn string_at(data: &[u8], at: usize) -> Option<&str> {
    let rest = data.get(at..)?;
    let length = rest.iter().position(|&byte| byte == 0)?;
    std::str::from_utf8(&rest[..length]).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn cache(entries: &[(u32, u64, &str, &str)]) -> Vec<u8> {
        let mut data = CACHE_MAGIC.to_vec();
        data.extend((entries.len() as u32).to_le_bytes());
        data.resize(HEADER_BYTES, 0);
        let mut strings = Vec::new();
        let base = HEADER_BYTES + entries.len() * ENTRY_BYTES;
        for (flags, hwcap, name, path) in entries {
            let mut place = |text: &str| {
                let at = (base + strings.len()) as u32;
                strings.extend(text.bytes().chain([0]));
                at
            };
            let (name, path) = (place(name), place(path));
            for word in [*flags, name, path, 0] {
                data.extend(word.to_le_bytes());
            }
            data.extend(hwcap.to_le_bytes());
        }
        data.extend(strings);
        data
    }

    #[test]
    fn finds_x86_64_libraries_of_every_cpu_only() {
        let data = cache(&[
            (0x0803, 0, "liba.so.1", "/lib/i386/liba.so.1"),
            (X86_64, 1 << 62, "liba.so.1", "/lib/v3/liba.so.1"),
            (X86_64, 0, "liba.so.1", "/lib/liba.so.1"),
        ]);
        assert_eq!(LdCache::parse(&data).find("liba.so.1"), Some(Path::new("/lib/liba.so.1")));
        assert_eq!(LdCache::parse(&data).find("libb.so.1"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_to_an_end(mut data in prop::collection::vec(any::<u8>(), 0..300)) {
            LdCache::parse(&data);
            data.splice(0..0, CACHE_MAGIC.iter().copied());
            LdCache::parse(&data);
        }
    }

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
            let closure = loader.closure(program, &fs::read(program).expect("readable")).expect("complete");
            assert_eq!(really(&closure.files), by_ldd(program), "{}", program.display());
        }
    }

    #[test]
    fn a_static_program_needs_no_files() {
        let folder = tempfile::tempdir().expect("made");
        let program = folder.path().join("init");
        fs::write(&program, crate::init_image()).expect("written");
        assert!(Loader::of_host().closure(&program, crate::init_image()).expect("complete").files.is_empty());
    }

    #[test]
    fn a_missing_library_is_named_with_who_needs_it_and_where_it_was_sought() {
        let me = std::env::current_exe().expect("known");
        let blind = Loader { library_path: vec![PathBuf::from("/nowhere")], cache: LdCache::default() };
        let root = Object { path: me.clone(), needs: Needs::default(), parent: None };
        let error = blind.find("libnone.so.7", &[root], 0, &mut Vec::new()).expect_err("not there");
        let text = error.to_string();
        for part in ["libnone.so.7", me.to_str().expect("UTF-8"), "/nowhere", "/usr/lib64", CACHE_PATH] {
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
        let find =
            |loader: Loader, object| loader.find("libx.so", &[object], 0, &mut Vec::new()).expect("there");
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
}
