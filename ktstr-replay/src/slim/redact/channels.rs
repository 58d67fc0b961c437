//! The ways by which a text of a host, a user or an argument gets into a trace.

/// Such a way, and what redaction makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Which texts.
    pub what: &'static str,
    /// Where they are in a trace.
    pub place: &'static str,
    /// What of them is left after redaction; `None`: nothing.
    pub may_still_hold: Option<&'static str>,
}

const fn removed(what: &'static str, place: &'static str) -> Channel {
    Channel { what, place, may_still_hold: None }
}

const fn kept(what: &'static str, place: &'static str, may_still_hold: &'static str) -> Channel {
    Channel { what, place, may_still_hold: Some(may_still_hold) }
}

/// All of them.
pub const CHANNELS: &[Channel] = &[
    removed("arguments of the kernel, the scheduler and payloads", "manifest, payload events"),
    removed("how kernel and machine were asked for, and from where on the host", "manifest"),
    removed("serial console, kernel log, output of programs", "console, kmsg and output events"),
    removed(
        "what the recorder and init say of a stage, a fault and the end",
        "stage, op, body and end events, losses",
    ),
    removed("output of payloads and text in scheduler statistics", "payload and stats events"),
    removed("why a watch waits or ends, and lines of source at its stores", "watch events"),
    removed("what is called like no event of sched_ext, where one of its events is named", "history events"),
    removed("why a probe waits or ends, text that calls were given, lines of source", "probe events"),
    removed(
        "the scheduler's error message and dump, unless the kernel's watchdog wrote the message",
        "samples",
    ),
    removed(
        "text in maps and variables, file names and source lines in the types of programs",
        "samples, blobs",
    ),
    removed("text in registers, and why something could not be read", "samples"),
    removed("texts of the kernel's configuration", "blobs"),
    removed("summaries and evidence, unless the redacted trace itself gives them", "verdict"),
    removed("user memory, page cache, free pages", "checkpoints"),
    removed(
        "kernel log, command lines, file names and all other text of eight bytes and more",
        "kernel memory in checkpoints",
    ),
    removed("whatever only later releases can read", "records of unknown kinds and versions"),
    kept(
        "what the authors of the test and the scheduler called things",
        "manifest, events, samples, claims, verdict",
        "names: test, package, phases, captures, cgroups, scheduler, payloads, metrics and statistics, BPF types, maps and programs",
    ),
    kept(
        "the test's claims and expectations",
        "manifest, claims, verdict",
        "claims, labels of checks and expected errors, as the test has them",
    ),
    kept(
        "names of tasks",
        "samples, events, kernel memory",
        "names of tasks, which are up to 15 characters of their programs' names",
    ),
    kept(
        "short text, numbers and binary data",
        "kernel memory, maps",
        "text shorter than eight bytes that was no argument of four and more; numbers; binary data in pipes, sockets and maps",
    ),
    kept(
        "what the kernel's builder put into it",
        "symbols, types, read-only data",
        "the kernel's release, symbols, types and read-only data, its banner and configuration excepted",
    ),
    kept(
        "times and sizes",
        "manifest, all records",
        "when the run began, how many CPUs the host has, hashes of kernel and scheduler",
    ),
];
