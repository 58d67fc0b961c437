//! Debian packages (`deb(5)`): an `ar` archive of `debian-binary`, `control.tar.*` and `data.tar.*`.
//!
//! ```text
//! magic    !<arch>\n
//! members  each a header and its content, padded to an even number of bytes
//!
//! header:  0   name   16 bytes with spaces at the end, and before them a `/` where GNU's ar made it
//!          16  times, owner and mode, which are of no use here
//!          48  bytes of content, 10 decimal digits with spaces at the end
//!          58  ` and \n
//! ```
//!
//! The names by which `ar` refers to longer ones (`/99`, `//`, `#1/99`) are none of a Debian package, and refused. `ar`, the crate, follows
//! them, and takes their numbers for an index and for an amount of memory whatever they are.

use std::io::{self, Read};

use super::collect::Collector;
use super::stream::{decompressed, is_tar};
use super::{About, PackageError, tarball, text};

/// Begins a package.
pub(super) const MAGIC: [u8; 8] = *b"!<arch>\n";
const HEADER_BYTES: u64 = 60;
/// Members that are looked at: a package has three, signed ones a few more.
const MAX_MEMBERS: usize = 16;

/// Reads a package.
pub(super) fn read(from: &mut impl Read, collector: &mut Collector<'_>) -> Result<About, PackageError> {
    let broken = |part| move |source| PackageError::Broken { part, source };
    from.read_exact(&mut [0; MAGIC.len()]).map_err(broken("archive"))?;
    let (mut about, mut has_data) = (About::default(), false);
    for _ in 0..MAX_MEMBERS {
        let Some((name, bytes)) = header(from).map_err(broken("archive"))? else { break };
        let mut member = from.by_ref().take(bytes);
        if name == "debian-binary" {
            let version = text("debian-binary", &mut member)?;
            if !version.starts_with("2.") {
                let found = io::Error::other(format!("it is of format {:?}", version.trim()));
                return Err(broken("debian-binary")(found));
            }
        } else if name.starts_with("control.tar") {
            let plain = decompressed("control.tar", &mut member, is_tar)?;
            tarball::read("control.tar", plain, "control", |text| about = of_control(text), None)?;
        } else if name.starts_with("data.tar") {
            has_data = true;
            let plain = decompressed("data.tar", &mut member, is_tar)?;
            tarball::read("data.tar", plain, "", |_| (), Some(collector))?;
        }
        io::copy(&mut member, &mut io::sink()).map_err(broken("archive"))?;
        if member.limit() > 0 {
            let why = format!("{name:?} has {bytes} bytes, of which the last {} are missing", member.limit());
            return Err(broken("archive")(io::Error::new(io::ErrorKind::UnexpectedEof, why)));
        }
        // Behind the last member it may be left out.
        let mut padding = from.by_ref().take(bytes % 2);
        io::copy(&mut padding, &mut io::sink()).map_err(broken("archive"))?;
    }
    if !has_data {
        return Err(broken("archive")(io::Error::other("it has no member data.tar")));
    }
    Ok(about)
}

/// The name of the next member, and the bytes that it is to have; `None` at the end.
fn header(from: &mut impl Read) -> io::Result<Option<(String, u64)>> {
    let mut header = Vec::new();
    from.take(HEADER_BYTES).read_to_end(&mut header)?;
    if header.is_empty() {
        return Ok(None);
    }
    let (Some(name), Some(bytes), Some(end)) = (header.get(..16), header.get(48..58), header.get(58..60))
    else {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ends within the header of a member"));
    };
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    if end != b"`\n" {
        return Err(invalid("there is no header of a member where one should begin".to_owned()));
    }
    let name = String::from_utf8_lossy(name);
    let name = name.trim_end_matches(' ');
    if name.starts_with('/') || name.starts_with("#1/") {
        return Err(invalid(format!("it has a member {name:?}, and no Debian package has such a name")));
    }
    let bytes = String::from_utf8_lossy(bytes);
    let digits = bytes.trim_end_matches(' ');
    // `parse` takes a sign.
    let bytes = digits.parse().ok().filter(|_| !digits.starts_with('+'));
    let bytes =
        bytes.ok_or_else(|| invalid(format!("the size of {name:?} is {digits:?}, which is no number")))?;
    Ok(Some((name.strip_suffix('/').unwrap_or(name).to_owned(), bytes)))
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
