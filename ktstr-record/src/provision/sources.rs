//! The Debian mirror that the host's apt is configured with.
//!
//! `apt-get indextargets` lists the host's sources, too, but says neither by which key one is signed nor whether it is
//! trusted, so that apt's two formats are read here (`sources/formats.rs`). Of the entries found one is chosen, and written out again as a stanza for other
//! suites of the same mirror, with the same key and options.

mod formats;

use std::path::{Path, PathBuf};
use std::{fs, io};

use formats::{parse_deb822, parse_one_line};

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
pub(super) struct SourceEntry {
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

impl SourceEntry {
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
pub(super) fn debian_mirror(host: &Host, what: &str, instead: &'static str) -> Result<SourceEntry> {
    let release = host.release();
    let etc = host.root.join("etc/apt");
    let mut entries = Vec::new();
    for file in files(&etc)? {
        let text = fs::read_to_string(&file).map_err(Error::io("read", &file))?;
        let parsed = if file.extension().is_some_and(|ext| ext == "sources") {
            parse_deb822(&text)
        } else {
            parse_one_line(&text)
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
fn choose(entries: &[SourceEntry], release: &OsRelease) -> Option<SourceEntry> {
    let mut best: Option<(i32, &SourceEntry)> = None;
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn debian(codename: &str) -> OsRelease {
        OsRelease { id: "debian".into(), codename: codename.into() }
    }

    fn parsed(text: &str) -> SourceEntry {
        choose(&parse_deb822(text).unwrap(), &debian("bookworm")).unwrap()
    }

    #[test]
    fn of_several_stanzas_the_archive_is_chosen_and_not_security() {
        let entry = parsed(
            "Types: deb\nURIs: http://mirror.example/debian-security\nSuites: bookworm-security\nComponents: main\n\n\
             # a comment\nTypes: deb deb-src\n# within\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\n\
             Components: main contrib\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n",
        );
        assert_eq!(entry.uris, ["http://mirror.example/debian"]);
        assert_eq!(
            entry.render(&["trixie", "sid"]),
            "Types: deb\nURIs: http://mirror.example/debian\nSuites: trixie sid\nComponents: main\n\
             Architectures: amd64\nTargets: Packages\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
        );
    }

    #[test]
    fn a_disabled_stanza_is_not_used() {
        let text =
            "Types: deb\nURIs: http://m.example/debian\nSuites: trixie\nComponents: main\nEnabled: No\n";
        assert!(parse_deb822(text).unwrap().is_empty());
        assert_eq!(parse_deb822(&text.replace("No", "yes")).unwrap().len(), 1);
    }

    #[test]
    fn a_key_spelled_out_in_the_stanza_survives_the_rendering() {
        let key = "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBGA=\n -----END PGP PUBLIC KEY BLOCK-----\n";
        let text =
            format!("Types: deb\nURIs: http://m.example/debian\nSuites: trixie\nComponents: main\n{key}");
        assert!(parsed(&text).render(&["sid"]).ends_with(key));
    }

    #[test]
    fn one_line_options_become_fields() {
        let text = "# deb http://old.example/debian buster main\n\
            deb-src http://m.example/debian bookworm main\n\
            deb [ arch=amd64,i386 signed-by=/k.gpg trusted=yes lang-=de check-valid-until=no ] http://m.example/debian bookworm main contrib # c\n\
            deb cdrom:[Debian]/ bookworm main\n";
        let entries = parse_one_line(text);
        // The CD-ROM's name is in brackets and holds no blank here, so it parses; it is never chosen.
        let entry = choose(&entries.unwrap(), &debian("bookworm")).unwrap();
        assert_eq!(entry.components, ["main", "contrib"]);
        let rendered = entry.render(&["trixie"]);
        assert!(rendered.ends_with("Signed-By: /k.gpg\nTrusted: yes\nCheck-Valid-Until: no\n"), "{rendered}");
        assert!(rendered.contains("Architectures: amd64\n") && !rendered.contains("i386"), "{rendered}");
    }

    #[test]
    fn broken_lines_are_named() {
        assert_eq!(parse_one_line("\ndeb [arch=amd64 http://m.example x main").unwrap_err().line, 2);
        assert!(parse_one_line("deb http://m.example").is_err());
        assert_eq!(parse_deb822("Types: deb\nnonsense\n").unwrap_err().line, 2);
        assert_eq!(parse_deb822(" continued\n").unwrap_err().line, 1);
    }

    #[test]
    fn a_third_party_that_names_its_suite_after_debian_loses() {
        let text = "deb [signed-by=/usr/share/keyrings/vendor.gpg] https://apt.vendor.example bookworm main\n\
            deb http://m.example/debian bookworm main\ndeb http://m.example/debian bookworm-backports main\n";
        let entry = choose(&parse_one_line(text).unwrap(), &debian("bookworm")).unwrap();
        assert_eq!(entry.uris, ["http://m.example/debian"]);
        assert_eq!(entry.suites, ["bookworm", "bookworm-backports"]);
    }

    #[test]
    fn a_derivative_has_a_mirror_only_where_it_lists_debian_itself() {
        let ubuntu = OsRelease { id: "ubuntu".into(), codename: "noble".into() };
        let own = parse_one_line("deb http://m.example/ubuntu noble main universe\n").unwrap();
        assert_eq!(choose(&own, &ubuntu), None);
        let with_debian = parse_one_line("deb http://m.example/debian trixie main\n").unwrap();
        assert!(choose(&with_debian, &ubuntu).is_some());
    }

    #[test]
    fn an_entry_for_another_architecture_is_not_used() {
        let entries = parse_one_line("deb [arch=arm64] http://m.example/debian trixie main\n").unwrap();
        assert_eq!(choose(&entries, &debian("trixie")), None);
    }

    #[test]
    fn a_host_without_a_debian_entry_is_told_where_was_looked_and_what_to_supply() {
        let root = tempfile::tempdir().unwrap();
        let parts = root.path().join("etc/apt/sources.list.d");
        fs::create_dir_all(&parts).unwrap();
        fs::write(root.path().join("etc/os-release"), "ID=ubuntu\nVERSION_CODENAME=noble\n").unwrap();
        fs::write(
            parts.join("ubuntu.sources"),
            "Types: deb\nURIs: http://m.example/ubuntu\nSuites: noble\nComponents: main\n",
        )
        .unwrap();
        fs::write(parts.join("old.sources.save"), "garbage").unwrap();
        let host =
            Host { root: root.path().to_owned(), path: Default::default(), qemu: None, bpf_root: None };
        let text = debian_mirror(&host, "the emulator", "set KTSTR_QEMU").unwrap_err().to_string();
        for part in ["the emulator", "etc/apt/sources.list.d", "`ubuntu` with 1 other", "set KTSTR_QEMU"] {
            assert!(text.contains(part), "{text}");
        }
        fs::write(parts.join("debian.list"), "deb http://m.example/debian sid main\n").unwrap();
        assert_eq!(debian_mirror(&host, "x", "y").unwrap().suites, ["sid"]);
        fs::write(parts.join("bad.list"), "\n\ndeb [x\n").unwrap();
        let text = debian_mirror(&host, "x", "y").unwrap_err().to_string();
        assert!(text.contains("bad.list:3: "), "{text}");
    }

    #[test]
    fn a_host_whose_sources_hold_their_keys_is_served() {
        let root = tempfile::tempdir().unwrap();
        let parts = root.path().join("etc/apt/sources.list.d");
        fs::create_dir_all(&parts).unwrap();
        fs::write(root.path().join("etc/os-release"), "ID=debian\nVERSION_CODENAME=trixie\n").unwrap();
        let key = "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBGA=\n =abcd\n -----END PGP PUBLIC KEY BLOCK-----\n";
        fs::write(
            parts.join("debian.sources"),
            format!("Types: deb\nURIs: http://m.example/debian\nSuites: trixie trixie-updates\nComponents: main\n{key}"),
        )
        .unwrap();
        fs::write(
            parts.join("vendor.list"),
            "deb [signed-by=/vendor.gpg] http://v.example/debian trixie main\n",
        )
        .unwrap();
        let host =
            Host { root: root.path().to_owned(), path: Default::default(), qemu: None, bpf_root: None };
        let mirror = debian_mirror(&host, "the emulator", "set KTSTR_QEMU").unwrap();
        assert_eq!(mirror.uris, ["http://m.example/debian"]);
        assert!(mirror.render(&["sid"]).ends_with(key), "{}", mirror.render(&["sid"]));
    }

    prop_compose! {
        fn word()(text in "[a-z][a-z0-9.+/:-]{0,12}") -> String { text }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text in "(deb |\\[|\\]|=|:|#|\n|\t| |[a-zA-Z]|\\PC){0,80}") {
            let _ = parse_one_line(&text);
            let _ = parse_deb822(&text);
        }

        #[test]
        fn what_is_rendered_reads_back_as_the_same_entry(
            uris in prop::collection::vec(word(), 1..3),
            suites in prop::collection::vec(word(), 1..4),
            key in word(),
        ) {
            let entry = SourceEntry {
                uris,
                suites: vec![],
                components: vec!["main".into()],
                options: vec![("Signed-By".into(), key)],
            };
            let suites: Vec<&str> = suites.iter().map(String::as_str).collect();
            let back = parse_deb822(&entry.render(&suites)).unwrap();
            prop_assert_eq!(back.len(), 1);
            prop_assert_eq!(&back[0].uris, &entry.uris);
            prop_assert_eq!(&back[0].suites, &suites);
            prop_assert_eq!(back[0].option("signed-by"), entry.option("Signed-By"));
        }
    }
}
