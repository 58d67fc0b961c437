//! The kernels of a range: the newest of each series that can be had.

use std::collections::{BTreeMap, BTreeSet};

use super::super::error::{Error, Result};
use super::super::host::Context;
use super::entry;
use super::range::{KernelRange, Series, series_of};
use super::resolve::{LISTS_MAX_AGE, fetch, open_apt};
use super::spec::{self, Candidate};
use crate::spec::Kernel;

/// What was chosen of a range.
#[derive(Clone, Debug)]
pub struct KernelSelection {
    /// The kernels, the oldest first; at least one.
    pub kernels: Vec<Kernel>,
    /// What was chosen, left out or not found, a line for each series.
    pub told: Vec<String>,
}

/// What there is of a series, the newest first.
#[derive(Debug, Default)]
struct Offers {
    cached: Vec<Kernel>,
    archived: Vec<Candidate>,
}

/// The newest kernel with sched_ext of each series in `range`: of the cache, else of the archive.
pub(in super::super) fn select(context: &Context, range: &KernelRange) -> Result<KernelSelection> {
    range.check_span()?;
    let asked = range.to_string();
    let mut offers: BTreeMap<Series, Offers> = BTreeMap::new();
    for kernel in
        entry::cached(context, &asked).into_iter().filter(|k| k.has_sched_ext && range.admits(&k.release))
    {
        if let Some(series) = series_of(&kernel.release) {
            offers.entry(series).or_default().cached.push(kernel);
        }
    }
    // Where the cache has one of each series, the archive has nothing to say.
    let is_whole = range.series().is_some_and(|mut all| all.all(|series| offers.contains_key(&series)));
    let mut told = Vec::new();
    let apt = if is_whole { Ok(None) } else { open_apt(context).map(Some) };
    let apt = match apt.and_then(|apt| apt.map(|apt| apt.update(LISTS_MAX_AGE).map(|()| apt)).transpose()) {
        Ok(apt) => apt,
        Err(error) if offers.is_empty() => return Err(error),
        Err(error) => {
            told.push(format!("the archive could not be asked, so that only the cache was: {error}"));
            None
        }
    };
    if let Some(apt) = &apt {
        let all = spec::one_of_each_build(spec::candidates(&apt.names(spec::PATTERN)?));
        for candidate in all.into_iter().filter(|candidate| range.admits(&candidate.release)) {
            if let Some(series) = series_of(&candidate.release) {
                offers.entry(series).or_default().archived.push(candidate);
            }
        }
    }
    let mut kernels = Vec::new();
    for (series, offers) in &offers {
        let kernel = match (offers.cached.first(), offers.archived.first(), &apt) {
            (Some(kernel), ..) => kernel.clone(),
            (None, Some(candidate), Some(apt)) => fetch(context, apt, candidate, &asked)?,
            _ => continue,
        };
        told.push(line(*series, &kernel, offers));
        if kernel.has_sched_ext {
            kernels.push(kernel);
        }
    }
    let place = if apt.is_some() { "neither in the cache nor in the archive" } else { "not in the cache" };
    let existing: BTreeSet<Series> = offers.keys().copied().collect();
    told.extend(range.absent(&existing).into_iter().map(|series| format!("{series}: {place}")));
    if kernels.is_empty() {
        if told.is_empty() {
            told.push(format!("there is none {place}"));
        }
        return Err(Error::EmptyRange { asked, found: told });
    }
    Ok(KernelSelection { kernels, told })
}

/// What was made of a series.
fn line([major, minor]: Series, kernel: &Kernel, offers: &Offers) -> String {
    let mut line = format!("{major}.{minor}: {}", kernel.release);
    if !kernel.has_sched_ext {
        line.push_str(
            ", left out: it is built without sched_ext (its whole version as --kernel takes it all the same)",
        );
    }
    let newer = offers
        .archived
        .first()
        .filter(|candidate| spec::order(&candidate.release) > spec::order(&kernel.release));
    if let Some(newer) = newer.filter(|newer| newer.version() != spec::version(&kernel.release)) {
        line.push_str(&format!(
            " (of the cache; the archive has {}, which `ktstr kernel fetch {major}.{minor}` gets)",
            newer.version()
        ));
    }
    line
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::fs;
    use std::path::Path;

    use super::super::super::cache::Cache;
    use super::super::super::host::Host;
    use super::super::super::progress::Progress;
    use super::*;

    /// A cache with these releases, of which those that end in `!` are without sched_ext, and a host without apt.
    fn with(dir: &Path, releases: &[&str]) -> Context {
        let cache = Cache::at(dir.join("ktstr")).unwrap();
        for release in releases {
            let name = release.trim_end_matches('!');
            let folder = cache.path("kernels").join(name);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("vmlinux"), "x").unwrap();
            fs::write(folder.join("bzImage"), "x").unwrap();
            let json = serde_json::json!({
                "release": name, "has_sched_ext": name == *release, "id": "0", "vmlinux_bytes": 1, "source": "a package"
            });
            fs::write(folder.join("kernel.json"), json.to_string()).unwrap();
        }
        let host = Host { root: dir.join("host"), path: OsString::new(), qemu: None, bpf_root: None };
        Context { cache, host, progress: Progress::Silent }
    }

    fn selected(context: &Context, range: &str) -> Result<(Vec<String>, Vec<String>)> {
        let selection = select(context, &KernelRange::parse(range).unwrap())?;
        Ok((selection.kernels.into_iter().map(|kernel| kernel.release).collect(), selection.told))
    }

    #[test]
    fn of_each_series_the_newest_is_taken_and_the_archive_is_not_asked_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let context = with(
            dir.path(),
            &["7.0.4-amd64", "7.0.13-amd64", "7.1.8-amd64", "7.1.13-amd64!", "6.12.1-amd64"],
        );
        let (releases, told) = selected(&context, "7.0..7.1").unwrap();
        assert_eq!(releases, ["7.0.13-amd64", "7.1.8-amd64"]);
        assert_eq!(told, ["7.0: 7.0.13-amd64", "7.1: 7.1.8-amd64"]);
    }

    #[test]
    fn without_an_archive_the_cache_serves_and_what_is_not_there_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let context = with(dir.path(), &["7.0.4-amd64", "7.3.4-amd64"]);
        let (releases, told) = selected(&context, "7.0..7.3").unwrap();
        assert_eq!(releases, ["7.0.4-amd64", "7.3.4-amd64"]);
        assert!(
            told[0].starts_with("the archive could not be asked") && told[0].contains("apt-get"),
            "{told:?}"
        );
        assert_eq!(told[1..], ["7.0: 7.0.4-amd64", "7.3: 7.3.4-amd64", "7.1 to 7.2: not in the cache"]);
        assert!(selected(&context, "6.0..6.9").is_err());
    }

    #[test]
    fn a_range_of_too_many_major_versions_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let context = with(dir.path(), &["7.3.4-amd64"]);
        for range in ["1..4000000000", "1..17"] {
            let text = selected(&context, range).unwrap_err().to_string();
            assert!(text.contains(range) && text.contains("more than 16 major versions"), "{text}");
        }
        assert_eq!(selected(&context, "1..16").unwrap().0, ["7.3.4-amd64"]);
    }
}
