//! Which packages have to be optimized in a debug build, so that recording keeps up with the machine.

use std::env;
use std::sync::Once;

use ktstr_record::recorder::is_optimized;

use super::environment::SAY;
use super::say::say;

/// The Cargo.toml that `cargo ktstr new` writes, which has them.
const TEMPLATE: &str = include_str!("../../templates/new/Cargo.toml.template");
/// The section that they are in.
const SECTION: &str = "[profile.dev.package]";

/// A package and the level that it is optimized at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Override {
    /// Its name.
    pub package: &'static str,
    /// rustc's `opt-level`.
    pub level: &'static str,
}

/// The packages, as a new scheduler's Cargo.toml has them.
pub fn overrides() -> impl Iterator<Item = Override> {
    section().filter_map(|line| {
        let (package, rest) = line.split_once('=')?;
        let level = rest.split_once("opt-level")?.1.trim_matches(|c: char| !c.is_ascii_digit());
        Some(Override { package: package.trim(), level })
    })
}

fn section() -> impl Iterator<Item = &'static str> {
    let lines = TEMPLATE.lines().skip_while(|line| *line != SECTION).skip(1);
    lines.take_while(|line| !line.trim().is_empty())
}

/// Tell a person, once in this process, that this build is not optimized. `cargo ktstr test` has it optimized unless the workspace
/// says otherwise, which needs no advice; the trace has the taint all the same.
pub fn say_if_not() {
    static ONCE: Once = Once::new();
    if !is_optimized() && env::var_os(SAY).is_none() {
        ONCE.call_once(|| {
            let lines: Vec<&str> = section().collect();
            say(&format!(
                "this build records without optimization, so that every capture stops the guest for many times as long: run \
                 `cargo ktstr test`, or put this into the Cargo.toml of the workspace:\n{SECTION}\n{}",
                lines.join("\n")
            ));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packages_are_those_of_a_new_scheduler() {
        let all: Vec<Override> = overrides().collect();
        assert_eq!(all.len(), section().count(), "{all:?}");
        for package in ["ktstr-record", "ktstr-replay", "zstd-sys"] {
            assert!(all.contains(&Override { package, level: "2" }), "{package} is not in {all:?}");
        }
    }
}
