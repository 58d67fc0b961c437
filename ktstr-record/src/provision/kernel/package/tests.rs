//! Packages that are made here, of a kernel's files: sound ones, and whatever a stranger may send.

use std::io::{Cursor, Write};

use cpio::newc;
use proptest::prelude::*;

use super::super::image::synthetic;
use super::*;

const RELEASE: &str = synthetic::RELEASE;

/// A member: its path, and its content; a symbolic link where it begins with `->`.
type Member<'a> = (&'a str, &'a [u8]);

fn tar(members: &[Member<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in members {
        let mut header = tar::Header::new_ustar();
        // As it is, `..` included: `set_path` would refuse it.
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_mode(0o644);
        if let Some(to) = content.strip_prefix(b"->") {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_link_name(std::str::from_utf8(to).unwrap()).unwrap();
            header.set_size(0);
            header.set_cksum();
            builder.append(&header, &b""[..]).unwrap();
        } else {
            header.set_size(content.len() as u64);
            header.set_cksum();
            builder.append(&header, *content).unwrap();
        }
    }
    builder.into_inner().unwrap()
}

fn xz(data: &[u8]) -> Vec<u8> {
    let mut writer = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).unwrap();
    writer.write_all(data).unwrap();
    writer.finish().unwrap()
}

fn zst(data: &[u8]) -> Vec<u8> {
    zstd::encode_all(data, 3).unwrap()
}

/// The header of a member as it is in `ar(5)`, of any name and size.
fn ar_header(name: &str, bytes: impl std::fmt::Display) -> String {
    format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{bytes:<10}`\n", 0, 0, 0, 100_644)
}

fn ar(members: &[Member<'_>]) -> Vec<u8> {
    let mut out = deb::MAGIC.to_vec();
    for (name, content) in members {
        out.extend_from_slice(ar_header(name, content.len()).as_bytes());
        out.extend_from_slice(content);
        out.resize(out.len().next_multiple_of(2), b'\n');
    }
    out
}

fn deb(control: &str, members: &[Member<'_>]) -> Vec<u8> {
    let control = zst(&tar(&[("./control", control.as_bytes())]));
    ar(&[("debian-binary", b"2.0\n"), ("control.tar.zst", &control), ("data.tar.xz", &xz(&tar(members)))])
}

fn rpm_header(strings: &[(u32, &str)]) -> Vec<u8> {
    let (mut index, mut data) = (Vec::new(), Vec::new());
    for (tag, text) in strings {
        for word in [*tag, 6, data.len() as u32, 1] {
            index.extend_from_slice(&word.to_be_bytes());
        }
        data.extend_from_slice(text.as_bytes());
        data.push(0);
    }
    let mut out = vec![0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0];
    out.extend_from_slice(&(strings.len() as u32).to_be_bytes());
    out.extend_from_slice(&(data.len() as u32).to_be_bytes());
    [out, index, data].concat()
}

fn rpm(arch: &str, members: &[Member<'_>]) -> Vec<u8> {
    let mut out = LEAD.to_vec();
    out.resize(96, 0);
    out.extend(rpm_header(&[(1, "sig")]));
    out.resize(out.len().next_multiple_of(8), 0);
    out.extend(rpm_header(&[(1000, "kernel-core"), (1022, arch), (1049, "kernel-modules-core-uname-r")]));
    let files = members.iter().map(|(path, content)| {
        let mode = if content.starts_with(b"->") { 0o120_777 } else { 0o100_644 };
        (newc::Builder::new(path).mode(mode), Cursor::new(content.to_vec()))
    });
    let archive = cpio::write_cpio(files, Vec::new()).unwrap();
    out.extend(zst(&archive));
    out
}

const LEAD: [u8; 4] = rpm::LEAD_MAGIC;

fn pkg(arch: &str, members: &[Member<'_>]) -> Vec<u8> {
    let about =
        format!("# made by hand\npkgname = linux\narch = {arch}\ndepend = linux-firmware\ndepend = kmod\n");
    let all: Vec<Member<'_>> =
        [(".PKGINFO", about.as_bytes())].into_iter().chain(members.iter().copied()).collect();
    zst(&tar(&all))
}

/// What comes out: the image, and the configuration.
fn extracted(package: &[u8]) -> Result<(Vec<u8>, Option<Vec<u8>>), PackageError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("package");
    std::fs::write(&path, package).unwrap();
    let into = dir.path().join("into");
    std::fs::create_dir(&into).unwrap();
    let format = Format::of(package).expect("a package");
    let found = extract(&mut File::open(&path).unwrap(), format, &into)?;
    let outside = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(outside, 2, "something was written outside of the folder");
    let read = |path: PathBuf| std::fs::read(path).unwrap();
    Ok((read(found.image), found.config.map(read)))
}

/// The error of a package, with its causes.
fn refused(package: &[u8]) -> String {
    let error = extracted(package).expect_err("refused");
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

const CONTROL: &str =
    "Package: linux-image-7.3.4\nArchitecture: amd64\nDepends: linux-binary-7.3.4 (= 7.3.4-1), kmod\n";

#[test]
fn image_and_configuration_come_out_of_each_format() {
    let image = synthetic::bzimage(&synthetic::gzip(&synthetic::elf(true)));
    let (at, beside) = (format!("lib/modules/{RELEASE}/vmlinuz"), format!("lib/modules/{RELEASE}/config"));
    let other = format!("lib/modules/{RELEASE}/kernel/fs/ext4.ko");
    let members = |prefix: &str| {
        [(&other, &b"module"[..]), (&at, &image[..]), (&beside, &b"CONFIG_PVH=y\n"[..])]
            .map(|(path, content)| (format!("{prefix}{path}"), content))
    };
    for (prefix, make) in [
        ("./usr/", (|m: &[Member<'_>]| deb(CONTROL, m)) as fn(&[Member<'_>]) -> Vec<u8>),
        ("./", |m| rpm("x86_64", m)),
        ("usr/", |m| pkg("x86_64", m)),
    ] {
        let members = members(prefix);
        let members: Vec<Member<'_>> =
            members.iter().map(|(path, content)| (path.as_str(), *content)).collect();
        let (found, config) = extracted(&make(&members)).unwrap();
        assert!(found == image, "{prefix}");
        assert_eq!(config.as_deref(), Some(&b"CONFIG_PVH=y\n"[..]));
        let (_, config) = extracted(&make(&members[..2])).unwrap();
        assert_eq!(config, None, "what is not there is not made up");
    }
}

#[test]
fn a_package_without_a_kernel_says_what_it_has_and_what_it_needs() {
    let text = refused(&deb(CONTROL, &[("./usr/share/doc/linux-image-7.3.4/copyright", b"")]));
    assert!(text.contains("a Debian package (linux-image-7.3.4) without a kernel"), "{text}");
    assert!(text.contains("usr/share/doc/linux-image-7.3.4/copyright"), "{text}");
    assert!(text.ends_with("of which one may hold it: linux-binary-7.3.4 (= 7.3.4-1)"), "{text}");
    let text = refused(&rpm("x86_64", &[("./usr/share/doc/x", b"")]));
    assert!(text.contains("(kernel-core)") && text.contains("kernel-modules-core-uname-r"), "{text}");
    assert!(refused(&pkg("x86_64", &[])).contains("none of its 0 members"));
}

#[test]
fn a_package_for_another_processor_is_told() {
    let member = [("boot/vmlinuz-7", &b"image"[..])];
    assert!(refused(&deb(&CONTROL.replace("amd64", "arm64"), &member)).contains("it is for arm64"));
    assert!(refused(&rpm("aarch64", &member)).contains("it is for aarch64"));
    assert!(refused(&pkg("riscv64", &member)).contains("it is for riscv64"));
}

#[test]
fn several_kernels_are_not_chosen_from() {
    let text = refused(&deb(CONTROL, &[("boot/vmlinuz-7.1", b"one"), ("boot/vmlinuz-7.2", b"two")]));
    assert!(text.contains("several kernels: boot/vmlinuz-7.1, boot/vmlinuz-7.2"), "{text}");
}

/// The paths of a package are compared and never opened.
#[test]
fn no_path_of_a_package_is_written_to() {
    let hostile = [
        ("../escaped", &b"x"[..]),
        ("/etc/passwd", b"x"),
        ("boot/vmlinuz-../../../escaped", b"image"),
        ("boot/vmlinuz-7", b"->/etc/passwd"),
    ];
    // What has the form of an image's name is taken, under a name of ours; the link is not.
    for package in [deb(CONTROL, &hostile), rpm("x86_64", &hostile), pkg("x86_64", &hostile)] {
        assert!(refused(&package).contains("without a kernel"));
    }
    assert!(!std::env::temp_dir().join("escaped").exists());
}

#[test]
fn a_compressed_file_that_is_no_package_is_told() {
    assert!(refused(&zst(&[7; 4096])).contains("no tar file in it"));
    assert!(refused(&xz(b"short")).contains("no tar file in it"));
}

#[test]
fn a_package_that_is_cut_off_is_an_error_wherever_it_ends() {
    let image = synthetic::bzimage(&synthetic::gzip(&synthetic::elf(true)));
    let members = [("boot/vmlinuz-7", &image[..])];
    for whole in [deb(CONTROL, &members), rpm("x86_64", &members), pkg("x86_64", &members)] {
        assert!(extracted(&whole).is_ok());
        for end in (16..whole.len() - 8).step_by(97) {
            assert!(extracted(&whole[..end]).is_err(), "{end} of {}", whole.len());
        }
    }
}

/// `ar` would look these names up, or read them, by a number of the header: it is believed nowhere.
#[test]
fn a_debian_package_has_no_name_that_refers_to_another() {
    let begun = ar(&[("debian-binary", b"2.0\n")]);
    for name in ["/99", "/", "//", "#1/9999999999", "#1/4"] {
        for bytes in ["0", "4", "9999999999"] {
            let text = refused(&[&begun, ar_header(name, bytes).as_bytes(), b"four"].concat());
            assert!(text.contains(&format!("it has a member {name:?}")), "{text}");
        }
    }
}

#[test]
fn the_members_of_a_debian_package_are_as_their_headers_say() {
    let whole = deb(CONTROL, &[("boot/vmlinuz-7", b"image")]);
    let with = |header: &str, content: &[u8]| [&whole, header.as_bytes(), content].concat();
    for (header, why) in [
        (ar_header("extra", 6), "\"extra\" has 6 bytes, of which the last 2 are missing"),
        (ar_header("extra", "9999999999"), "of which the last 9999999995 are missing"),
        (ar_header("extra", "+4"), "the size of \"extra\" is \"+4\""),
        (ar_header("extra", "0x4"), "the size of \"extra\" is \"0x4\""),
        (ar_header("extra", ""), "the size of \"extra\" is \"\""),
        (ar_header("extra", 4).replace('`', "'"), "no header of a member"),
        (ar_header("extra", 4)[..50].to_owned(), "within the header"),
    ] {
        let text = refused(&with(&header, b"four"));
        assert!(text.contains(why), "{text}");
    }
    for (bytes, content) in [(0, &b""[..]), (3, b"abc"), (3, b"abc\n"), (4, b"four")] {
        assert!(extracted(&with(&ar_header("extra", bytes), content)).is_ok(), "{content:?}");
    }
    // Once more, with names as GNU's ar writes them.
    let control = zst(&tar(&[("./control", CONTROL.as_bytes())]));
    let data = xz(&tar(&[("boot/vmlinuz-7", b"image")]));
    let gnu = ar(&[("debian-binary/", b"2.0\n"), ("control.tar.zst/", &control), ("data.tar.xz/", &data)]);
    assert_eq!(extracted(&gnu).unwrap().0, b"image");
}

#[test]
fn a_header_that_promises_too_much_is_refused() {
    let mut package = rpm("x86_64", &[("boot/vmlinuz-7", b"image")]);
    package[96 + 12..96 + 16].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(refused(&package).contains("4294967295 bytes"));
}

/// The name in a member's header is as long as the header says: 4 GiB of zeros are a few hundred kilobytes of zstd.
#[test]
fn a_member_with_an_endless_name_is_refused() {
    let header = format!("070701{}{:08x}{:08x}", "00000000".repeat(11), 0xffff_ff00_u32, 0);
    let payload = zstd::encode_all(header.as_bytes().chain(std::io::repeat(b'x').take(1 << 20)), 3).unwrap();
    let mut package = LEAD.to_vec();
    package.resize(96, 0);
    package.extend(rpm_header(&[]));
    package.resize(package.len().next_multiple_of(8), 0);
    package.extend(rpm_header(&[]));
    package.extend(payload);
    assert!(refused(&package).contains("larger than the limit"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_damage_makes_it_panic(which in 0usize..3, at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let members = [("boot/vmlinuz-7", &b"image"[..]), ("boot/config-7", &b"CONFIG_PVH=y\n"[..])];
        let mut package = match which {
            0 => deb(CONTROL, &members),
            1 => rpm("x86_64", &members),
            _ => pkg("x86_64", &members),
        };
        let at = at.index(package.len() - 16) + 16;
        package[at] = byte;
        if Format::of(&package).is_some() {
            let _ = extracted(&package);
        }
    }
}
