//! The Debian mirror that the host's apt is configured with.
//!
//! apt's two formats are read (`sources.list(5)`): one-line entries in `*.list` and deb822 stanzas
//! in `*.sources`. Of the entries found one is chosen, and written out again as a stanza for other
//! suites of the same mirror, with the same key and options.

mod deb822;
mod one_line;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::{Error, Result};
use super::host::{Host, OsRelease};

/// Debian's suites by code name and by role; a mirror of Debian has them, others do not.
const DEBIAN_SUITES: &[&str] = &[
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "sid",
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
    "unstable",
];

/// One entry of apt's configuration: an archive, some of its suites, and options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// Where the archive is.
    pub(super) uris: Vec<String>,
    /// Its suites that the host uses.
    pub(super) suites: Vec<String>,
    /// Its components that the host uses.
    pub(super) components: Vec<String>,
    /// Further fields by their deb822 names. A value may span lines, as in deb822.
    pub(super) options: Vec<(String, String)>,
}

/// A line of a file that cannot be understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    /// From 1.
    line: usize,
    message: String,
}

impl Entry {
    /// The stanza that asks this archive for `suites`, component main.
    pub(super) fn render(&self, suites: &[&str]) -> String {
        let mut out = format!(
            "Types: deb\nURIs: {}\nSuites: {}\nComponents: main\nArchitectures: amd64\nTargets: Packages\n",
            self.uris.join(" "),
            suites.join(" ")
        );
        for (name, value) in &self.options {
            let decided_here =
                ["Architectures", "Languages", "Targets", "PDiffs"].iter().any(|field| names(name, field));
            if !decided_here {
                let space = if value.starts_with('\n') { "" } else { " " };
                out.push_str(&format!("{name}:{space}{value}\n"));
            }
        }
        out
    }

    fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// How likely this is the host's mirror of Debian itself; `None` where it cannot be.
    fn score(&self, release: &OsRelease) -> Option<i32> {
        let is_debian_suite = |suite: &String| {
            let base = suite.split_once('-').map_or(suite.as_str(), |(base, _)| base);
            DEBIAN_SUITES.contains(&base) || (release.id == "debian" && base == release.codename)
        };
        let is_security = |text: &String| {
            text.ends_with("-security") || text.contains("/updates") || text.contains("debian-security")
        };
        let fits = self.components.iter().any(|component| component == "main")
            && self.suites.iter().any(|suite| is_debian_suite(suite) && !is_security(suite))
            && !self.uris.is_empty()
            && !self.uris.iter().any(|uri| is_security(uri) || uri.starts_with("cdrom:"))
            && self.option("Architectures").is_none_or(|list| list.split_whitespace().any(|a| a == "amd64"));
        if !fits {
            return None;
        }
        let signed_by = self.option("Signed-By").map(str::trim);
        let key = match signed_by {
            Some(path) if path.contains("debian-archive") => 4,
            // The archive's key among the host's trusted ones, or spelled out in the file.
            None => 2,
            Some(text) if text.contains("BEGIN PGP") => 1,
            // Third parties name their archives after Debian's suites, and come with their own key.
            Some(_) => -4,
        };
        let named_debian = self.uris.iter().any(|uri| uri.trim_end_matches('/').ends_with("/debian"));
        let companions =
            self.suites.iter().any(|suite| suite.ends_with("-updates") || suite.ends_with("-backports"));
        Some(key + i32::from(named_debian) * 2 + i32::from(companions))
    }
}

/// Whether `name` is `field` or one of its `-Add` and `-Remove` forms.
fn names(name: &str, field: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let base = name.strip_suffix("-add").or_else(|| name.strip_suffix("-remove")).unwrap_or(&name);
    base == field.to_ascii_lowercase()
}

/// The host's mirror of the Debian archive, and which of its suites the host uses.
///
/// `what` and `instead` complete the error where there is none.
pub(super) fn debian_mirror(host: &Host, what: &str, instead: &'static str) -> Result<Entry> {
    let release = host.release();
    let etc = host.root.join("etc/apt");
    let mut entries = Vec::new();
    for file in files(&etc)? {
        let text = fs::read_to_string(&file).map_err(Error::io("read", &file))?;
        let parsed = if file.extension().is_some_and(|ext| ext == "sources") {
            deb822::parse(&text)
        } else {
            one_line::parse(&text)
        };
        entries.extend(parsed.map_err(|SyntaxError { line, message }| Error::Sources {
            path: file.clone(),
            line,
            message,
        })?);
    }
    choose(&entries, &release).ok_or_else(|| Error::NoDebianSource {
        what: what.to_owned(),
        searched: format!(
            "{} and {}",
            etc.join("sources.list").display(),
            etc.join("sources.list.d").display()
        ),
        found: match (entries.len(), release.id.as_str()) {
            (_, "") => String::new(),
            (0, id) => format!(" (a host of the distribution `{id}` without any entry)"),
            (n, id) => format!(" (a host of the distribution `{id}` with {n} other entries)"),
        },
        instead,
    })
}

/// The likeliest entry, with the suites of all entries for the same archive; the first of equals.
fn choose(entries: &[Entry], release: &OsRelease) -> Option<Entry> {
    let mut best: Option<(i32, &Entry)> = None;
    for entry in entries {
        if let Some(score) = entry.score(release)
            && best.is_none_or(|(most, _)| score > most)
        {
            best = Some((score, entry));
        }
    }
    let mut chosen = best?.1.clone();
    chosen.suites.clear();
    for entry in entries.iter().filter(|entry| entry.uris == chosen.uris && entry.score(release).is_some()) {
        for suite in &entry.suites {
            if !chosen.suites.contains(suite) {
                chosen.suites.push(suite.clone());
            }
        }
    }
    Some(chosen)
}

/// The files that apt would read, in its order.
fn files(etc: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let main = etc.join("sources.list");
    if main.is_file() {
        files.push(main);
    }
    let parts = etc.join("sources.list.d");
    match fs::read_dir(&parts) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(Error::io("read", &parts)(e)),
        Ok(folder) => {
            let mut found = Vec::new();
            for entry in folder {
                let path = entry.map_err(Error::io("read", &parts))?.path();
                if path.extension().is_some_and(|ext| ext == "list" || ext == "sources") {
                    found.push(path);
                }
            }
            found.sort();
            files.extend(found);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests;
