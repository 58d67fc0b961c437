//! A real dump in every form that people paste it in tells the same, and so does the trace that it is of.

use proptest::prelude::*;

use super::{Pasted, PastedEnd, read_pasted};
use crate::run::Run;
use crate::trace::Trace;
use crate::units::Cpu;
use crate::why::explain_pasted;

/// The kernel's dump of a stall in a guest.
const STALL: &str = include_str!("dumps/stall.txt");

fn told(text: &str) -> Vec<String> {
    let pasted = read_pasted(text);
    let ends = pasted.ends.iter();
    ends.flat_map(|end| explain_pasted(end).sentences).map(|sentence| sentence.text).collect()
}

/// The one end of a text.
fn one(text: &str) -> PastedEnd {
    let Pasted { mut ends, .. } = read_pasted(text);
    assert_eq!(ends.len(), 1, "{ends:#?}\nin:\n{text}");
    ends.remove(0)
}

fn each_line(text: &str, change: impl FnMut(&str) -> String) -> String {
    text.lines().map(change).collect::<Vec<_>>().join("\n") + "\n"
}

/// Lines of more than `width` characters, wrapped as mail is: between words, what follows without indentation.
fn wrapped(text: &str, width: usize) -> String {
    each_line(text, |line| {
        let (mut out, mut rest) = (String::new(), line);
        while rest.len() > width {
            let margin = rest.len() - rest.trim_start().len();
            let Some(cut) = rest[..width].rfind(' ').filter(|cut| *cut > margin) else { break };
            out.push_str(&rest[..cut]);
            out.push('\n');
            rest = &rest[cut + 1..];
        }
        out + rest
    })
}

#[test]
fn the_dump_of_the_golden_stall_tells_what_its_trace_tells() {
    let trace =
        Trace::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../traces/stall.trace.zst").as_ref()).unwrap();
    let run = Run::load(&trace);
    let exit = run.scheduler_exit().unwrap();
    let dump = exit.dump.as_deref().unwrap();
    let end = one(dump);
    assert_eq!(end.scheduler.as_deref(), Some(run.scheduler_name()));
    let theirs = end.exit.as_ref().unwrap();
    assert_eq!(
        (theirs.kind, &theirs.kind_name, &theirs.reason, &theirs.message),
        (exit.kind, &exit.kind_name, &exit.reason, &exit.message)
    );
    let verdict = run.recorded_verdict().unwrap();
    let of_trace: Vec<String> =
        crate::why::explain(&run, &verdict).unwrap().sentences.into_iter().map(|one| one.text).collect();
    let of_dump = told(dump);
    // Word for word, where the evidence is the same.
    for begin in [
        "demo ended: SCX_EXIT_ERROR_STALL (1026): runnable task stall: watchdog",
        "by the kernel's dump, runnable and waiting: kworker/0:0[9] for 1.056s in queue 0x0",
        "kworker/0:0[9] may run on CPU 0 only",
        "the watchdog may not have checked in because kworker/u8:0[12] waited",
    ] {
        let of = |all: &[String]| all.iter().find(|text| text.starts_with(begin)).cloned();
        assert_eq!(of(&of_dump), of(&of_trace), "{begin}: {of_dump:#?}");
        assert!(of(&of_dump).is_some(), "{begin}: {of_dump:#?}");
    }
    // The same task, CPU and queue; how long, and among how many, is of another time.
    let stalled = "kworker/0:0[9] had been runnable for 1.056s, one of 11 tasks of the dump in queue 0x0 (user), on the runqueue of \
                   CPU 0";
    assert!(of_dump.iter().any(|text| text == stalled), "{of_dump:#?}");
    let why = explain_pasted(&end);
    assert_eq!(
        why.verdict,
        format!("not judged: the dump of demo (root), lines 1 to {}", dump.lines().count())
    );
    assert!(why.not_told.iter().any(|text| text.contains("cargo ktstr test")), "{why:?}");
}

#[test]
fn every_form_in_which_a_dump_is_pasted_tells_the_same() {
    let expected = told(STALL);
    assert_eq!(expected.len(), 7, "{expected:#?}");
    let journal = |line: &str| format!("Nov 26 12:00:00 host scx_demo[123]: {line}");
    let reversed = |text: &str| text.lines().rev().collect::<Vec<_>>().join("\n");
    let without_blank_lines = each_line(STALL, |line| line.trim_end().to_owned()).replace("\n\n", "\n");
    let mut millis = 12_345_000;
    let forms = [
        ("as it is", STALL.to_owned()),
        ("CRLF", STALL.replace('\n', "\r\n")),
        ("journalctl", each_line(STALL, journal)),
        ("journalctl -r", reversed(&each_line(STALL, journal))),
        ("journalctl without blank lines", each_line(&without_blank_lines, journal)),
        ("-o short-iso", each_line(STALL, |line| format!("2026-11-26T12:00:00+0100 h scx[1]: {line}"))),
        (
            "-o short-monotonic",
            each_line(STALL, |line| {
                millis += 1;
                format!("[{:5}.{:06}] h scx[1]: {line}", millis / 1000, millis % 1000 * 1000)
            }),
        ),
        ("dmesg", each_line(STALL, |line| format!("[   12.345678] {line}"))),
        (
            "a trace pipe",
            each_line(STALL, |line| {
                format!("          <idle>-0       [000] d.h1.    12.345678: sched_ext_dump: {line}")
            }),
        ),
        ("a quoted mail", each_line(STALL, |line| format!("> > {line}"))),
        ("Markdown", format!("It stalled:\n\n```\n{STALL}```\nThanks\n")),
        ("a list item", each_line(STALL, |line| format!("    {line}"))),
        ("tabs", STALL.replace("        ", "\t")),
        ("HTML", format!("<pre><code>{}</code></pre>\n", STALL.replace('&', "&amp;").replace('<', "&lt;"))),
        ("without indentation", each_line(STALL, |line| line.trim_start().to_owned())),
        ("wrapped", wrapped(&each_line(STALL, |line| format!("> {line}")), 72).replace("\n", "\n> ")),
        ("wrapped narrowly", wrapped(STALL, 50)),
        (
            "what scx_utils prints",
            format!(
                "\nDEBUG DUMP\n{0}\n\n{STALL}\n{0}\n\nError: EXIT: runnable task stall (watchdog failed to check in for 2.004s) on CPU \
                 0\n",
                "=".repeat(80)
            ),
        ),
        (
            "with the kernel's log before it",
            format!(
                "Nov 26 12:00:00 h kernel: sched_ext: BPF scheduler \"demo\" disabled (runnable task stall)\nNov 26 12:00:00 h kernel: \
                 sched_ext: demo: watchdog failed to check in for 2.004s\n{}",
                each_line(STALL, journal)
            ),
        ),
    ];
    for (form, text) in forms {
        assert_eq!(told(&text), expected, "{form}:\n{text}");
        assert_eq!(read_pasted(&text).reversed, form == "journalctl -r", "{form}");
    }
}

#[test]
fn what_is_cut_off_is_said() {
    // Without its head, as a terminal that scrolled has it: from the middle of CPU 0's tasks on.
    let middle = STALL.find("  R rcu_preempt[16]").unwrap();
    let end = one(&STALL[middle..]);
    assert!(end.headless && end.exit.is_none(), "{end:#?}");
    let sentences = explain_pasted(&end).sentences;
    assert!(sentences[0].text.contains("how the scheduler ended is not said"), "{sentences:#?}");
    let first = &end.dump.as_ref().unwrap().tasks[0];
    assert_eq!((first.pid, first.cpu), (16, None), "a task of a CPU whose line is not there");
    // The line that the scheduler prints behind it says how it ended.
    let with_exit =
        format!("{}EXIT: runnable task stall (watchdog failed to check in for 2.004s)\n", &STALL[middle..]);
    let end = one(&with_exit);
    assert_eq!(end.exit.as_ref().map(|exit| exit.kind), Some(1026));
    // Without its tail: the kernel counts more than there are.
    let tail = STALL.find("  R ksoftirqd/1").unwrap();
    let end = one(&STALL[..tail]);
    let short: Vec<_> = end.short.iter().map(|short| (short.cpu, short.listed, short.runnable)).collect();
    assert_eq!(short, [(Cpu(1), 1, 4)]);
    let text = told(&STALL[..tail]).join("\n");
    assert!(
        text.contains("does not have all runnable tasks that the kernel counts: 1 of 4 of CPU 1"),
        "{text}"
    );
    // As the kernel cuts it.
    let cut = format!("{}\n\n~~~~ TRUNCATED ~~~~\n", &STALL[..tail]);
    let text = told(&cut).join("\n");
    assert!(
        text.contains("the kernel's dump was cut for want of room") && !text.contains("by memory"),
        "{text}"
    );
    assert!(one(&cut).dump.unwrap().cut);
    // The task that the exit names may be in what was cut.
    let named = cut.replace("watchdog failed to check in for 2.004s", "victim[777] failed to run for 2.004s");
    let text = told(&named).join("\n");
    assert!(text.contains("victim[777], which the exit names, is not in the dump, which was cut"), "{text}");
    assert!(!text.contains("had been runnable"), "no other task is taken for it: {text}");
}

#[test]
fn several_ends_are_told_apart() {
    let second = STALL.replace("demo: root", "other: sub1-4711 /a").replace("1052ms", "1053ms");
    let log =
        "sched_ext: BPF scheduler \"third\" disabled (scx_bpf_error)\nsched_ext: third: no room for pid 7\n";
    let sysrq =
        STALL.replace("swapper/0[0] triggered exit kind 1026 on CPU 0:", "Debug dump triggered by SysRq-D");
    let pasted = read_pasted(&format!("{STALL}\nnoise\n{second}{log}{sysrq}"));
    let names: Vec<_> = pasted.ends.iter().map(|end| end.scheduler.as_deref()).collect();
    assert_eq!(names, [Some("demo"), Some("other"), Some("third"), Some("demo")]);
    assert_eq!(pasted.ends[1].place.as_deref(), Some("sub1-4711 /a"));
    assert_eq!(pasted.ends[2].exit.as_ref().map(|exit| exit.kind), Some(1025));
    assert!(pasted.ends[2].dump.is_none() && pasted.ends[3].exit.is_none());
    let third = explain_pasted(&pasted.ends[2]);
    assert_eq!(
        third.sentences[0].text,
        "third ended: SCX_EXIT_ERROR_BPF (1025): scx_bpf_error: no room for pid 7"
    );
    assert!(third.not_told[0].starts_with("who waited"), "{third:?}");
    let asked = explain_pasted(&pasted.ends[3]);
    assert!(asked.sentences[0].text.contains("asked for by SysRq-D"), "{asked:?}");
}

/// As kernels up to 6.15 print it: without the scheduler of a task. The victim may run on CPU 1, where a real-time task runs.
const OLDER: &str = "\
kworker/u16:4[173] triggered exit kind 1026:
  runnable task stall (yes [x][1632] failed to run for 5.314s)

Backtrace:
  scx_watchdog_workfn+0x143/0x1d0

CPU states
----------

CPU 1   : nr_run=1 flags=0x1 cpu_rel=0 ops_qseq=435 pnt_seq=440
          curr=rt-hog[104] class=rt_sched_class

  R yes [x][1632] -5314ms
      scx_state/flags=3/0x9 dsq_flags=0x0 ops_state/qseq=2/94
      sticky/holding_cpu=-1/-1 dsq_id=(n/a)
      dsq_vtime=7 slice=20000000 weight=100
      cpus=2

    do_syscall_64+0x5d/0x170
";

#[test]
fn the_dump_of_an_older_kernel_is_understood() {
    for text in [OLDER.to_owned(), OLDER.lines().rev().collect::<Vec<_>>().join("\n")] {
        let told = told(&text).join("\n");
        for part in [
            "the scheduler ended: SCX_EXIT_ERROR_STALL (1026): runnable task stall: yes [x][1632] failed to run for 5.314s",
            "yes [x][1632] had been runnable for 5.314s, in no queue, held by the BPF scheduler, which was given it and has not \
             dispatched it, on the runqueue of CPU 1",
            "yes [x][1632] may run on CPU 1 only",
            "CPU 1 ran rt-hog[104] (rt) with 1 tasks of sched_ext on its runqueue",
            "the scheduler may not be the cause: yes [x][1632] may run on CPU 1 only, where rt-hog[104] (rt) ran",
            "CPU 0 was idle with nothing runnable, or there was none of that number",
        ] {
            assert!(told.contains(part), "{part}\nin:\n{told}");
        }
    }
}

#[test]
fn texts_without_a_dump_have_no_end() {
    for text in [
        "",
        "error: no such file\nCPU 0 is hot\nA thing[12] -3ms\n",
        "sched_ext: BPF scheduler \"demo\" enabled\n",
        "sched_ext: demo: watchdog timeout 2000ms <= rescue overload threshold 4096ms\n",
    ] {
        assert_eq!(read_pasted(text).ends, [], "{text}");
    }
}

proptest! {
    /// Lines that are dropped, doubled, cut, moved or filled with other bytes: it is read to its end, and no task is invented.
    #[test]
    fn any_mutation_of_a_dump_is_read(
        edits in proptest::collection::vec((0usize..220, 0u8..6, 0usize..90, "\\PC{0,12}"), 0..40)
    ) {
        let mut lines: Vec<String> = STALL.lines().map(str::to_owned).collect();
        for (at, what, column, text) in edits {
            if lines.is_empty() { break }
            let at = at % lines.len();
            let column = lines[at].char_indices().nth(column).map_or(lines[at].len(), |(index, _)| index);
            match what {
                0 => { lines.remove(at); }
                1 => { let line = lines[at].clone(); lines.insert(at, line); }
                2 => lines[at].truncate(column),
                3 => lines[at].insert_str(column, &text),
                4 => { let other = at / 2; lines.swap(at, other); }
                _ => lines.truncate(at),
            }
        }
        let pasted = read_pasted(&lines.join("\n"));
        for end in &pasted.ends {
            let why = explain_pasted(end);
            prop_assert!(!why.verdict.is_empty() && !why.not_told.is_empty());
            prop_assert!(why.render().starts_with("not judged: "));
            prop_assert!(end.dump.as_ref().is_none_or(|dump| dump.tasks.len() <= 60));
        }
    }

    #[test]
    fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        for end in read_pasted(&String::from_utf8_lossy(&bytes)).ends {
            prop_assert!(!explain_pasted(&end).render().is_empty());
        }
    }
}
