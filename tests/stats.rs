//! A statistics server that does everything wrong, in a guest: the body is the server, beside a scheduler that serves none. What
//! schedulers of the registry serve is in `registry.rs`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use ktstr::prelude::*;
use ktstr_replay::run::Run;
use ktstr_replay::trace::record::{EventBody, StatsAnswer};
use ktstr_replay::view::show_stats;

declare_scheduler!(DEMO, { name = "demo", source = "scx_demo", topology = (1, 1, 2, 1) });

const SOCKET: &str = "/var/run/scx/root/stats";
/// Longer than init waits for a server to listen.
const UNSERVED: Duration = Duration::from_millis(2500);
/// No question takes that long.
const PATIENT: Duration = Duration::from_secs(60);
/// Members of the long answer.
const MEMBERS: usize = 5000;

/// What is answered after the capture of that name.
const ANSWERS: [(&str, Answer); 7] = [
    ("good", good),
    ("long", long),
    ("endless", endless),
    ("garbage", garbage),
    ("evil", evil),
    ("closing", closing),
    ("silent", silent),
];

/// Answers on a connection; whether that goes on.
type Answer = fn(&mut UnixStream) -> bool;

/// Which of them is to come.
static NOW: AtomicUsize = AtomicUsize::new(0);
/// How many questions came.
static ASKED: AtomicUsize = AtomicUsize::new(0);

fn say(stream: &mut UnixStream, resp: &str) -> bool {
    writeln!(stream, "{{\"errno\":0,\"args\":{{\"resp\":{resp}}}}}").is_ok()
}

fn good(stream: &mut UnixStream) -> bool {
    say(stream, r#"{"nr":7,"nodes":{"0":{"load":[0.5,1.5]}}}"#)
}

fn long(stream: &mut UnixStream) -> bool {
    let members: Vec<_> = (0..MEMBERS).map(|i| format!("\"a_long_name_{i:04}\":{i}")).collect();
    say(stream, &format!("{{\"nr\":8,{}}}", members.join(",")))
}

/// Until init has closed the connection.
fn endless(stream: &mut UnixStream) -> bool {
    let piece = [b'['; 4096];
    while stream.write_all(&piece).is_ok() {}
    false
}

fn garbage(stream: &mut UnixStream) -> bool {
    stream.write_all(b"\xff\xfe{\x1b[2J\n").is_ok()
}

fn evil(stream: &mut UnixStream) -> bool {
    say(stream, r#"{"nr":9,"\u001b[31m":"\u001b]0;title\u0007"}"#)
}

fn closing(_: &mut UnixStream) -> bool {
    false
}

fn silent(_: &mut UnixStream) -> bool {
    true
}

/// One connection after the other; the scheduler that is tested does nothing of it.
fn serve(listener: UnixListener) {
    for mut stream in listener.incoming().flatten() {
        let Ok(reading) = stream.try_clone() else { return };
        for question in BufReader::new(reading).lines() {
            let asks = question.is_ok_and(|question| question.contains(r#""target":"top""#));
            let (_, answer) = ANSWERS[NOW.load(Ordering::SeqCst)];
            ASKED.fetch_add(usize::from(asks), Ordering::SeqCst);
            if !asks || !answer(&mut stream) {
                break;
            }
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
        let (asked, begin) = (ASKED.load(Ordering::SeqCst), Instant::now());
        ctx.capture_snapshot(tag)?;
        while ASKED.load(Ordering::SeqCst) == asked {
            ensure!(begin.elapsed() < PATIENT, "nobody asked after the capture {tag}");
            sleep(Duration::from_millis(5));
        }
    }
    // The last one is silent, which is known only then.
    sleep(UNSERVED);
    Ok(AssertResult::pass())
}

fn each_is_told(trace: &Trace, v: &mut Verdict) -> Result<()> {
    let answers: Vec<StatsAnswer> = trace
        .events()
        .into_iter()
        .filter_map(|event| match event.body {
            EventBody::Stats(answer) => Some(*answer),
            _ => None,
        })
        .collect();
    let captures = trace.captures();
    let nr = captures.stats("top.nr");
    let why = |tag: &str| -> Result<(usize, String)> {
        let point = nr.points.iter().find(|point| point.tag == tag).with_context(|| format!("no {tag}"))?;
        let told = answers.iter().filter(|answer| answer.sample == point.sample).count();
        let found = point.value.as_ref().map_or_else(ToString::to_string, ToString::to_string);
        Ok((told, found))
    };
    // Where nobody serves nothing is said.
    for tag in ["attach", "unserved"] {
        let (told, found) = why(tag)?;
        ensure!(told == 0 && found.contains("was not asked for its statistics"), "{tag}: {told}, {found}");
    }
    let expected = [
        ("good", "7"),
        ("long", "8"),
        ("endless", "the answer is longer than 131072 bytes"),
        ("garbage", "is not what scx_stats answers"),
        ("evil", "9"),
        ("closing", "closed the connection before it had answered"),
        ("silent", "no answer came within 2s of the capture"),
        // The server was the body, which has ended.
        ("end", "Connection refused"),
    ];
    for (tag, part) in expected {
        let (told, found) = why(tag)?;
        ensure!(told == 1 && found.contains(part), "{tag}: {told} events, {found}");
    }
    let long = answers.iter().map(|answer| answer.line.len()).max().unwrap_or(0);
    v.check("bytes of the longest answer", long).between(100_000, 131_072);
    let shown = show_stats(&Run::load(trace), None)?.lines.concat();
    ensure!(!shown.contains(char::is_control), "a control character reaches the terminal");
    Ok(())
}
