//! A statistics server that does everything wrong, in a guest: the body is the server, beside a scheduler that serves none. What
//! schedulers of the registry serve is in `registry.rs`.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use ktstr::prelude::*;
use ktstr_replay::run::Run;
use ktstr_replay::series::{Column, Samples};
use ktstr_replay::trace::record::{EventBody, Sample, StatsAnswer};
use ktstr_replay::units::GuestNs;
use ktstr_replay::verdict::{Finding, Origin};
use ktstr_replay::view::show_stats;

declare_scheduler!(DEMO, { name = "demo", source = "scx_demo", topology = (1, 1, 2, 1) });

const SOCKET: &str = "/var/run/scx/root/stats";
/// Longer than init waits for a server to listen.
const UNSERVED: Duration = Duration::from_millis(2500);
/// An answer may come up to 2 s after its capture, by init's clock; the host's estimate of the capture's time can be off a little.
const LATE_NS: i64 = 1_800_000_000;
/// What was answered so soon was answered in time, unless init is late, too.
const SOON: Duration = Duration::from_secs(1);
/// Init does not ask later than that.
const OVER: Duration = Duration::from_secs(4);
/// How often an answer is tried: a host that is busy may take longer than init waits.
const TRIES: usize = 5;
/// Members of the long answer.
const MEMBERS: usize = 5000;

/// What is answered after the captures of that name.
const ANSWERS: [(&str, Answer); 7] = [
    ("good", good),
    ("long", long),
    ("endless", endless),
    ("garbage", garbage),
    ("evil", evil),
    ("closing", closing),
    ("silent", silent),
];

/// Answers on a connection.
type Answer = fn(&mut UnixStream) -> Then;

/// What becomes of the connection.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    GoesOn,
    Ends,
    /// It ends without a word. Init takes one that had answered before for that of a scheduler that began anew, and asks again.
    EndsUnanswered,
}

/// Which of them is to come; before that, none.
static NOW: AtomicUsize = AtomicUsize::new(usize::MAX);
/// How many captures were answered.
static ANSWERED: AtomicUsize = AtomicUsize::new(0);

fn wrote(written: io::Result<()>) -> Then {
    if written.is_ok() { Then::GoesOn } else { Then::Ends }
}

fn say(stream: &mut UnixStream, resp: &str) -> Then {
    wrote(writeln!(stream, "{{\"errno\":0,\"args\":{{\"resp\":{resp}}}}}"))
}

fn good(stream: &mut UnixStream) -> Then {
    say(stream, r#"{"nr":7,"nodes":{"0":{"load":[0.5,1.5]}}}"#)
}

fn long(stream: &mut UnixStream) -> Then {
    let members: Vec<_> = (0..MEMBERS).map(|i| format!("\"a_long_name_{i:04}\":{i}")).collect();
    say(stream, &format!("{{\"nr\":8,{}}}", members.join(",")))
}

/// Until init has closed the connection.
fn endless(stream: &mut UnixStream) -> Then {
    let piece = [b'['; 4096];
    while stream.write_all(&piece).is_ok() {}
    Then::Ends
}

fn garbage(stream: &mut UnixStream) -> Then {
    wrote(stream.write_all(b"\xff\xfe{\x1b[2J\n"))
}

fn evil(stream: &mut UnixStream) -> Then {
    say(stream, r#"{"nr":9,"\u001b[31m":"\u001b]0;title\u0007"}"#)
}

fn closing(_: &mut UnixStream) -> Then {
    Then::EndsUnanswered
}

fn silent(_: &mut UnixStream) -> Then {
    Then::GoesOn
}

/// One connection after the other; the scheduler that is tested does nothing of it.
fn serve(listener: UnixListener) {
    for mut stream in listener.incoming().flatten() {
        let Ok(reading) = stream.try_clone() else { return };
        let mut is_used = false;
        for question in BufReader::new(reading).lines() {
            let asks = question.is_ok_and(|question| question.contains(r#""target":"top""#));
            let Some((_, answer)) = ANSWERS.get(NOW.load(Ordering::SeqCst)).filter(|_| asks) else { break };
            let then = answer(&mut stream);
            let is_asked_again = then == Then::EndsUnanswered && is_used;
            ANSWERED.fetch_add(usize::from(!is_asked_again), Ordering::SeqCst);
            if then != Then::GoesOn {
                break;
            }
            is_used = true;
        }
    }
}

#[ktstr_test(scheduler = DEMO, duration_s = 8, checkpoint = "never", check = each_is_told,
             claims = ["eventually(stats(top).nodes[0].load[1] == 1.5)", "eventually(stats(top).a_long_name_4999 == 4999)"])]
fn answers(ctx: &Ctx) -> Result<AssertResult> {
    sleep(UNSERVED);
    ctx.capture_snapshot("unserved")?;
    sleep(UNSERVED);
    fs::create_dir_all(Path::new(SOCKET).parent().context("a folder")?)?;
    let listener = UnixListener::bind(SOCKET)?;
    spawn(|| serve(listener));
    for (now, (tag, _)) in ANSWERS.iter().enumerate() {
        NOW.store(now, Ordering::SeqCst);
        for attempt in 0..TRIES {
            let (before, begin) = (ANSWERED.load(Ordering::SeqCst), Instant::now());
            let is_answered = || ANSWERED.load(Ordering::SeqCst) > before;
            ctx.capture_snapshot(&format!("{tag}_{attempt}"))?;
            while !is_answered() && begin.elapsed() < OVER {
                sleep(Duration::from_millis(5));
            }
            if is_answered() && begin.elapsed() < SOON {
                break;
            }
        }
    }
    // The last one is silent, which is known only then.
    sleep(UNSERVED);
    Ok(AssertResult::pass())
}

/// What is in the trace of the question after a capture.
struct Told<'t> {
    sample: &'t Sample,
    /// The events about it, with their times.
    events: Vec<(GuestNs, &'t StatsAnswer)>,
    /// The value of `nr`, or why there is none.
    found: String,
}

impl Told<'_> {
    /// Whether it was answered, or asked, so late that init did not wait for it.
    fn is_late(&self) -> bool {
        let after = |at: GuestNs| at.since(self.sample.guest_ns) >= LATE_NS;
        matches!(&self.events[..], [(at, answer)] if after(*at) && (after(answer.asked_ns) || answer.fault.is_some()))
    }
}

fn told<'t>(sample: &'t Sample, nr: &Column, answers: &[(GuestNs, &'t StatsAnswer)]) -> Result<Told<'t>> {
    let Sample { index, tag, .. } = sample;
    let point = nr.points.iter().find(|point| point.sample == *index).with_context(|| format!("no {tag}"))?;
    let found = point.value.as_ref().map_or_else(ToString::to_string, ToString::to_string);
    let events = answers.iter().filter(|(_, answer)| answer.sample == *index).copied().collect();
    Ok(Told { sample, events, found })
}

fn each_is_told(trace: &Trace, v: &mut Verdict) -> Result<()> {
    let events = trace.events();
    let answers: Vec<(GuestNs, &StatsAnswer)> = events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::Stats(answer) => Some((event.guest_ns, &**answer)),
            _ => None,
        })
        .collect();
    let captures = trace.captures();
    let nr = captures.stats("top.nr");
    let samples = Samples::load(trace);
    let tagged = |name: &str| {
        let is_it = |sample: &&Sample| match sample.tag.strip_prefix(name) {
            Some(rest) => {
                rest.is_empty() || rest.strip_prefix('_').is_some_and(|n| n.parse::<usize>().is_ok())
            }
            None => false,
        };
        samples.iter().filter(is_it).map(|sample| told(sample, &nr, &answers)).collect::<Result<Vec<_>>>()
    };
    // Where nobody serves nothing is said; and where somebody begins to while a host that is busy keeps init from giving up, why nothing came.
    for name in ["attach", "unserved"] {
        let all = tagged(name)?;
        let [told] = &all[..] else { bail!("{} captures {name}", all.len()) };
        match &told.events[..] {
            [] => ensure!(told.found.contains("was not asked for its statistics"), "{name}: {}", told.found),
            [(_, answer)] if name == "unserved" && answer.fault.is_some() => {}
            // Nothing can be said of the answers that follow: they are those of other captures.
            [_] if name == "unserved" && told.is_late() => return late(v, name),
            events => bail!("{name}: {} events, {}", events.len(), told.found),
        }
    }
    let expected: [(&str, &[&str]); 8] = [
        ("good", &["7"]),
        ("long", &["8"]),
        ("endless", &["the answer is longer than 131072 bytes"]),
        ("garbage", &["is not what scx_stats answers"]),
        ("evil", &["9"]),
        ("closing", &["closed the connection before it had answered"]),
        // The body, which is the server, may end before init gives up.
        (
            "silent",
            &["no answer came within 2s of the capture", "closed the connection before it had answered"],
        ),
        ("end", &["Connection refused"]),
    ];
    for (name, parts) in expected {
        let all = tagged(name)?;
        ensure!(!all.is_empty(), "no capture {name}");
        let is_it = |found: &str, part: &str| found == part || (part.len() > 1 && found.contains(part));
        let is_right =
            |told: &Told<'_>| told.events.len() == 1 && parts.iter().any(|part| is_it(&told.found, part));
        if let Some(wrong) = all.iter().find(|told| !is_right(told) && !told.is_late()) {
            bail!("{}: {} events, {}", wrong.sample.tag, wrong.events.len(), wrong.found);
        }
        if !all.iter().any(is_right) {
            late(v, name)?;
        }
    }
    let long = answers.iter().map(|(_, answer)| answer.line.len()).max().unwrap_or(0);
    if tagged("long")?.iter().any(|told| told.found == "8") {
        v.check("bytes of the longest answer", long).between(100_000, 131_072);
    }
    let shown = show_stats(&Run::load(trace), None)?.lines.concat();
    ensure!(!shown.contains(char::is_control), "a control character reaches the terminal");
    Ok(())
}

/// No answer after the captures `name` came in time, which is not what is tested.
fn late(v: &mut Verdict, name: &str) -> Result<()> {
    let found = "every answer came later than 2 s after its capture: the host is too busy";
    v.add(Finding::new(Origin::Check(name.to_owned()), name, Outcome::Inconclusive, found));
    Ok(())
}
