//! Finding shared libraries where the dynamic loader finds them.
//!
//! The order is that of ld.so(8): `DT_RPATH` of the library that asks and of those that led to it (unless it has
//! a `DT_RUNPATH`), `LD_LIBRARY_PATH`, `DT_RUNPATH`, the cache, the default folders.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::elf::{Needs, is_for_guest, needs};
use super::error::JobError;
use super::ld_cache::{self, LdCache};

/// Folders that loaders search last, of the distributions that there are.
const DEFAULT_FOLDERS: [&str; 6] =
    ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"];

/// How this host's loader searches.
#[derive(Debug)]
pub struct Loader {
    library_path: Vec<PathBuf>,
    cache: LdCache,
}

/// All files that a program needs to be started.
#[derive(Debug, Default)]
pub struct Closure {
    /// Loader and libraries, each once.
    pub files: Vec<PathBuf>,
    /// Folders that no run path names and in which libraries were found, in order.
    pub folders: Vec<PathBuf>,
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
    pub fn of_host() -> Self {
        let variable = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let library_path = std::env::split_paths(&variable).filter(|folder| folder.is_absolute()).collect();
        Self { library_path, cache: LdCache::of_host() }
    }

    /// Everything that the ELF at `program` needs.
    pub fn closure(&self, program: &Path) -> Result<Closure, JobError> {
        let mut closure = Closure::default();
        let root = Object { path: program.to_owned(), needs: needs_of(program)?, parent: None };
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
                objects.push(Object { needs: needs_of(&path)?, path: path.clone(), parent: Some(at) });
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
            search.searched.push(PathBuf::from(ld_cache::PATH));
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

fn needs_of(path: &Path) -> Result<Needs, JobError> {
    let data = fs::read(path).map_err(|source| JobError::Read { path: path.to_owned(), source })?;
    if !is_for_guest(&data) {
        return Err(JobError::Machine { path: path.to_owned() });
    }
    needs(&data).map_err(|source| JobError::Elf { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
