//! `--tasks` and its like: the kernel's memory at one checkpoint, as `ktstr_replay::view` shows it.
//!
//! The options are made from the table of views in `ktstr-replay/src/view/mod.rs`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Args, Command, FromArgMatches, value_parser};
use ktstr_replay::run::{Checkpoints, OpenCheckpoint, Run};
use ktstr_replay::view::{VIEWS, View};
use serde_json::{Value, json};

use crate::cli::out;

/// Which views, and of when.
#[derive(Debug)]
pub(super) struct ViewArgs {
    /// In the order of the table.
    wanted: Vec<View>,
    /// Whether source lines are asked for, and where they are.
    debuginfo: Option<Option<PathBuf>>,
    at: Option<String>,
}

impl Args for ViewArgs {
    fn augment_args(command: Command) -> Command {
        let mut args = Vec::new();
        for view in VIEWS {
            let arg = Arg::new(view.name).long(view.name).help(view.help);
            args.push(match view.value {
                None => arg.action(ArgAction::SetTrue),
                Some(value) => arg.value_name(value),
            });
            let flags = view.flags.iter().map(|&(name, help)| {
                Arg::new(name).long(name).help(help).action(ArgAction::SetTrue).requires(view.name)
            });
            args.extend(flags);
        }
        args.push(
            Arg::new("debuginfo")
                .long("debuginfo")
                .value_name("PATH")
                .num_args(0..=1)
                .value_parser(value_parser!(PathBuf))
                .requires(View::Stacks.name())
                .help(
                    "With --stacks: source lines and inlined functions, from the kernel's vmlinux with DWARF, or from the \
                     folder that its debug package was unpacked to; without PATH, from where this system keeps debug \
                     information",
                ),
        );
        args.push(Arg::new("at").long("at").value_name("T|TAG").allow_hyphen_values(true).help(
            "Which checkpoint: a capture's tag, or the last one at or before a time (2.5s, -300ms); default: that of the \
             scheduler's exit, or the last",
        ));
        let group = ArgGroup::new("views").multiple(true).args(args.iter().map(Arg::get_id));
        let args = args.into_iter().map(|arg| arg.help_heading("Views of one checkpoint"));
        command.args(args).group(group)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ViewArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let text = |name: &str| matches.get_one::<String>(name).cloned();
        Ok(Self {
            wanted: View::asked(|name| matches.get_flag(name), text),
            debuginfo: matches
                .contains_id("debuginfo")
                .then(|| matches.get_one::<PathBuf>("debuginfo").cloned()),
            at: text("at"),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl ViewArgs {
    /// Whether a checkpoint is named without a view of it, which would print what is of no checkpoint.
    pub(super) fn only_when(&self) -> bool {
        self.at.is_some() && self.wanted.is_empty()
    }

    /// Whether there is no view to print.
    pub(super) fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Print the views.
    ///
    /// # Errors
    /// A trace without such a checkpoint, or whose kernel cannot be read; a view that cannot be made.
    pub(super) fn print(&self, trace: &Path, run: &Run<'_>, as_json: bool) -> anyhow::Result<ExitCode> {
        let mut checkpoints = Checkpoints::of(run)?;
        if let Some(given) = &self.debuginfo {
            checkpoints = checkpoints.with_debuginfo(given.as_deref())?;
        }
        let checkpoint = checkpoints.at(self.at.as_deref())?;
        let mut shown = Vec::new();
        for view in &self.wanted {
            shown.push((view.name(), view.show(&checkpoint)?));
        }
        if as_json {
            let views: serde_json::Map<String, Value> =
                shown.into_iter().map(|(name, shown)| (name.to_owned(), shown.json)).collect();
            out::write_json(
                &json!({ "trace": trace, "checkpoint": checkpoint_json(&checkpoint), "views": views }),
            )?;
        } else {
            let mut text = format!("{}\n", checkpoint.title());
            for (name, shown) in shown {
                text.push_str(&format!("\n{name}\n"));
                for line in shown.lines {
                    text.push_str(format!("  {line}").trim_end());
                    text.push('\n');
                }
            }
            out::write(&text)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn checkpoint_json(checkpoint: &OpenCheckpoint<'_>) -> Value {
    json!({
        "index": checkpoint.info().index,
        "tag": checkpoint.tag(),
        "guest_ns": checkpoint.info().guest_ns,
        "since_start_ns": checkpoint.since_start_ns(),
        "kernel": checkpoint.kernel().profile().release(),
    })
}
