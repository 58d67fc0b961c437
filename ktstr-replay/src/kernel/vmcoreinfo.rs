//! vmcoreinfo: the page in which a kernel describes itself to crash tools.
//!
//! Source: `kernel/vmcore_info.c` and `arch/x86/kernel/vmcore_info_64.c` of Linux. `KEY=VALUE` lines, on a page of
//! its own that begins with `OSRELEASE=`.

use super::KernelError;
use crate::memory::Memory;
use crate::units::{GuestPhys, KernelVirt};

const PAGE: u64 = 4096;
const BEGINNING: &[u8] = b"OSRELEASE=";
/// Longest vmcoreinfo that a kernel makes (`VMCOREINFO_BYTES`: a page).
const MAX_BYTES: usize = PAGE as usize;
/// Most pages that claim to be one; each is tried.
const MAX_CANDIDATES: usize = 64;

/// The text of a vmcoreinfo page and its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vmcoreinfo {
    text: String,
}

impl Vmcoreinfo {
    /// The pages of guest memory that could be it, ascending by address, and how many pages were looked at.
    pub fn candidates(memory: &dyn Memory) -> (Vec<Self>, u64) {
        let mut found = Vec::new();
        let mut pages = 0;
        for range in memory.populated() {
            let mut at = range.start.next_multiple_of(PAGE);
            while at < range.end && found.len() < MAX_CANDIDATES {
                pages += 1;
                if let Some(info) = Self::on_page(memory, GuestPhys(at)) {
                    found.push(info);
                }
                let Some(next) = at.checked_add(PAGE) else { break };
                at = next;
            }
        }
        (found, pages)
    }

    fn on_page(memory: &dyn Memory, at: GuestPhys) -> Option<Self> {
        let mut beginning = [0u8; BEGINNING.len()];
        memory.read(at, &mut beginning).ok()?;
        if beginning != BEGINNING {
            return None;
        }
        let mut page = vec![0u8; MAX_BYTES];
        memory.read(at, &mut page).ok()?;
        Self::parse(&page).ok()
    }

    /// Take the bytes of a vmcoreinfo page or note, up to the first NUL.
    ///
    /// # Errors
    /// [`KernelError::BadVmcoreinfo`] when they are no text or do not begin with a release.
    pub fn parse(bytes: &[u8]) -> Result<Self, KernelError> {
        let len = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        let bad = |why: &str| KernelError::BadVmcoreinfo(why.to_owned());
        let text =
            std::str::from_utf8(bytes.get(..len).unwrap_or_default()).map_err(|_| bad("it is not text"))?;
        if !text.as_bytes().starts_with(BEGINNING) {
            return Err(bad("it does not begin with OSRELEASE="));
        }
        Ok(Self { text: text.to_owned() })
    }

    /// The whole text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The value of a key: `get("KERNELOFFSET")`, `get("SYMBOL(init_top_pgt)")`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    }

    /// `uname -r`.
    #[must_use]
    pub fn release(&self) -> &str {
        self.get("OSRELEASE").unwrap_or_default()
    }

    /// The address of a symbol that vmcoreinfo names.
    #[must_use]
    pub fn symbol(&self, name: &str) -> Option<KernelVirt> {
        let hex = self.get(&format!("SYMBOL({name})"))?;
        u64::from_str_radix(hex.trim_start_matches("0x"), 16).ok().map(KernelVirt)
    }

    /// A number that vmcoreinfo names; kernels print most in signed decimal.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<i64> {
        let text = self.get(&format!("NUMBER({name})"))?;
        match text.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).ok().map(u64::cast_signed),
            None => text.parse().ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::memory::Ram;

    const TEXT: &str = "OSRELEASE=7.3.4\nSYMBOL(init_top_pgt)=ffffffff82a0c000\nNUMBER(phys_base)=-651165696\n\
                        NUMBER(sme_mask)=0x10\nKERNELOFFSET=2ce00000\n";

    #[test]
    fn values_are_found_by_whole_keys() {
        let info = Vmcoreinfo::parse(TEXT.as_bytes()).unwrap();
        assert_eq!(info.release(), "7.3.4");
        assert_eq!(info.symbol("init_top_pgt"), Some(KernelVirt(0xffff_ffff_82a0_c000)));
        assert_eq!(info.number("phys_base"), Some(-651_165_696));
        assert_eq!(info.number("sme_mask"), Some(16));
        assert_eq!(info.get("KERNELOFFSET"), Some("2ce00000"));
        assert_eq!(info.get("KERNEL"), None);
        assert_eq!(info.symbol("phys_base"), None);
    }

    #[test]
    fn a_scan_finds_it_on_a_page_boundary_only() {
        let mut ram = Ram::new(64 << 10);
        ram.write(5 * PAGE + 8, TEXT.as_bytes());
        assert_eq!(Vmcoreinfo::candidates(&ram).0, []);
        ram.write(9 * PAGE, TEXT.as_bytes());
        let (found, pages) = Vmcoreinfo::candidates(&ram);
        assert_eq!(found.len(), 1);
        assert_eq!(pages, 16);
        assert_eq!(found[0].text(), TEXT);
    }
}
