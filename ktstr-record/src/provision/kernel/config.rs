//! A kernel's configuration: in the archive's package, beside a file of the user's, or inside the kernel.
//!
//! libbpf reads it for a scheduler's `__kconfig` variables, and does not load a scheduler that has one without it.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use memchr::memmem;

use super::super::error::{Error, Result};
use super::entry;
use super::spec::release_numbers;
use crate::spec::{Kernel, KernelConfig};

/// The largest configuration that is read. Debian's has 0.3 MB.
const MAX_BYTES: u64 = 16 << 20;
/// Before the configuration that a kernel with `CONFIG_IKCONFIG` carries, compressed (Linux, `kernel/configs.c`).
const IKCONFIG_BEGIN: &[u8] = b"IKCFG_ST";
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
/// Folders of a build tree, below its root, that hold the image.
const IMAGE_FOLDERS: [&str; 2] = ["arch/x86/boot", "arch/x86_64/boot"];

/// The configuration in a file of the user's, plain or as `/proc/config.gz` has it.
pub(in super::super) fn read(path: &Path) -> Result<KernelConfig> {
    let failed = |why: String| Error::KernelConfig { path: path.to_owned(), why };
    let bytes = fs::read(path).map_err(|error| failed(error.to_string()))?;
    let text = if bytes.starts_with(GZIP_MAGIC) {
        decompressed(&bytes).map_err(|error| failed(error.to_string()))?
    } else {
        bytes
    };
    if !is_config(&text) {
        return Err(failed("it has no line `CONFIG_...=`".to_owned()));
    }
    Ok(KernelConfig { text, origin: path.display().to_string() })
}

/// The configuration of the user's kernel at `path`, which was found to be `kernel`.
///
/// A file whose name has the kernel's release comes first, then what the kernel itself carries, then a file that
/// may have been changed since the kernel was built, if its head has the kernel's version.
pub(super) fn of_file(path: &Path, kernel: &Kernel) -> Option<KernelConfig> {
    let folders = folders_of(path);
    let named = format!("config-{}", kernel.release);
    let of_release = folders.iter().find_map(|folder| read(&folder.join(&named)).ok());
    of_release.or_else(|| inside(kernel)).or_else(|| {
        let mut others =
            folders.iter().flat_map(|folder| [".config", "config"].map(|name| folder.join(name)));
        others.find_map(|path| read(&path).ok().filter(|config| fits(&config.text, &kernel.release)))
    })
}

/// The configuration that the cache keeps with `kernel`, where its package or build had one.
pub(super) fn with_kernel(kernel: &Kernel) -> Option<KernelConfig> {
    let path = entry::config_of(kernel)?;
    let KernelConfig { text, .. } = read(&path).ok()?;
    let source = entry::source_of(kernel).unwrap_or_default();
    Some(KernelConfig { text, origin: format!("with the kernel, of {source}") })
}

/// The folders in which the configuration of the kernel at `path` may be: those of the file and of what it links to,
/// and the root of the build tree that it is in.
fn folders_of(path: &Path) -> Vec<PathBuf> {
    let absolute = std::path::absolute(path).ok();
    let real = fs::canonicalize(path).ok();
    let mut folders: Vec<PathBuf> = Vec::new();
    for folder in [absolute, real].iter().flatten().filter_map(|file| file.parent()) {
        folders.push(folder.to_owned());
        if IMAGE_FOLDERS.iter().any(|images| folder.ends_with(images)) {
            folders.extend(folder.ancestors().nth(3).map(Path::to_owned));
        }
    }
    folders
}

/// The configuration that the kernel carries.
fn inside(kernel: &Kernel) -> Option<KernelConfig> {
    let text = ikconfig(&fs::read(&kernel.vmlinux).ok()?)?;
    Some(KernelConfig { text, origin: "the kernel's image (CONFIG_IKCONFIG)".to_owned() })
}

fn ikconfig(image: &[u8]) -> Option<Vec<u8>> {
    memmem::find_iter(image, IKCONFIG_BEGIN)
        .map(|at| &image[at + IKCONFIG_BEGIN.len()..])
        .filter(|rest| rest.starts_with(GZIP_MAGIC))
        .find_map(|rest| decompressed(rest).ok().filter(|text| is_config(text)))
}

fn decompressed(gzip: &[u8]) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    GzDecoder::new(gzip).take(MAX_BYTES).read_to_end(&mut text)?;
    Ok(text)
}

fn is_config(text: &[u8]) -> bool {
    text.split(|&byte| byte == b'\n').any(|line| line.starts_with(b"CONFIG_") && line.contains(&b'='))
}

/// Whether a configuration's head, `# Linux/x86 7.3.4 Kernel Configuration`, has the version of `release`.
fn fits(text: &[u8], release: &str) -> bool {
    let head = String::from_utf8_lossy(&text[..text.len().min(256)]).into_owned();
    let version = head.lines().find_map(|line| line.strip_prefix("# Linux/")?.split(' ').nth(1));
    let numbers = version.and_then(release_numbers);
    numbers.is_some() && numbers == release_numbers(release)
}

/// Where Debian's packages have put the configuration of `release`, today and before.
pub(super) fn in_package(root: &Path, release: &str) -> Option<PathBuf> {
    let paths = [
        Path::new("usr/lib/modules").join(release).join("config"),
        Path::new("boot").join(format!("config-{release}")),
    ];
    paths.into_iter().map(|path| root.join(path)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    const TEXT: &str =
        "#\n# Automatically generated\n# Linux/x86 7.3.4 Kernel Configuration\n#\nCONFIG_HZ=250\n";
    const RELEASE: &str = "7.3.4-mine";

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    /// A kernel's file at `path`, as it is in the build tree of `folder`.
    fn kernel(folder: &Path, path: &str, content: &[u8]) -> (PathBuf, Kernel) {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        let kernel = Kernel {
            asked: String::new(),
            release: RELEASE.to_owned(),
            vmlinux: path.clone(),
            bzimage: None,
            id: String::new(),
            has_sched_ext: true,
        };
        (path, kernel)
    }

    #[test]
    fn a_file_is_read_plain_and_compressed() {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in [("config", TEXT.as_bytes().to_vec()), ("config.gz", gzip(TEXT))] {
            let path = dir.path().join(name);
            fs::write(&path, bytes).unwrap();
            let config = read(&path).unwrap();
            assert_eq!(
                (config.text.as_slice(), config.origin),
                (TEXT.as_bytes(), path.display().to_string())
            );
        }
    }

    #[test]
    fn a_file_that_is_no_configuration_is_refused_with_what_it_lacks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bzImage");
        fs::write(&path, "HdrS").unwrap();
        let text = read(&path).unwrap_err().to_string();
        assert!(text.contains("bzImage") && text.contains("CONFIG_"), "{text}");
        fs::write(&path, &gzip(TEXT)[..20]).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("bzImage"));
        assert!(read(&dir.path().join("none")).unwrap_err().to_string().contains("none"));
    }

    #[test]
    fn the_configuration_of_a_build_tree_is_that_of_its_root() {
        let dir = tempfile::tempdir().unwrap();
        let (path, kernel) = kernel(dir.path(), "arch/x86/boot/bzImage", b"");
        assert_eq!(of_file(&path, &kernel), None);
        fs::write(dir.path().join(".config"), TEXT).unwrap();
        assert_eq!(of_file(&path, &kernel).unwrap().text, TEXT.as_bytes());
        // A link to it from elsewhere.
        let elsewhere = tempfile::tempdir().unwrap();
        let link = elsewhere.path().join("bzImage");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(of_file(&link, &kernel).unwrap().text, TEXT.as_bytes());
    }

    #[test]
    fn a_configuration_of_another_version_is_not_the_kernels() {
        let dir = tempfile::tempdir().unwrap();
        let (path, kernel) = kernel(dir.path(), "vmlinux", b"");
        fs::write(dir.path().join(".config"), TEXT.replace("7.3.4", "7.3.5")).unwrap();
        assert_eq!(of_file(&path, &kernel), None);
        fs::write(dir.path().join(".config"), "CONFIG_HZ=250\n").unwrap();
        assert_eq!(of_file(&path, &kernel), None);
    }

    #[test]
    fn what_names_the_release_comes_before_the_image_and_that_before_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let image =
            [b"code IKCFG_ST is only named here", IKCONFIG_BEGIN, &gzip("CONFIG_HZ=100\n"), b"IKCFG_ED"];
        let (path, kernel) = kernel(dir.path(), "vmlinux", &image.concat());
        fs::write(dir.path().join("config"), TEXT).unwrap();
        assert_eq!(of_file(&path, &kernel).unwrap().text, b"CONFIG_HZ=100\n");
        fs::write(dir.path().join(format!("config-{RELEASE}")), "CONFIG_HZ=1000\n").unwrap();
        assert_eq!(of_file(&path, &kernel).unwrap().text, b"CONFIG_HZ=1000\n");
    }

    #[test]
    fn a_damaged_configuration_inside_is_none() {
        let whole = gzip("CONFIG_HZ=100\n");
        let image = |gzip: &[u8]| [IKCONFIG_BEGIN, gzip].concat();
        assert!(ikconfig(&image(&whole)).is_some());
        assert_eq!(ikconfig(&image(&whole[..whole.len() / 2])), None);
        assert_eq!(ikconfig(IKCONFIG_BEGIN), None);
    }

    #[test]
    fn both_layouts_of_packages_are_known() {
        for path in [format!("usr/lib/modules/{RELEASE}/config"), format!("boot/config-{RELEASE}")] {
            let dir = tempfile::tempdir().unwrap();
            assert_eq!(in_package(dir.path(), RELEASE), None);
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, TEXT).unwrap();
            assert_eq!(in_package(dir.path(), RELEASE), Some(path));
        }
    }
}
