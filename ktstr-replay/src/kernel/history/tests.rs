//! Ring buffers that are made in the toy kernel's memory, with every kind of entry, and then wrong.

use proptest::prelude::*;

use super::*;
use crate::kernel::KernelProfile;
use crate::kernel::hostile::writes;
use crate::testing::{Guest, Object, SEEDS, overwrite};

/// Pages of the ring of a CPU.
const PAGES: u64 = 4;
/// Bytes of data of each.
const ROOM: u64 = 1600;
const CLOCK: u64 = crate::testing::DIRECT_MAP + 0x100;

/// A kernel with our trace instance.
struct Traced {
    guest: Guest,
    cpus: Vec<CpuRing>,
}

/// The buffer of a CPU: the ring's pages in order, and that of the reader.
struct CpuRing {
    own: Object,
    pages: Vec<(Object, Object)>,
    entries: u64,
}

/// The first word of an entry.
fn word(kind: u32, delta: u32) -> [u8; 4] {
    (kind | delta << 5).to_le_bytes()
}

/// An entry as the kernel writes it: with data of up to 112 bytes its length is in the first word.
fn short(delta: u32, data: &[u8]) -> Vec<u8> {
    if data.len() > 112 {
        return long(delta, data);
    }
    let mut data = data.to_vec();
    data.resize(data.len().next_multiple_of(4), 0);
    [&word(data.len() as u32 / 4, delta)[..], &data].concat()
}

/// The same in the form for longer ones.
fn long(delta: u32, data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    data.resize(data.len().next_multiple_of(4), 0);
    [&word(0, delta)[..], &(data.len() as u32 + 4).to_le_bytes(), &data].concat()
}

fn padding(delta: u32, bytes: u32) -> Vec<u8> {
    [&word(29, delta)[..], &bytes.to_le_bytes(), &vec![0xaa; bytes as usize - 4]].concat()
}

/// 3 << 27 and 5 ns more.
const EXTENDED: u64 = (3 << 27) + 5;

fn extend() -> Vec<u8> {
    [word(30, 5), 3u32.to_le_bytes()].concat()
}

/// The time itself.
fn stamp(time: u64) -> Vec<u8> {
    [word(31, time as u32 & 0x7ff_ffff), ((time >> 27) as u32).to_le_bytes()].concat()
}

impl Traced {
    fn new(seed: u64) -> Self {
        Self::lacking(seed, &[])
    }

    fn lacking(seed: u64, lacking: &[&str]) -> Self {
        let mut guest = Guest::lacking(seed, lacking);
        guest.cpus(2);
        for (call, id) in [
            ("event_sched_switch", 300u64),
            ("event_sched_wakeup", 301),
            ("event_sched_wakeup_new", 302),
            ("event_sched_migrate_task", 303),
            ("event_sched_ext_event", 304),
        ] {
            let call = guest.variable(call, "trace_event_call");
            guest.set(call, "event.type", id);
        }
        guest.symbol("ktime_get_mono_fast_ns", CLOCK);
        let buffers = guest.array("u64", 2);
        let cpus: Vec<_> = buffers.iter().map(|buffer| ring(&mut guest, *buffer)).collect();
        let buffer = guest.add("trace_buffer");
        guest.set(buffer, "buffers", buffers[0]);
        guest.set(buffer, "clock", CLOCK);
        guest.set(buffer, "subbuf_size", ROOM);
        let head = guest.variable("ftrace_trace_arrays", "list_head");
        let mut nodes = vec![head.at];
        // The one that everybody has, one of somebody else, ours.
        for name in ["", "other", INSTANCE] {
            let array = guest.add("trace_array");
            nodes.push(guest.at(array, "list"));
            if !name.is_empty() {
                guest.point_at_text(array, "name", name);
                guest.set(array, "array_buffer.buffer", buffer);
            }
        }
        guest.ring(&nodes);
        Self { guest, cpus }
    }

    /// Fill page `at` of a CPU: its time, and what is in it, with how many entries that are events.
    fn fill(&mut self, cpu: usize, at: usize, time: u64, bytes: &[Vec<u8>], entries: u64) {
        let (page, data) = self.cpus[cpu].pages[at];
        let bytes = bytes.concat();
        assert!(bytes.len() as u64 <= ROOM);
        self.guest.set(data, "time_stamp", time);
        // Bits above the length are flags.
        self.guest.set(data, "commit", bytes.len() as u64 | 1 << 31);
        let to = self.guest.at(data, "data");
        self.guest.write(to, &bytes);
        let own = &mut self.cpus[cpu];
        own.entries += entries;
        self.guest.set(own.own, "entries", own.entries);
        self.guest.set(own.own, "commit_page", page);
    }

    /// Mark page `at` as the oldest, in the pointer of the one before it.
    fn oldest(&mut self, cpu: usize, at: usize) {
        let pages = &self.cpus[cpu].pages;
        for nth in 0..PAGES as usize {
            let next = (nth + 1) % PAGES as usize;
            let marked = self.guest.at(pages[next].0, "list") | u64::from(next == at);
            let to = self.guest.at(pages[nth].0, "list");
            self.guest.write_u64(to, marked);
        }
    }

    fn profile(&self) -> KernelProfile {
        self.guest.profile()
    }

    fn switch(&self, prev: (u32, &str), next: (u32, &str)) -> Vec<u8> {
        let of = "trace_event_raw_sched_switch";
        let mut data = self.entry(of, 300);
        for (prefix, (pid, comm)) in [("prev", prev), ("next", next)] {
            self.number(&mut data, of, &format!("{prefix}_pid"), pid.into(), 4);
            self.number(&mut data, of, &format!("{prefix}_prio"), 120, 4);
            let at = self.guest.offset(of, &format!("{prefix}_comm")) as usize;
            data[at..at + comm.len()].copy_from_slice(comm.as_bytes());
        }
        self.number(&mut data, of, "prev_state", 256, 8);
        data
    }

    fn migrate(&self, id: u64, pid: u32) -> Vec<u8> {
        let of = if id == 303 {
            "trace_event_raw_sched_migrate_task"
        } else {
            "trace_event_raw_sched_wakeup_template"
        };
        let mut data = self.entry(of, id);
        self.number(&mut data, of, "pid", pid.into(), 4);
        self.number(&mut data, of, "prio", (-1i64).cast_unsigned(), 4);
        let at = self.guest.offset(of, "comm") as usize;
        data[at..at + 1].copy_from_slice(b"w");
        match id {
            303 => {
                self.number(&mut data, of, "orig_cpu", 1, 4);
                self.number(&mut data, of, "dest_cpu", 2, 4);
            }
            _ => self.number(&mut data, of, "target_cpu", 1, 4),
        }
        data
    }

    fn scx_event(&self) -> Vec<u8> {
        let of = "trace_event_raw_sched_ext_event";
        let mut data = self.entry(of, 304);
        let text = b"SCX_EV_X\0";
        let place = data.len() as u64 | (text.len() as u64) << 16;
        self.number(&mut data, of, "__data_loc_name", place, 4);
        self.number(&mut data, of, "delta", (-2i64).cast_unsigned(), 8);
        data.extend_from_slice(text);
        data
    }

    fn entry(&self, of: &str, id: u64) -> Vec<u8> {
        let mut data = vec![0; self.guest.bytes(of) as usize];
        let ent = if of == "trace_entry" { 0 } else { self.guest.offset(of, "ent") };
        for (field, value, bytes) in [("type", id, 2), ("pid", 77, 4)] {
            let at = (ent + self.guest.offset("trace_entry", field)) as usize;
            data[at..at + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
        }
        data
    }

    fn number(&self, data: &mut [u8], of: &str, field: &str, value: u64, bytes: usize) {
        let at = self.guest.offset(of, field) as usize;
        data[at..at + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
    }

    fn read(&self, reader: &mut HistoryReader) -> (Vec<CpuNews>, Gaps) {
        let profile = self.profile();
        let mut taken = reader.take(&KernelView::new(&profile, &self.guest.ram)).expect("a history");
        let mut gaps = std::mem::take(&mut taken.gaps);
        (reader.decode(taken, &mut gaps), gaps)
    }
}

fn ring(guest: &mut Guest, slot: Object) -> CpuRing {
    let pages: Vec<_> =
        (0..=PAGES).map(|_| (guest.add("buffer_page"), guest.add_with("buffer_data_page", ROOM))).collect();
    for (page, data) in &pages {
        guest.set(*page, "page", *data);
    }
    let nodes: Vec<u64> = pages[..PAGES as usize].iter().map(|(page, _)| guest.at(*page, "list")).collect();
    guest.ring(&nodes);
    let own = guest.add("ring_buffer_per_cpu");
    guest.set(own, "nr_pages", PAGES);
    guest.set(own, "pages", nodes[2]);
    guest.set(own, "commit_page", pages[0].0);
    guest.set(own, "reader_page", pages[PAGES as usize].0);
    guest.set(slot, "", own);
    CpuRing { own, pages, entries: 0 }
}

fn task(pid: u32, prio: i64, comm: &str) -> HistoryTask {
    HistoryTask { pid, prio, comm: comm.to_owned() }
}

fn switch(at: u64, prev: (u32, &str), next: (u32, &str)) -> Noted {
    let [prev, next] = [prev, next].map(|(pid, comm)| task(pid, 120, comm));
    Noted { at: GuestNs(at), what: NotedWhat::Switch { prev, state: 256, next } }
}

#[test]
fn every_kind_of_entry_is_read_as_the_kernel_wrote_it() {
    for seed in SEEDS {
        let mut traced = Traced::new(seed);
        traced.oldest(0, 0);
        traced.oldest(1, 0);
        let unknown = traced.entry("trace_entry", 999);
        let all = [
            short(10, &traced.switch((1, "a"), (0, "swapper/0"))),
            extend(),
            short(1, &traced.migrate(301, 5)),
            padding(7, 12),
            long(2, &traced.migrate(302, 6)),
            stamp(1 << 40),
            short(0, &traced.migrate(303, 7)),
            short(3, &unknown),
        ];
        traced.fill(0, 0, 1000, &all, 5);
        // The rest of a page without an entry, and then the next page.
        traced.fill(0, 1, 1 << 41, &[short(4, &traced.scx_event()), word(29, 0).to_vec(), vec![0xff; 20]], 1);
        let (news, gaps) = traced.read(&mut HistoryReader::new());
        assert_eq!(gaps, Gaps::default());
        let worker = |pid| task(pid, -1, "w");
        let at = |at, what| Noted { at: GuestNs(at), what };
        let woken = |pid, is_new| NotedWhat::Wakeup { task: worker(pid), by: 77, to: Cpu(1), is_new };
        let noted = vec![
            switch(1010, (1, "a"), (0, "swapper/0")),
            at(1011 + EXTENDED, woken(5, false)),
            at(1013 + EXTENDED, woken(6, true)),
            at(1 << 40, NotedWhat::Migrate { task: worker(7), by: 77, from: Cpu(1), to: Cpu(2) }),
            at((1 << 41) + 4, NotedWhat::SchedExt { name: "SCX_EV_X".into(), by: 77, count: -2 }),
        ];
        assert_eq!(news, [CpuNews { cpu: Cpu(0), overwritten: 0, noted }]);
    }
}

#[test]
fn each_is_read_once_in_order_and_what_was_overwritten_is_counted() {
    for seed in SEEDS {
        let mut traced = Traced::new(seed);
        traced.oldest(0, 0);
        traced.oldest(1, 0);
        let mut reader = HistoryReader::new();
        let one = |traced: &Traced, pid| short(1, &traced.switch((pid, "a"), (pid + 1, "b")));
        let pids = |news: &[CpuNews]| -> Vec<u32> {
            let noted = news.iter().flat_map(|news| &news.noted);
            noted
                .map(|noted| match &noted.what {
                    NotedWhat::Switch { prev, .. } => prev.pid,
                    _ => 0,
                })
                .collect()
        };
        assert_eq!(traced.read(&mut reader).0, []);
        let first = [one(&traced, 1), one(&traced, 2)];
        traced.fill(0, 0, 100, &first[..1], 1);
        assert_eq!(pids(&traced.read(&mut reader).0), [1]);
        // The same page goes on, and the next one begins.
        traced.fill(0, 0, 100, &first, 1);
        let third = [one(&traced, 3)];
        traced.fill(0, 1, 200, &third, 1);
        let (news, _) = traced.read(&mut reader);
        assert_eq!((pids(&news), news[0].overwritten, news[0].noted[0].at), (vec![2, 3], 0, GuestNs(102)));
        assert_eq!(traced.read(&mut reader).0, [], "nothing is new");
        // All pages are used again, so that the place that was read last is gone: page 2 is the oldest now.
        for (nth, page) in [2, 3, 0, 1].into_iter().enumerate() {
            let bytes = [one(&traced, 10 + nth as u32)];
            traced.fill(0, page, 1000 * (1 + nth as u64), &bytes, 1);
        }
        traced.cpus[0].entries += 6;
        let entries = traced.cpus[0].entries;
        traced.guest.set(traced.cpus[0].own, "entries", entries);
        traced.oldest(0, 2);
        let (news, gaps) = traced.read(&mut reader);
        assert_eq!((pids(&news), news[0].overwritten, &gaps), (vec![10, 11, 12, 13], 6, &Gaps::default()));
        // A reader in the guest has taken the page that is being written.
        let last = [one(&traced, 20)];
        traced.fill(0, PAGES as usize, 9000, &last, 1);
        let (news, _) = traced.read(&mut reader);
        assert_eq!((pids(&news), news[0].overwritten), (vec![20], 0), "entries tell that none is missing");
    }
}

#[test]
fn all_pages_of_the_buffers_are_named() {
    let traced = Traced::new(3);
    let profile = traced.profile();
    let taken = HistoryReader::new().take(&KernelView::new(&profile, &traced.guest.ram)).expect("a history");
    let mut pages: Vec<u64> = taken.pages.iter().map(|page| page.0 + crate::testing::DIRECT_MAP).collect();
    let mut all: Vec<u64> = traced.cpus.iter().flat_map(|cpu| &cpu.pages).map(|(_, data)| data.at).collect();
    pages.sort_unstable();
    all.sort_unstable();
    assert_eq!(pages, all);
}

#[test]
fn a_kernel_without_it_says_what_is_missing() {
    let why = |traced: &Traced| {
        let profile = traced.profile();
        HistoryReader::new().take(&KernelView::new(&profile, &traced.guest.ram)).unwrap_err().to_string()
    };
    let mut traced = Traced::new(1);
    traced.guest.symbol("ktime_get_mono_fast_ns", CLOCK + 64);
    traced.guest.symbol("trace_clock_local", CLOCK);
    assert!(why(&traced).ends_with("is trace_clock_local, not ktime_get_mono_fast_ns"), "{}", why(&traced));
    let traced = Traced::lacking(1, &["trace_event_raw_sched_switch.next_pid"]);
    assert!(why(&traced).contains("has no field `next_pid`"), "{}", why(&traced));
    let traced = Traced::lacking(1, &["ring_buffer_type"]);
    assert!(why(&traced).contains("`RINGBUF_TYPE_DATA_TYPE_LEN_MAX`"), "{}", why(&traced));
    let guest = Guest::new(1);
    let profile = guest.profile();
    let error = HistoryReader::new().take(&KernelView::new(&profile, &guest.ram)).unwrap_err();
    assert!(error.to_string().contains("`ftrace_trace_arrays`"), "{error}");
}

#[test]
fn what_a_trace_has_no_room_for_is_the_oldest_and_counted() {
    let noted: Vec<Noted> =
        (0..10_000).map(|n| switch(1000 + 2 * n, (n as u32 % 3, "a"), (7, "b"))).collect();
    let news = CpuNews { cpu: Cpu(1), overwritten: 4, noted };
    let records = pack(&news, 9000);
    let lost: Vec<_> =
        records.iter().map(|record| (record.overwritten, record.left_out, record.steps.len())).collect();
    assert_eq!(lost, [(4, 1000, 4096), (0, 0, 4096), (0, 0, 808)]);
    assert_eq!((records[0].first_ns, records[0].steps[0].after_ns), (GuestNs(3000), 0));
    assert_eq!((records[0].tasks.len(), records[0].steps[1].after_ns), (4, 2));
    assert_eq!(pack(&CpuNews { noted: Vec::new(), ..news }, 5).len(), 1, "what was overwritten is told");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_reading_ends_on_any_memory(seed in SEEDS, writes in writes(), entries in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut traced = Traced::new(seed);
        traced.oldest(0, 1);
        let switch = short(1, &traced.switch((1, "a"), (2, "b")));
        traced.fill(0, 1, 5, &[switch], 1);
        traced.fill(0, 2, 9, &[entries], 1);
        let profile = traced.profile();
        let end = traced.guest.alloc(8);
        let first = traced.cpus[0].pages[0].0.at;
        let words = first..end;
        for writes in [&[][..], &writes] {
            overwrite(&mut traced.guest, &words, writes);
            let mut reader = HistoryReader::new();
            if let Ok(taken) = reader.take(&KernelView::new(&profile, &traced.guest.ram)) {
                let news = reader.decode(taken, &mut Gaps::default());
                prop_assert!(news.iter().map(|news| news.noted.len()).sum::<usize>() <= 1 << 20);
            }
        }
    }
}
