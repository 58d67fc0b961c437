//! `ktstr kernel`: the kernels that tests can boot.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use ktstr_record::provision::{Clean, KernelListing, KernelSpec, Provisioner};
use ktstr_record::spec::Kernel;

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

impl KernelArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// Where a kernel cannot be had, or the cache not be changed.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let provisioner = Provisioner::open()?;
        match self.command {
            KernelCommand::List { json, cached } => {
                let mut kernels =
                    if cached { provisioner.cached_kernels() } else { provisioner.list_kernels()? };
                if json {
                    println!("{}", serde_json::to_string_pretty(&kernels)?);
                } else {
                    kernels.reverse();
                    print_table(&kernels);
                }
            }
            KernelCommand::Fetch { spec, json } => {
                let kernel = provisioner.fetch_kernel(&KernelSpec::parse(&spec)?)?;
                if json {
                    println!("{}", serde_json::to_string_pretty(&to_json(&kernel))?)
                } else {
                    print(&kernel)
                }
            }
            KernelCommand::Clean => {
                let removed = provisioner.clean(Clean::Kernels)?;
                println!(
                    "{}",
                    if removed.is_empty() { "no kernels in the cache" } else { "kernels removed" }
                );
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// One line a kernel, the newest last: that is where a terminal's reader looks.
fn print_table(kernels: &[KernelListing]) {
    let width = kernels.iter().map(|kernel| kernel.release.len()).max().unwrap_or_default();
    for KernelListing { release, cached, has_sched_ext, .. } in kernels {
        let place = if *cached { "cached " } else { "archive" };
        let sched_ext = match has_sched_ext {
            Some(true) => "sched_ext",
            Some(false) => "no sched_ext",
            None => "",
        };
        println!("{}", format!("{release:width$}  {place}  {sched_ext}").trim_end());
    }
}

fn print(kernel: &Kernel) {
    println!("release    {}", kernel.release);
    println!("vmlinux    {}", kernel.vmlinux.display());
    if let Some(bzimage) = &kernel.bzimage {
        println!("bzImage    {}", bzimage.display());
    }
    println!("id         {}", kernel.id);
    println!("sched_ext  {}", if kernel.has_sched_ext { "yes" } else { "no" });
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
