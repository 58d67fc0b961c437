//! `qemu-system-x86_64`: the user's, the host's if it is new enough, else a bundle.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::apt::Purpose;
use super::bundle::{Bundle, Recipe, Suite};
use super::error::{Error, Result};
use super::host::Context;
use crate::spec::Emulator;

const PROGRAM: &str = "qemu-system-x86_64";

const INSTEAD: &str = "set KTSTR_QEMU to a qemu-system-x86_64 of version 8.1 or newer, or put one into PATH";

/// The oldest version that is taken from `PATH`. 7.2 loses a multi-threaded SMP guest in one of
/// about 75 boots: its TCG translates a page without holding its lock while another vCPU patches it.
const OLDEST: (u32, u32) = (8, 1);

/// Modules are looked for here; a module of another build, found elsewhere, ends the emulator.
const MODULES: &str = "usr/lib/x86_64-linux-gnu/qemu";

pub(super) const RECIPE: Recipe<'static> = Recipe {
    purpose: Purpose { name: "trixie", what: "the emulator (QEMU)", instead: INSTEAD },
    suite: Suite::Current,
    name: "emulator",
    packages: &["qemu-system-x86"],
    numbered: &[],
    newest: &[],
    required: &[
        "usr/bin/qemu-system-x86_64",
        "usr/share/seabios/bios-256k.bin",
        "usr/lib64/ld-linux-x86-64.so.2",
    ],
};

/// The emulator to use.
pub(super) fn find(context: &Context, refresh: bool) -> Result<Emulator> {
    if let Some(given) = &context.host.qemu {
        let command = vec![given.clone()];
        let version = version(given, &command, &[]).map_err(|e| match e {
            Error::Spawn { program, source } => Error::GivenEmulator { program, source },
            other => other,
        })?;
        if parse_numbers(&version).is_some_and(|numbers| numbers < OLDEST) {
            let (major, minor) = OLDEST;
            context.progress.note_once(&format!(
                "KTSTR_QEMU is version {version}: before {major}.{minor} guests with several CPUs hang now and then"
            ));
        }
        return Ok(Emulator { command, env: Vec::new(), version, origin: given.display().to_string() });
    }
    if let Some(program) = context.host.find(PROGRAM) {
        let command = vec![program.clone()];
        match version(&program, &command, &[]) {
            Ok(version) if parse_numbers(&version).is_some_and(|numbers| numbers >= OLDEST) => {
                return Ok(Emulator { command, env: Vec::new(), version, origin: "PATH".to_owned() });
            }
            Ok(version) => context.progress.note_once(&format!(
                "{} is version {version}, which loses guests with several CPUs now and then: using a newer one",
                program.display()
            )),
            Err(e) => context.progress.note_once(&format!("{} is not used: {e}", program.display())),
        }
    }
    let bundle =
        RECIPE.get(context, refresh, |bundle| of_bundle(bundle).map(|emulator| Some(emulator.version)))?;
    of_bundle(&bundle)
}

/// Whether the host has none, so that one is taken out of the cache. Which version the host's is, is not asked.
pub(super) fn is_of_cache(context: &Context) -> bool {
    context.host.qemu.is_none() && context.host.find(PROGRAM).is_none()
}

/// The emulator of an unpacked bundle.
fn of_bundle(bundle: &Bundle) -> Result<Emulator> {
    let mut command = bundle.program("usr/bin/qemu-system-x86_64", &[]);
    for folder in ["usr/share/qemu", "usr/share/seabios"] {
        command.extend(["-L".into(), bundle.root.join(folder)]);
    }
    let env = vec![("QEMU_MODULE_DIR".to_owned(), bundle.root.join(MODULES).display().to_string())];
    let version = match &bundle.contents.proved {
        Some(version) => version.clone(),
        None => version(&bundle.root.join("usr/bin").join(PROGRAM), &command, &env)?,
    };
    Ok(Emulator { command, env, version, origin: "bundle".to_owned() })
}

/// Runs `--version`: proves that the program starts, and tells which it is.
fn version(program: &Path, command: &[PathBuf], env: &[(String, String)]) -> Result<String> {
    let (first, rest) = command.split_first().map_or((program, command), |(first, rest)| (first, rest));
    let output = Command::new(first)
        .args(rest)
        .arg("--version")
        .envs(env.iter().map(|(name, value)| (name, value)))
        .output()
        .map_err(|source| Error::Spawn { program: program.to_owned(), source })?;
    let text = String::from_utf8_lossy(if output.status.success() { &output.stdout } else { &output.stderr });
    parse_version(&text).ok_or_else(|| Error::NotQemu {
        program: program.to_owned(),
        output: text.lines().next().unwrap_or_default().to_owned(),
        instead: INSTEAD,
    })
}

/// `10.0.13` out of `QEMU emulator version 10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)`.
fn parse_version(text: &str) -> Option<String> {
    let rest = text.split_once("QEMU emulator version ")?.1;
    let version: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    parse_numbers(&version).map(|_| version)
}

fn parse_numbers(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split('.').map(str::parse::<u32>);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_several_builds_are_understood() {
        let parse = |text: &str| parse_version(text);
        assert_eq!(
            parse("QEMU emulator version 10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)\n").as_deref(),
            Some("10.0.13")
        );
        assert_eq!(parse("QEMU emulator version 8.1.0-rc2\n").as_deref(), Some("8.1.0"));
        assert_eq!(parse("QEMU emulator version x\n"), None);
        assert_eq!(parse("GNU bash, version 5.2\n"), None);
        assert!(parse_numbers("10.0.1") > Some(OLDEST) && parse_numbers("7.2.22") < Some(OLDEST));
    }
}
