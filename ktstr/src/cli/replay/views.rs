//! `--tasks` and its like: the kernel's memory at one checkpoint, as `ktstr_replay::view` shows it. And `--stats` and its like, which
//! need no memory.
//!
//! The options are made from the tables of views in `ktstr-replay/src/view/mod.rs`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Args, Command, FromArgMatches, value_parser};
use ktstr_replay::run::{Checkpoints, OpenCheckpoint, Run};
use ktstr_replay::text::time_ns;
use ktstr_replay::units::Cpu;
use ktstr_replay::view::{Asked, EventFilter, RUN_VIEWS, RunView, Shown, VIEWS, View};
use serde_json::{Value, json};

use crate::cli::out;

/// Which views, and of when.
#[derive(Debug)]
pub(super) struct ViewArgs {
    /// In the order of the table.
    wanted: Vec<View>,
    /// Whether source lines are asked for, and where they are.
    debuginfo: Option<Option<PathBuf>>,
    /// Those that need no memory.
    of_run: Vec<RunView>,
    /// Which part of the history.
    events: EventFilter,
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
        let of_run =
            |view: &RunView| Arg::new(view.name).long(view.name).help(view.help).action(ArgAction::SetTrue);
        let mut of_run: Vec<Arg> = RUN_VIEWS.iter().map(of_run).collect();
        let of_events =
            |name: &'static str| Arg::new(name).long(name).requires("events").allow_hyphen_values(true);
        of_run.push(
            of_events("task")
                .value_name("PID")
                .value_parser(value_parser!(u32))
                .help("With --events: those that switch to or from this task, wake or move it"),
        );
        of_run.push(
            of_events("cpu")
                .value_name("N")
                .value_parser(value_parser!(u32))
                .help("With --events: those of this CPU"),
        );
        of_run.push(
            of_events("from")
                .value_name("T")
                .value_parser(since_start)
                .help("With --events: those from this time on, since the body began (2.5s, -300ms)"),
        );
        of_run.push(
            of_events("to")
                .value_name("T")
                .value_parser(since_start)
                .help("With --events: those up to this time"),
        );
        let group = ArgGroup::new("views").multiple(true).args(args.iter().chain(&of_run).map(Arg::get_id));
        let args = args.into_iter().map(|arg| arg.help_heading("Views of one checkpoint"));
        let of_run = of_run.into_iter().map(|arg| arg.help_heading("Views of the whole run"));
        command.args(args).args(of_run).group(group)
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
            of_run: RUN_VIEWS.iter().filter(|view| matches.get_flag(view.name)).copied().collect(),
            events: EventFilter {
                task: matches.get_one::<u32>("task").copied(),
                cpu: matches.get_one::<u32>("cpu").copied().map(Cpu),
                from: matches.get_one::<i64>("from").copied(),
                to: matches.get_one::<i64>("to").copied(),
            },
            at: text("at"),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl ViewArgs {
    /// Whether a checkpoint is named without a view of it, or of one capture, which would print what is of neither.
    pub(super) fn only_when(&self) -> bool {
        self.at.is_some() && self.wanted.is_empty() && !self.of_run.iter().any(|view| view.of_captures)
    }

    /// Whether there is no view to print.
    pub(super) fn is_empty(&self) -> bool {
        self.wanted.is_empty() && self.of_run.is_empty()
    }

    /// Print the views.
    ///
    /// # Errors
    /// The trace has no such checkpoint, or its kernel cannot be read; the view cannot be made; the trace lacks what the view shows.
    pub(super) fn print(&self, trace: &Path, run: &Run<'_>, as_json: bool) -> anyhow::Result<ExitCode> {
        let mut json = json!({ "trace": out::path(trace) });
        let (mut text, mut shown) = (String::new(), Vec::new());
        if !self.wanted.is_empty() {
            let mut checkpoints = Checkpoints::of(run)?;
            if let Some(given) = &self.debuginfo {
                checkpoints = checkpoints.with_debuginfo(given.as_deref())?;
            }
            let checkpoint = checkpoints.at(self.at.as_deref())?;
            for view in &self.wanted {
                shown.push((view.name(), view.show(&checkpoint)?));
            }
            json["checkpoint"] = checkpoint_json(&checkpoint);
            text.push_str(&format!("{}\n\n", checkpoint.title()));
        }
        let asked = Asked { at: self.at.as_deref(), events: self.events };
        for view in &self.of_run {
            shown.push((view.name, view.show(run, &asked)?));
        }
        if as_json {
            let views = shown.into_iter().map(|(name, shown)| (name.to_owned(), shown.json));
            json["views"] = views.collect::<serde_json::Map<String, Value>>().into();
            out::write_json(&json)?;
        } else {
            let shown: Vec<_> = shown.iter().map(|(name, shown)| titled(name, shown)).collect();
            out::write(&(text + &shown.join("\n")))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A time since the body began, in ns.
fn since_start(text: &str) -> Result<i64, String> {
    time_ns(text).ok_or_else(|| "it is no time, as 2.5s or -300ms are".to_owned())
}

/// The lines of a view, with its name above them.
fn titled(name: &str, shown: &Shown) -> String {
    let line = |line: &String| format!("{}\n", format!("  {line}").trim_end());
    format!("{name}\n{}", shown.lines.iter().map(line).collect::<String>())
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
