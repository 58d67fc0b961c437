//! The kernels of the archive, told by the names of its packages.
//!
//! Debian has put the image of release R into `linux-image-R` (to 6.18), and into `linux-binary-R`
//! since, where `linux-image-R` only depends on it; unsigned twins exist of both. The cloud flavour
//! is preferred: fewer drivers, so a smaller image and a shorter boot.

use super::spec::release_numbers;

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
    use super::*;

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
