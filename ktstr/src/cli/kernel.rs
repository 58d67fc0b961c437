//! `ktstr kernel`: the kernels that tests can boot.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use ktstr_record::provision::{Clean, KernelListing, KernelSpec, Provisioner};
use ktstr_record::spec::Kernel;

use super::commands::CommandArgs;
use super::out;

/// List, fetch and remove kernels
#[derive(Debug, Args)]
pub struct KernelArgs {
    #[command(subcommand)]
    command: KernelCommand,
}

#[derive(Debug, Subcommand)]
enum KernelCommand {
    /// List the kernels of the cache and of the archive, newest first
    List {
        /// Print JSON: an array of objects with release, cached, package, has_sched_ext
        #[arg(long)]
        json: bool,
        /// List those of the cache alone, without asking the archive
        #[arg(long)]
        cached: bool,
    },
    /// Fetch a kernel into the cache as the archive has it now
    Fetch {
        /// A version (`7.3.4`), its prefix (`7.3`, `7`), a whole release, `latest`, or the path of a
        /// bzImage or vmlinux to check
        #[arg(default_value = "latest")]
        spec: String,
        /// Print JSON: an object with release, vmlinux, bzimage, id, has_sched_ext
        #[arg(long)]
        json: bool,
    },
    /// Remove all kernels from the cache
    Clean,
}

impl CommandArgs for KernelArgs {
    fn run(self) -> anyhow::Result<ExitCode> {
        let provisioner = Provisioner::open()?;
        match self.command {
            KernelCommand::List { json, cached } => {
                let mut kernels =
                    if cached { provisioner.cached_kernels() } else { provisioner.list_kernels()? };
                if json {
                    out::write_json(&kernels)?;
                } else {
                    // The newest last: that is where the reader of a terminal looks.
                    kernels.reverse();
                    out::write(&table(&kernels))?;
                }
            }
            KernelCommand::Fetch { spec, json } => {
                let kernel = provisioner.fetch_kernel(&KernelSpec::parse(&spec)?)?;
                if json {
                    out::write_json(&to_json(&kernel))?;
                } else {
                    out::write(&text(&kernel))?;
                }
            }
            KernelCommand::Clean => {
                let removed = provisioner.clean(Clean::Kernels)?;
                out::write(if removed.is_empty() {
                    "no kernels in the cache\n"
                } else {
                    "kernels removed\n"
                })?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// One line a kernel, in the order given.
fn table(kernels: &[KernelListing]) -> String {
    let width = kernels.iter().map(|kernel| kernel.release.len()).max().unwrap_or_default();
    let mut table = String::new();
    for KernelListing { release, cached, has_sched_ext, .. } in kernels {
        let place = if *cached { "cached " } else { "archive" };
        let sched_ext = match has_sched_ext {
            Some(true) => "sched_ext",
            Some(false) => "no sched_ext",
            None => "",
        };
        table.push_str(format!("{release:width$}  {place}  {sched_ext}").trim_end());
        table.push('\n');
    }
    table
}

/// A line for each thing that there is to say of a kernel.
fn text(kernel: &Kernel) -> String {
    let mut lines =
        vec![format!("release    {}", kernel.release), format!("vmlinux    {}", kernel.vmlinux.display())];
    lines.extend(kernel.bzimage.as_ref().map(|bzimage| format!("bzImage    {}", bzimage.display())));
    lines.push(format!("id         {}", kernel.id));
    lines.push(format!("sched_ext  {}\n", if kernel.has_sched_ext { "yes" } else { "no" }));
    lines.join("\n")
}

fn to_json(kernel: &Kernel) -> serde_json::Value {
    let Kernel { asked, release, vmlinux, bzimage, id, has_sched_ext } = kernel;
    serde_json::json!({
        "asked": asked,
        "release": release,
        "vmlinux": vmlinux,
        "bzimage": bzimage,
        "id": id,
        "has_sched_ext": has_sched_ext,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        kernel: KernelArgs,
    }

    fn listing(release: &str, cached: bool, has_sched_ext: Option<bool>) -> KernelListing {
        KernelListing { release: release.to_owned(), cached, package: None, has_sched_ext }
    }

    #[test]
    fn without_a_version_the_latest_is_fetched() {
        let cli = Cli::try_parse_from(["kernel", "fetch"]).unwrap();
        assert!(matches!(cli.kernel.command, KernelCommand::Fetch { spec, json: false } if spec == "latest"));
        assert!(Cli::try_parse_from(["kernel"]).is_err());
    }

    #[test]
    fn the_table_has_a_line_for_each_kernel_without_blanks_at_its_end() {
        let kernels = [
            listing("6.12.94+deb13-amd64", true, Some(false)),
            listing("7.3.4-amd64", true, Some(true)),
            listing("7.3.5-amd64", false, None),
        ];
        assert_eq!(
            table(&kernels),
            "6.12.94+deb13-amd64  cached   no sched_ext\n\
             7.3.4-amd64          cached   sched_ext\n\
             7.3.5-amd64          archive\n"
        );
    }
}
