//! Servers of the tests' own, on real sockets.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{JoinHandle, sleep, spawn};

use rustix::net::{bind, listen};

use super::*;

/// No test takes that long, however busy the host is.
const PATIENT: Duration = Duration::from_secs(60);

/// A folder for a socket, removed at the end.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("guest-init-stats-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("stats")
    }

    fn asker(&self, limit: Duration) -> Stats {
        Stats::of_socket(&self.socket(), limit)
    }

    /// A server of one thread; `serve` has what it does with each connection, by its number.
    fn serve(&self, connections: usize, serve: fn(usize, UnixStream)) -> JoinHandle<()> {
        let listener = UnixListener::bind(self.socket()).expect("a listener");
        spawn(move || {
            for number in 0..connections {
                let (stream, _) = listener.accept().expect("a connection");
                serve(number, stream);
            }
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

/// The next request on a connection; `None` when it is closed.
fn request(stream: &UnixStream) -> Option<String> {
    let mut line = String::new();
    let read = BufReader::new(stream).read_line(&mut line).expect("readable");
    (read > 0).then_some(line)
}

/// Answer each request with its number on this connection.
fn count(number: usize, mut stream: UnixStream) {
    for answer in 0.. {
        let Some(line) = request(&stream) else { return };
        assert_eq!(line.as_bytes(), REQUEST);
        writeln!(stream, "{{\"connection\":{number},\"answer\":{answer}}}").expect("written");
    }
}

/// What there is to say of the questions that are asked, without the time.
fn ask(stats: &mut Stats, samples: impl IntoIterator<Item = u32>) -> Vec<(u32, Result<String, String>)> {
    let mut said: Vec<ToHost> = samples.into_iter().filter_map(|sample| stats.captured(sample)).collect();
    let begin = Instant::now();
    loop {
        said.extend(stats.turn());
        if !stats.is_asking() {
            break;
        }
        assert!(begin.elapsed() < 2 * PATIENT, "it goes on asking");
        sleep(Duration::from_millis(1));
    }
    said.into_iter().map(outcome).collect()
}

fn outcome(said: ToHost) -> (u32, Result<String, String>) {
    let ToHost::Stats { sample, target, asked_ns, line, fault } = said else { panic!("not stats: {said:?}") };
    assert_eq!(target, "top");
    assert!(asked_ns > 0 || fault.is_some());
    let line = String::from_utf8(line).expect("what the test's server wrote");
    (sample, fault.map_or(Ok(line), Err))
}

fn fault(stats: &mut Stats) -> String {
    match ask(stats, [7]).as_slice() {
        [(7, Err(why))] => why.clone(),
        other => panic!("not a fault: {other:?}"),
    }
}

#[test]
fn each_capture_has_its_answer_over_one_connection() {
    let place = Place::new();
    let server = place.serve(1, count);
    let mut stats = place.asker(PATIENT);
    let answer = |number| Ok(format!("{{\"connection\":0,\"answer\":{number}}}"));
    assert_eq!(ask(&mut stats, [3]), [(3, answer(0))]);
    assert_eq!(ask(&mut stats, [4, 5, 8]), [(4, answer(1)), (5, answer(2)), (8, answer(3))]);
    drop(stats);
    server.join().expect("the server saw no fault");
}

#[test]
fn where_nothing_listens_and_nothing_did_nothing_is_said() {
    let place = Place::new();
    let mut stats = place.asker(PATIENT);
    assert_eq!(ask(&mut stats, 0..50), []);
    assert!(stats.fd().is_none() && !stats.is_asking());
    assert_eq!(stats.give_up("the run ended"), []);
    assert_eq!(ask(&mut stats, 0..50), []);
    stats.limit = Duration::ZERO;
    assert_eq!(stats.turn(), []);
    assert!(stats.waiting.is_empty());
}

#[test]
fn a_scheduler_that_listens_only_after_its_first_capture_is_asked_for_that() {
    let place = Place::new();
    let mut stats = place.asker(PATIENT);
    assert_eq!(ask(&mut stats, [1, 2]), []);
    let server = place.serve(1, count);
    let answer = |number| Ok(format!("{{\"connection\":0,\"answer\":{number}}}"));
    assert_eq!(ask(&mut stats, [3]), [(1, answer(0)), (2, answer(1)), (3, answer(2))]);
    drop(stats);
    server.join().expect("the server saw no fault");
}

#[test]
fn a_scheduler_that_is_gone_is_said_and_another_one_is_another_matter() {
    let place = Place::new();
    let server = place.serve(1, |_, mut stream| {
        request(&stream).expect("a request");
        stream.write_all(b"{}\n").expect("written");
    });
    let mut stats = place.asker(PATIENT);
    assert_eq!(ask(&mut stats, [1]), [(1, Ok("{}".to_owned()))]);
    server.join().expect("the server saw no fault");
    let why = fault(&mut stats);
    assert!(why.contains("/stats: Connection refused"), "{why}");
    // What it left behind.
    assert!(place.socket().exists());
    stats.begin_anew();
    assert_eq!(ask(&mut stats, [2]), []);
}

#[test]
fn a_server_that_began_anew_is_connected_to_anew() {
    let place = Place::new();
    // As scx_stats does when its server is dropped: the connection is closed at the next request, without an answer.
    let server = place.serve(2, |number, mut stream| {
        request(&stream).expect("a request");
        writeln!(stream, "{number}").expect("written");
        if number == 0 {
            request(&stream).expect("another request");
        }
    });
    let mut stats = place.asker(PATIENT);
    assert_eq!(ask(&mut stats, [1]), [(1, Ok("0".to_owned()))]);
    assert_eq!(ask(&mut stats, [2]), [(2, Ok("1".to_owned()))]);
    server.join().expect("the server saw no fault");
}

#[test]
fn what_is_late_is_said_and_never_taken_for_the_next_answer() {
    let place = Place::new();
    // It keeps what it was asked first until it is asked on another connection.
    let listener = UnixListener::bind(place.socket()).expect("a listener");
    let server = spawn(move || {
        let (mut first, _) = listener.accept().expect("a connection");
        request(&first).expect("a request");
        let (mut second, _) = listener.accept().expect("a connection");
        let _closed = first.write_all(b"late\n");
        request(&second).expect("a request");
        second.write_all(b"in time\n").expect("written");
    });
    let mut stats = place.asker(PATIENT);
    assert_eq!(stats.captured(7), None);
    assert_eq!(stats.turn(), []);
    stats.limit = Duration::ZERO;
    let late: Vec<_> = stats.turn().into_iter().map(outcome).collect();
    assert_eq!(late, [(7, Err("no answer came within 0ns of the capture".to_owned()))]);
    stats.limit = PATIENT;
    assert_eq!(ask(&mut stats, [9]), [(9, Ok("in time".to_owned()))]);
    server.join().expect("the server saw no fault");
}

#[test]
fn no_more_than_so_many_captures_wait() {
    let place = Place::new();
    let _silent = UnixListener::bind(place.socket()).expect("a listener");
    let mut stats = place.asker(Duration::from_millis(20));
    let said = ask(&mut stats, 0..40);
    assert_eq!(said.len(), 40);
    assert_eq!(
        said.iter()
            .filter(|(_, why)| *why == Err("it was not asked for: 16 answers are awaited".into()))
            .count(),
        24
    );
    let mut stats = place.asker(PATIENT);
    assert_eq!(stats.captured(1), None);
    let given_up: Vec<_> = stats.give_up("the run ended").into_iter().map(outcome).collect();
    assert_eq!(given_up, [(1, Err("the run ended".to_owned()))]);
    assert!(!stats.is_asking());
}

#[test]
fn a_server_that_closes_in_the_middle_is_said() {
    let place = Place::new();
    let server = place.serve(2, |number, mut stream| {
        request(&stream).expect("a request");
        if number == 1 {
            stream.write_all(b"{\"errno\":0,").expect("written");
        }
    });
    let mut stats = place.asker(PATIENT);
    assert_eq!(fault(&mut stats), "the scheduler closed the connection before it had answered");
    assert_eq!(
        fault(&mut stats),
        "the scheduler closed the connection before it had answered: 11 bytes of an answer came"
    );
    server.join().expect("the server saw no fault");
}

#[test]
fn an_answer_without_end_costs_no_memory_without_end() {
    let place = Place::new();
    let server = place.serve(1, |_, mut stream| {
        request(&stream).expect("a request");
        let piece = [b'9'; 4096];
        // Until init has closed the connection.
        for _ in 0..(10 << 20) / piece.len() {
            if stream.write_all(&piece).is_err() {
                return;
            }
        }
        panic!("ten MiB were taken");
    });
    let mut stats = place.asker(PATIENT);
    assert_eq!(fault(&mut stats), "the answer is longer than 131072 bytes");
    server.join().expect("the server saw no fault");
}

#[test]
fn two_answers_to_one_question_are_no_answer() {
    let place = Place::new();
    let server = place.serve(2, |number, mut stream| {
        request(&stream).expect("a request");
        stream.write_all(if number == 0 { b"1\n2\n" } else { b"3\n" }).expect("written");
    });
    let mut stats = place.asker(PATIENT);
    assert_eq!(fault(&mut stats), "more came than the one line that was asked for");
    assert_eq!(ask(&mut stats, [1]), [(1, Ok("3".to_owned()))]);
    server.join().expect("the server saw no fault");
}

#[test]
fn a_socket_that_nobody_accepts_from_does_not_hold_init_up() {
    let place = Place::new();
    fs::write(place.socket(), "not a socket").expect("written");
    // It may still become one.
    let mut stats = place.asker(PATIENT);
    assert_eq!((stats.captured(7), stats.turn()), (None, Vec::new()));
    stats.limit = Duration::ZERO;
    let said: Vec<_> = stats.turn().into_iter().map(outcome).collect();
    assert!(
        matches!(said.as_slice(), [(7, Err(why))] if why.contains("/stats: Connection refused")),
        "{said:?}"
    );
    fs::remove_file(place.socket()).expect("removed");
    // A blocking connect would wait for room in the backlog.
    let listener =
        socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).expect("a socket");
    bind(&listener, &SocketAddrUnix::new(place.socket()).expect("an address")).expect("bound");
    listen(&listener, 1).expect("listening");
    let mut open = Vec::new();
    let why = (0..10).find_map(|_| Connection::open(&place.socket()).map(|one| open.push(one)).err());
    let why = why.unwrap_or_else(|| panic!("{} connections wait", open.len()));
    assert!(why.contains("/stats: Resource temporarily unavailable"), "{why}");
}
