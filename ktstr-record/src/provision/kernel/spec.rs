//! `--kernel SPEC`: a path, a version or its prefix, or `latest`; and the kernels of the archive, told by the names of its
//! packages.
//!
//! Debian has put the image of release R into `linux-image-R` (to 6.18), and into `linux-binary-R`
//! since, where `linux-image-R` only depends on it; unsigned twins exist of both. The cloud flavour
//! is preferred: fewer drivers, so a smaller image and a shorter boot.

use std::fmt;
use std::path::{Path, PathBuf};

use super::super::error::{Error, Result};

/// Which kernel is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KernelSpec {
    /// What the user has: a bzImage, a vmlinux ELF, a kernel package, or a folder in which a kernel was built.
    Path(PathBuf),
    /// A version of the archive, or the newest of those that begin so.
    Version(KernelVersion),
    /// The newest with sched_ext.
    Latest,
}

impl KernelSpec {
    /// Reads the text of `--kernel` for one kernel. What has a `/` in it or names an existing file or folder is a path.
    ///
    /// # Errors
    /// [`Error::BadKernelSpec`] where the text has none of the forms.
    pub fn parse(text: &str) -> Result<Self> {
        Self::parse_in(text, Path::new(""))
    }

    fn parse_in(text: &str, folder: &Path) -> Result<Self> {
        if text.contains('/') || (!text.is_empty() && folder.join(text).exists()) {
            return Ok(KernelSpec::Path(PathBuf::from(text)));
        }
        if text == "latest" {
            return Ok(KernelSpec::Latest);
        }
        KernelVersion::parse(text)
            .map(KernelSpec::Version)
            .ok_or_else(|| Error::BadKernelSpec { asked: text.to_owned() })
    }

    /// Whether it names one version, which then is taken even without sched_ext.
    pub(super) fn is_whole(&self) -> bool {
        match self {
            KernelSpec::Path(_) => true,
            KernelSpec::Version(version) => version.is_whole(),
            KernelSpec::Latest => false,
        }
    }

    /// Whether the archive's `release` is one that is asked for.
    pub(super) fn admits(&self, release: &str) -> bool {
        match self {
            KernelSpec::Path(_) => false,
            KernelSpec::Version(version) => version.admits(release),
            KernelSpec::Latest => true,
        }
    }
}

impl fmt::Display for KernelSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KernelSpec::Path(path) => path.display().fmt(f),
            KernelSpec::Version(version) => version.fmt(f),
            KernelSpec::Latest => f.write_str("latest"),
        }
    }
}

/// One to three numbers (`7`, `7.3`, `7.3.4`), or a whole release (`7.3.4+deb13-cloud-amd64`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KernelVersion {
    numbers: Vec<u32>,
    release: Option<String>,
}

impl KernelVersion {
    /// Reads a version; `None` where the text is none.
    pub fn parse(text: &str) -> Option<Self> {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (numeric, suffix) = text.split_at(end);
        let numbers: Vec<u32> =
            numeric.split('.').map(str::parse).collect::<std::result::Result<_, _>>().ok()?;
        let is_release = suffix.starts_with(['+', '-', '~'])
            && suffix.len() > 1
            && suffix.chars().all(|c| c.is_ascii_alphanumeric() || "+-~._".contains(c));
        if numbers.len() > 3 || !(suffix.is_empty() || is_release) {
            return None;
        }
        Some(Self { numbers, release: is_release.then(|| text.to_owned()) })
    }

    fn is_whole(&self) -> bool {
        self.release.is_some() || self.numbers.len() == 3
    }

    fn admits(&self, release: &str) -> bool {
        match &self.release {
            Some(whole) => whole == release,
            None => release_numbers(release).is_some_and(|numbers| numbers.starts_with(&self.numbers)),
        }
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(release) = &self.release {
            return f.write_str(release);
        }
        let numbers: Vec<String> = self.numbers.iter().map(u32::to_string).collect();
        f.write_str(&numbers.join("."))
    }
}

/// The first series of the archive that was found to be built with sched_ext; those of 6.12 are not.
const BUILT_IN_SINCE: [u32; 3] = [6, 16, 0];

/// Whether the archive's kernel of this release has sched_ext by its version; `None` for what is no release.
pub(super) fn expects_sched_ext(release: &str) -> Option<bool> {
    release_numbers(release).map(|numbers| numbers >= BUILT_IN_SINCE)
}

/// The three numbers that a release begins with; the third is 0 where it has only two.
pub(super) fn release_numbers(release: &str) -> Option<[u32; 3]> {
    let KernelVersion { numbers, .. } = KernelVersion::parse(release)?;
    match *numbers.as_slice() {
        [major, minor] => Some([major, minor, 0]),
        [major, minor, patch] => Some([major, minor, patch]),
        _ => None,
    }
}

/// The package names to look at, as apt-cache takes it.
pub(super) const PATTERN: &str = "^linux-(image|binary)(-unsigned)?-[0-9].*-amd64(-unsigned)?$";

const CLOUD: &str = "-cloud-amd64";
const GENERIC: &str = "-amd64";

/// A kernel of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// `uname -r`.
    pub(super) release: String,
    /// The package that holds the image.
    pub(super) package: String,
    numbers: [u32; 3],
    rank: u8,
}

impl Candidate {
    fn of_package(package: &str) -> Option<Self> {
        let (rank, rest) = if let Some(rest) = package.strip_prefix("linux-binary-unsigned-") {
            (1, rest)
        } else if let Some(rest) = package.strip_prefix("linux-binary-") {
            (3, rest)
        } else {
            let rest = package.strip_prefix("linux-image-")?;
            rest.strip_suffix("-unsigned").map_or((2, rest), |rest| (0, rest))
        };
        let flavourless = rest.strip_suffix(CLOUD).or_else(|| rest.strip_suffix(GENERIC))?;
        if flavourless.ends_with("-rt") {
            return None;
        }
        let numbers = release_numbers(rest)?;
        Some(Self { release: rest.to_owned(), package: package.to_owned(), numbers, rank })
    }

    /// The version alone, as `7.3.4`.
    pub(super) fn version(&self) -> String {
        self.numbers.map(|number| number.to_string()).join(".")
    }

    /// The release without its flavour.
    pub(super) fn build(&self) -> &str {
        let release = self.release.as_str();
        release.strip_suffix(CLOUD).or_else(|| release.strip_suffix(GENERIC)).unwrap_or(release)
    }
}

/// The kernels that these packages hold, each once, the newest first and cloud before generic.
pub(super) fn candidates(packages: &[String]) -> Vec<Candidate> {
    let mut all: Vec<Candidate> =
        packages.iter().filter_map(|package| Candidate::of_package(package)).collect();
    all.sort_by(|a, b| (order(&b.release), b.rank).cmp(&(order(&a.release), a.rank)));
    all.dedup_by(|later, earlier| later.release == earlier.release);
    all
}

/// The version alone of a release, as `7.3.4`; the release where it has none.
pub(super) fn version(release: &str) -> String {
    let numbers = release_numbers(release).map(|numbers| numbers.map(|number| number.to_string()).join("."));
    numbers.unwrap_or_else(|| release.to_owned())
}

/// What releases are ordered by: the version, cloud before generic, then the rest of the name.
pub(super) fn order(release: &str) -> (Option<[u32; 3]>, bool, &str) {
    (release_numbers(release), release.ends_with(CLOUD), release)
}

/// The best flavour of each build, in the same order.
pub(super) fn one_of_each_build(candidates: Vec<Candidate>) -> Vec<Candidate> {
    let mut kept: Vec<Candidate> = Vec::new();
    for candidate in candidates {
        if !kept.iter().any(|other| other.build() == candidate.build()) {
            kept.push(candidate);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_version_says_what_to_expect() {
        let of = |release| expects_sched_ext(release);
        assert_eq!((of("6.1.0-48-amd64"), of("6.12.94+deb13-amd64")), (Some(false), Some(false)));
        assert_eq!((of("6.16.12+deb13-cloud-amd64"), of("7.0.4-amd64")), (Some(true), Some(true)));
        assert_eq!(of("mine"), None);
    }

    fn version(text: &str) -> KernelVersion {
        KernelVersion::parse(text).unwrap()
    }

    #[test]
    fn the_forms_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("bzImage"), "").unwrap();
        let parse = |text: &str| KernelSpec::parse_in(text, dir.path());
        assert_eq!(parse("latest").unwrap(), KernelSpec::Latest);
        assert_eq!(parse("7.3").unwrap(), KernelSpec::Version(version("7.3")));
        assert_eq!(parse("./7.3").unwrap(), KernelSpec::Path("./7.3".into()));
        assert_eq!(parse("bzImage").unwrap(), KernelSpec::Path("bzImage".into()));
        for wrong in
            ["", "vmlinux", "7.", ".7", "7.3.4.5", "7.3x", "7.3-", "v7.3", "LATEST", "99999999999", "7.3-a b"]
        {
            let text = parse(wrong).unwrap_err().to_string();
            assert!(text.contains(&format!("{wrong:?}")) && text.contains("ktstr kernel list"), "{text}");
        }
    }

    #[test]
    fn a_prefix_is_of_whole_numbers() {
        let release = "7.13.4+deb13-cloud-amd64";
        assert!(version("7").admits(release) && version("7.13").admits(release));
        assert!(version("7.13.4").admits(release) && version(release).admits(release));
        assert!(!version("7.1").admits(release) && !version("7.13.4+deb13-amd64").admits(release));
        assert!(version("7.4").admits("7.4-rc3-amd64") && version("7.4.0").admits("7.4-rc3-amd64"));
    }

    #[test]
    fn only_three_numbers_or_a_release_are_whole() {
        assert!(version("6.12.94").is_whole() && version("6.12-x").is_whole());
        assert!(!version("6.12").is_whole());
    }

    proptest! {
        #[test]
        fn what_parses_prints_as_it_was(text in "[0-9]{1,3}(\\.[0-9]{1,3}){0,2}([+~-][a-z0-9.+~-]{1,9})?") {
            let version = KernelVersion::parse(&text).unwrap();
            let again = KernelVersion::parse(&version.to_string()).unwrap();
            prop_assert_eq!(&again, &version);
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = KernelVersion::parse(&text);
        }
    }

    fn of(packages: &[&str]) -> Vec<(String, String)> {
        let packages: Vec<String> = packages.iter().map(|p| (*p).to_owned()).collect();
        candidates(&packages).into_iter().map(|c| (c.release, c.package)).collect()
    }

    #[test]
    fn the_package_with_the_image_is_taken_and_the_newest_comes_first() {
        let found = of(&[
            "linux-image-7.1.13+deb13-cloud-amd64",
            "linux-binary-unsigned-7.1.13+deb13-cloud-amd64",
            "linux-binary-7.1.13+deb13-cloud-amd64",
            "linux-binary-7.1.13+deb13-amd64",
            "linux-image-6.12.107+deb13-amd64-unsigned",
            "linux-image-6.12.107+deb13-amd64",
            "linux-image-7.2.9+deb13-amd64-unsigned",
        ]);
        let expected = [
            ("7.2.9+deb13-amd64", "linux-image-7.2.9+deb13-amd64-unsigned"),
            ("7.1.13+deb13-cloud-amd64", "linux-binary-7.1.13+deb13-cloud-amd64"),
            ("7.1.13+deb13-amd64", "linux-binary-7.1.13+deb13-amd64"),
            ("6.12.107+deb13-amd64", "linux-image-6.12.107+deb13-amd64"),
        ];
        assert_eq!(found, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }

    #[test]
    fn what_is_no_image_is_left_out() {
        let none = of(&[
            "linux-image-amd64",
            "linux-image-cloud-amd64",
            "linux-image-7.3.4+deb13-amd64-dbg",
            "linux-image-7.3.4+deb13-rt-amd64",
            "linux-headers-7.3.4+deb13-amd64",
            "linux-image-7.3.4+deb13-arm64",
        ]);
        assert_eq!(none, []);
    }

    #[test]
    fn of_each_build_the_cloud_flavour_is_kept() {
        let packages = [
            "linux-binary-7.3.4+deb13-amd64",
            "linux-binary-7.3.4+deb13-cloud-amd64",
            "linux-binary-7.3.3-amd64",
        ];
        let all = candidates(&packages.map(str::to_owned));
        let releases: Vec<_> = one_of_each_build(all).into_iter().map(|c| c.release).collect();
        assert_eq!(releases, ["7.3.4+deb13-cloud-amd64", "7.3.3-amd64"]);
    }
}
