//! Debian packages (`deb(5)`): an `ar` archive of `debian-binary`, `control.tar.*` and `data.tar.*`.

use std::io::{Read, Seek};

use super::collect::Collector;
use super::stream::{decompressed, is_tar};
use super::{About, PackageError, tarball, text};

/// Members that are looked at: a package has three, signed ones a few more.
const MAX_MEMBERS: usize = 16;

/// Reads a package.
pub(super) fn read(
    from: &mut (impl Read + Seek),
    collector: &mut Collector<'_>,
) -> Result<About, PackageError> {
    let broken = |part| move |source| PackageError::Broken { part, source };
    let mut archive = ar::Archive::new(from);
    let (mut about, mut has_data) = (About::default(), false);
    for _ in 0..MAX_MEMBERS {
        let Some(entry) = archive.next_entry() else { break };
        let mut entry = entry.map_err(broken("archive"))?;
        let name = String::from_utf8_lossy(entry.header().identifier()).into_owned();
        if name == "debian-binary" {
            let version = text("debian-binary", &mut entry)?;
            if !version.starts_with("2.") {
                let found = std::io::Error::other(format!("it is of format {:?}", version.trim()));
                return Err(broken("debian-binary")(found));
            }
        } else if name.starts_with("control.tar") {
            let plain = decompressed("control.tar", entry, is_tar)?;
            tarball::read("control.tar", plain, "control", |text| about = of_control(text), None)?;
        } else if name.starts_with("data.tar") {
            has_data = true;
            tarball::read("data.tar", decompressed("data.tar", entry, is_tar)?, "", |_| (), Some(collector))?;
        }
    }
    if !has_data {
        return Err(broken("archive")(std::io::Error::other("it has no member data.tar")));
    }
    Ok(about)
}

/// The fields of `deb-control(5)`.
fn of_control(text: &str) -> About {
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.unwrap_or_default().trim().to_owned()
    };
    let depends = field("Depends");
    let needs = depends.split(',').map(|need| need.trim().to_owned()).filter(|need| !need.is_empty());
    About { name: field("Package"), arch: field("Architecture"), needs: needs.collect() }
}
