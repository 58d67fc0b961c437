//! `ktstr kernel`: the kernels that tests can boot.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use ktstr_record::provision::{Clean, KernelCheck, KernelListing, KernelSpec, Need, Provisioner};
use ktstr_record::spec::Kernel;
use ktstr_replay::text::{Align, layout};

use super::commands::CommandArgs;
use super::out;

/// List, check, fetch, build and remove kernels
#[derive(Debug, Args)]
pub struct KernelArgs {
    #[command(subcommand)]
    command: KernelCommand,
}

#[derive(Debug, Subcommand)]
enum KernelCommand {
    /// List the kernels of the cache and of the archive, newest first
    List {
        /// Print JSON: an array of objects with release, cached, package, has_sched_ext, expects_sched_ext, source, check
        #[arg(long)]
        json: bool,
        /// List those of the cache alone, without asking the archive
        #[arg(long)]
        cached: bool,
    },
    /// Say what is known of a kernel without booting it: sched_ext, BTF, configuration. Exit code 1: schedulers or tests
    /// will fail on it
    Check {
        /// What `cargo ktstr test --kernel` takes, a range aside
        kernel: String,
        /// The kernel's configuration (default: that of the archive's package, beside the kernel's file or inside it)
        #[arg(long, value_name = "FILE")]
        kernel_config: Option<PathBuf>,
        /// Print JSON: an object with release, has_sched_ext, hidden_arguments, config, options, faults
        #[arg(long)]
        json: bool,
    },
    /// Build the kernel of a source tree, unless the cache has a build of the same source
    Build {
        /// The source tree
        tree: PathBuf,
        /// Print JSON: an object with release, vmlinux, bzimage, id, has_sched_ext, faults
        #[arg(long)]
        json: bool,
    },
    /// Fetch a kernel into the cache as the archive has it now
    Fetch {
        /// A version (`7.3.4`), its prefix (`7.3`, `7`), a whole release, `latest`, or the path of a
        /// bzImage, a vmlinux, a kernel package or a source tree that was built
        #[arg(default_value = "latest")]
        spec: String,
        /// Print JSON: an object with release, vmlinux, bzimage, id, has_sched_ext, faults
        #[arg(long)]
        json: bool,
    },
    /// Remove all kernels from the cache, and the objects of builds
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
            KernelCommand::Check { kernel, kernel_config, json } => {
                let spec = KernelSpec::parse(&kernel)?;
                let kernel = provisioner.kernel(&spec)?;
                let config = provisioner.kernel_config(&spec, &kernel, kernel_config.as_deref())?;
                let check = provisioner.check_kernel(&kernel, config.as_ref())?;
                let faults = check.faults();
                if json {
                    let mut value = serde_json::to_value(&check)?;
                    value["faults"] = faults.iter().map(String::as_str).collect();
                    out::write_json(&value)?;
                } else {
                    out::write(&checked(&check, &faults))?;
                }
                return Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
            }
            KernelCommand::Build { tree, json } => {
                let kernel = provisioner.build_kernel(&tree)?;
                told(&kernel, &provisioner.check_kernel(&kernel, None)?, json)?;
            }
            KernelCommand::Fetch { spec, json } => {
                let kernel = provisioner.fetch_kernel(&KernelSpec::parse(&spec)?)?;
                told(&kernel, &provisioner.check_kernel(&kernel, None)?, json)?;
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

/// Tell of a kernel, and what keeps schedulers from running on it: later their authors would look for it in their sources.
fn told(kernel: &Kernel, check: &KernelCheck, json: bool) -> anyhow::Result<()> {
    let faults = check.faults();
    if json { out::write_json(&to_json(kernel, &faults)) } else { out::write(&text(kernel, &faults)) }
}

/// One line a kernel, in the order given: release, where it is, sched_ext, BTF, configuration, and where it came from if it is
/// the user's own.
fn table(kernels: &[KernelListing]) -> String {
    let head = ["release", "", "sched_ext", "BTF", "configuration", ""].map(str::to_owned).to_vec();
    let rows: Vec<Vec<String>> =
        std::iter::once(head).chain(kernels.iter().map(|kernel| cells(kernel).to_vec())).collect();
    layout(&[Align::Left; 6], &rows).iter().map(|line| format!("{line}\n")).collect()
}

fn cells(kernel: &KernelListing) -> [String; 6] {
    let place = if kernel.cached { "cached" } else { "archive" };
    let sched_ext = match (kernel.has_sched_ext, kernel.expects_sched_ext) {
        (Some(true), _) => "yes",
        (Some(false), _) => "no",
        (None, Some(true)) => "likely",
        (None, Some(false)) => "unlikely",
        (None, None) => "",
    };
    let check = kernel.check.as_ref();
    let btf = check.map(|check| match check.hidden_arguments.len() {
        0 => "sound".to_owned(),
        kfuncs => format!("{kfuncs} kfuncs wrong"),
    });
    let config = check.map(|check| match (&check.config, check.lacks().count()) {
        (None, _) => "not found".to_owned(),
        (Some(_), 0) => "complete".to_owned(),
        (Some(_), lacks) => format!("lacks {lacks}"),
    });
    let source = kernel.source.clone().unwrap_or_default();
    [
        kernel.release.clone(),
        place.to_owned(),
        sched_ext.to_owned(),
        btf.unwrap_or_default(),
        config.unwrap_or_default(),
        source,
    ]
}

/// What is known of a kernel: a line for each thing, and one for each fault.
fn checked(check: &KernelCheck, faults: &[String]) -> String {
    let mut lines = vec![
        format!("release        {}", check.release),
        format!("sched_ext      {}", if check.has_sched_ext { "yes" } else { "no" }),
        match check.hidden_arguments.as_slice() {
            [] => "BTF            sound".to_owned(),
            names => format!("BTF            hidden arguments shown: {}", names.join(", ")),
        },
        match &check.config {
            None => "configuration  not found; --kernel-config FILE gives one".to_owned(),
            Some(origin) => {
                let met = check.options.iter().filter(|option| option.is_met()).count();
                format!("configuration  {met} of {} options that tests use, {origin}", check.options.len())
            }
        },
    ];
    let features = check.lacks().filter(|option| option.need == Need::Feature);
    lines.extend(features.map(|option| format!("  without {}: {}", option.option, option.what)));
    lines.extend(faults.iter().map(|fault| format!("FAULT          {fault}")));
    if faults.is_empty() {
        lines.push("tests and schedulers can run on it".to_owned());
    }
    lines.join("\n") + "\n"
}

/// A line for each thing that there is to say of a kernel, and for each fault.
fn text(kernel: &Kernel, faults: &[String]) -> String {
    let mut lines =
        vec![format!("release    {}", kernel.release), format!("vmlinux    {}", kernel.vmlinux.display())];
    lines.extend(kernel.bzimage.as_ref().map(|bzimage| format!("bzImage    {}", bzimage.display())));
    lines.push(format!("id         {}", kernel.id));
    lines.push(format!("sched_ext  {}", if kernel.has_sched_ext { "yes" } else { "no" }));
    lines.extend(faults.iter().map(|fault| format!("FAULT      {fault}")));
    lines.join("\n") + "\n"
}

fn to_json(kernel: &Kernel, faults: &[String]) -> serde_json::Value {
    let Kernel { asked, release, vmlinux, bzimage, id, has_sched_ext } = kernel;
    serde_json::json!({
        "asked": asked,
        "release": release,
        "vmlinux": vmlinux,
        "bzimage": bzimage,
        "id": id,
        "has_sched_ext": has_sched_ext,
        "faults": faults,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::parsed;

    fn listing(release: &str, cached: bool, check: Option<KernelCheck>) -> KernelListing {
        let has_sched_ext = check.as_ref().map(|check| check.has_sched_ext);
        KernelListing {
            release: release.to_owned(),
            cached,
            package: None,
            has_sched_ext,
            expects_sched_ext: (!cached).then_some(true),
            source: None,
            check,
        }
    }

    fn check(release: &str, has_sched_ext: bool, hidden: &[&str], config: Option<&str>) -> KernelCheck {
        KernelCheck {
            release: release.to_owned(),
            has_sched_ext,
            hidden_arguments: hidden.iter().map(|&name| name.to_owned()).collect(),
            config: config.map(str::to_owned),
            options: Vec::new(),
        }
    }

    #[test]
    fn without_a_version_the_latest_is_fetched() {
        let parsed = |words: &[&str]| parsed::<KernelArgs>(words);
        let fetch = parsed(&["fetch"]).unwrap();
        assert!(matches!(fetch.command, KernelCommand::Fetch { spec, json: false } if spec == "latest"));
        assert!(parsed(&[]).is_err());
        assert!(parsed(&["check"]).is_err());
    }

    #[test]
    fn the_table_has_a_line_for_each_kernel_without_blanks_at_its_end() {
        let kernels = [
            listing("6.12.94+deb13-amd64", true, Some(check("6.12.94+deb13-amd64", false, &[], None))),
            listing(
                "7.1.13-amd64",
                true,
                Some(check("7.1.13-amd64", true, &["scx_bpf_create_dsq"], Some("p"))),
            ),
            KernelListing { source: Some("/my/bzImage".to_owned()), ..listing("7.3.4-my", true, None) },
            listing("7.3.5-amd64", false, None),
        ];
        assert_eq!(
            table(&kernels),
            "release                       sched_ext  BTF             configuration\n\
             6.12.94+deb13-amd64  cached   no         sound           not found\n\
             7.1.13-amd64         cached   yes        1 kfuncs wrong  complete\n\
             7.3.4-my             cached                                             /my/bzImage\n\
             7.3.5-amd64          archive  likely\n"
        );
    }

    /// The first that its user heard of it was an error in the scheduler's source.
    #[test]
    fn who_fetches_a_kernel_is_told_of_the_faults_of_its_btf() {
        let kernel = Kernel {
            asked: "7.1".to_owned(),
            release: "7.1.13".to_owned(),
            vmlinux: "/v".into(),
            bzimage: None,
            id: "x".to_owned(),
            has_sched_ext: true,
        };
        let faults = check("7.1.13", true, &["scx_bpf_create_dsq"], None).faults();
        let said = text(&kernel, &faults);
        assert!(said.ends_with("ktstr kernel list` shows which are sound\n"), "{said}");
        assert!(said.contains("\nFAULT      its BTF shows a hidden argument"), "{said}");
        assert_eq!(to_json(&kernel, &faults)["faults"][0].as_str(), Some(faults[0].as_str()));
        assert!(text(&kernel, &[]).ends_with("sched_ext  yes\n"));
    }

    #[test]
    fn a_check_ends_with_its_faults_or_says_that_there_are_none() {
        let sound = check("7.3.4", true, &[], None);
        assert!(checked(&sound, &sound.faults()).ends_with("tests and schedulers can run on it\n"));
        let bad = check("7.1.13", true, &["scx_bpf_create_dsq"], None);
        let text = checked(&bad, &bad.faults());
        assert!(text.lines().last().unwrap().starts_with("FAULT          its BTF shows"), "{text}");
        assert!(text.contains("BTF            hidden arguments shown: scx_bpf_create_dsq"), "{text}");
    }
}
