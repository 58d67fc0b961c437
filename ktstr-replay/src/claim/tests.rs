//! The text form as a whole.

use proptest::prelude::*;

use super::*;
use crate::path::{
    Aggregate, Band, Bound, CellPath, Cmp, Condition, EntryKey, EventKind, FieldPath, FieldType, Fold,
    KernelPath, MapPath, Number, PayloadPath, Root, RowKey, RowsPath, RqField, ScxField, Step, TableName,
    TaskKey, Test,
};
use crate::text::SpanNs;
use crate::units::Cpu;

#[test]
fn every_example_parses_prints_as_it_is_written_and_is_of_its_pattern() {
    for info in PATTERNS {
        let claim: Claim = info.example.parse().unwrap_or_else(|e: SyntaxError| panic!("{}", e.render()));
        assert_eq!(claim.to_string(), info.example);
        assert!(info.example.starts_with(&format!("{}(", info.name)));
    }
}

#[test]
fn the_forms_of_the_authoring_guide_parse() {
    for text in [
        "nondecreasing(nr_dispatched)",
        "rate(x) in 0.5..2.0 per ms",
        "steady(x, within=10%, after=1s)",
        "converges(x, to=1.0, tol=0.5, by=5s)",
        "always(alive)",
        "eventually(x >= 10, by=3s)",
        "each(x >= 1)",
        "each(x in 0..100)",
        "final(x >= 100)",
        "ratio(x, y) in 0.4..0.6",
        "phase_ratio(x, 0, 1) <= 1.5",
        "never(x > 0 while y == 0)",
        "within(x == 0, 50ms, after=event(sched_switch where next_comm == v))",
        "never(watch(\"scx_root->exit_kind\"))",
        "never(watch(\"scx_root->exit_kind\").new > 0 while alive)",
        "never(probe(enqueue_task_scx where p->pid == 5) while alive)",
        "eventually(watch(\"bss.x\" where new > 0), by=3s)",
        "eventually(watch(\"bss.x\").new, by=3s)",
        "count(event(sched_migrate_task)) in 0..100",
        "count(watch(\"bss.x\")) >= 1",
        "each(count(tasks where comm ~ x) in 0..100)",
        "p99(wakeup_latency where comm ~ worker) <= 20ms",
        "p99.9(on_cpu) in 1ms..=2s",
    ] {
        let claim: Claim = text.parse().unwrap_or_else(|e: SyntaxError| panic!("{}", e.render()));
        assert_eq!(claim.to_string(), text);
    }
}

#[test]
fn a_bound_on_rows_is_a_claim_about_every_sample() {
    let text = "max(tasks.runnable_ms where class == ext) <= 500";
    let claim: Claim = text.parse().unwrap_or_else(|e: SyntaxError| panic!("{}", e.render()));
    assert_eq!(claim.to_string(), format!("each({text})"));
    assert!("count(tasks)".parse::<Claim>().is_err(), "nothing is claimed");
}

#[test]
fn spaces_do_not_matter() {
    let claim: Claim = " steady ( stats . nr [ 2 ] ,after=1s,within=10% ) ".parse().unwrap();
    assert_eq!(claim.to_string(), "steady(stats.nr[2], within=10%, after=1s)");
}

#[test]
fn faults_point_at_the_fault() {
    for (text, at, message) in [
        (
            "nondecresing(x)",
            0..12,
            "no claim pattern is called `nondecresing`; did you mean `nondecreasing`?",
        ),
        ("steady(x, withn=10%)", 10..15, "`steady` takes no argument `withn`; did you mean `within`?"),
        ("steady(x, within=10)", 17..19, "expected a percentage such as `10%`, found the number 10"),
        ("steady(x)", 8..8, "`steady` needs `within=`, as in `steady(nr_running, within=10%, after=1s)`"),
        ("steady(x, within=1%, within=2%)", 21..27, "`within` is given twice"),
        ("each(x)", 6..7, "expected a bound such as `>= 1` or `in 0..100`, found `)`"),
        ("each(x in 5..5)", 10..14, "the range 5..5 is empty"),
        ("each(x in ..)", 12..13, "expected a number at an end of the range, found `)`"),
        ("rate(x) in 1..2", 15..15, "expected `per ms` or another unit of time, found the end of the claim"),
        ("rate(x) in 1..2 per parsec", 20..26, "no unit of time is called `parsec`"),
        ("always(alive", 12..12, "expected `)`, found the end of the claim"),
        ("always(alive) now", 14..17, "expected the end of the claim, found `now`"),
        ("eventually(x, by=3)", 17..18, "expected a time such as `3s` or `500ms`, found the number 3"),
        ("ratio(x) in 1..2", 7..8, "expected `,`, found `)`"),
        ("each(map(m).x > 1)", 12..13, "no map accessor is called `x`"),
        ("each(x[-1] > 1)", 7..9, "expected an index, or an enumerator, found the number -1"),
        ("", 0..0, "expected a claim pattern, such as `nondecreasing(x)`, found the end of the claim"),
    ] {
        let error = text.parse::<Claim>().expect_err(text);
        assert!(error.fault.to_string().starts_with(message), "{text}: {}", error.fault);
        assert_eq!(error.span, at, "{}", error.render());
    }
}

#[test]
fn a_typo_is_rendered_with_a_caret_and_the_patterns_that_exist() {
    let error = "nondecresing(nr_dispatched)".parse::<Claim>().unwrap_err();
    let expected = "\
no claim pattern is called `nondecresing`; did you mean `nondecreasing`?
  | nondecresing(nr_dispatched)
  | ^^^^^^^^^^^^
  = patterns: nondecreasing, strictly_increasing, rate, steady, converges, always, eventually, each, final, \
ratio, phase_ratio, never, wrapping, within, count, p99";
    assert_eq!(error.render(), expected);
}

#[test]
fn a_column_that_is_nowhere_fails_whatever_the_pattern() {
    use pattern::fixture::{column, missed, unreadable};
    let nowhere = column([unreadable(), missed(), unreadable()]);
    for info in PATTERNS {
        let claim: Claim = info.example.parse().unwrap();
        if claim.is_of_events() {
            continue;
        }
        let columns = vec![&nowhere; claim.projections().len()];
        let judged = claim.judge(&columns);
        assert_eq!(judged.outcome, Outcome::Fail, "{claim}");
        assert!(judged.summary.starts_with("error: "), "{claim}: {}", judged.summary);
        assert!(judged.notes[0].contains("did you mean"), "{claim}: {:?}", judged.notes);
    }
}

#[test]
fn an_empty_series_is_inconclusive_whatever_the_pattern() {
    let empty = pattern::fixture::ints(&[]);
    for info in PATTERNS {
        let claim: Claim = info.example.parse().unwrap();
        let columns = vec![&empty; claim.projections().len()];
        // Claims about events are judged by what happened, and cannot be without it.
        let outcome = if claim.is_of_events() { Outcome::Fail } else { Outcome::Inconclusive };
        assert_eq!(claim.judge(&columns).outcome, outcome, "{claim}");
    }
}

/// Names of C, names of others, and words of the grammar.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z_][a-z0-9_]{0,8}",
        1 => "[0-9a-z$\u{e9}_]{1,4}",
        1 => "[^\"]{0,8}",
        1 => prop::sample::select(vec!["alive", "scx", "kernel", "rq", "task", "dsq", "map", "cpu", "cpu_sum", "tasks", "cgroup", "count", "where"])
            .prop_map(String::from),
    ]
}

/// A type, in C's words.
fn c_type() -> impl Strategy<Value = String> {
    "(struct |enum |unsigned )?[a-z_][a-z0-9_]{0,6}( \\*{1,2})?"
}

/// Steps behind something; a pointer is only followed to a field.
fn steps(max: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        name().prop_map(|name| vec![Step::Field(name)]),
        any::<u64>().prop_map(|index| vec![Step::Index(index)]),
        "[A-Z_][A-Z0-9_]{0,6}".prop_map(|name| vec![Step::Named(name)]),
        c_type().prop_map(|words| vec![Step::Cast(words)]),
        name().prop_map(|name| vec![Step::Deref, Step::Field(name)]),
    ];
    prop::collection::vec(step, 0..max).prop_map(|steps| steps.concat())
}

fn path(min: usize, max: usize) -> impl Strategy<Value = FieldPath> {
    (prop::collection::vec(name().prop_map(Step::Field), min), steps(max))
        .prop_map(|(first, more)| FieldPath::from_iter(first.into_iter().chain(more)))
}

fn projection() -> impl Strategy<Value = Projection> {
    let entry = prop_oneof![
        any::<u32>().prop_map(EntryKey::At),
        any::<u64>().prop_map(EntryKey::Key),
        "[A-Z_]{1,4}".prop_map(EntryKey::AtNamed),
        "[A-Z_]{1,4}".prop_map(EntryKey::KeyNamed),
    ];
    let map =
        || (name(), entry.clone(), path(0, 3)).prop_map(|(map, entry, field)| MapPath { map, entry, field });
    let fold = prop::sample::select(vec![Fold::Sum, Fold::Min, Fold::Max]);
    let rq = prop::sample::select(RqField::ALL).prop_map(|(_, f)| f);
    prop_oneof![
        path(1, 3).prop_map(Projection::Var),
        kernel_path().prop_map(Projection::Kernel),
        map().prop_map(Projection::Map),
        (map(), any::<u32>()).prop_map(|(m, c)| Projection::MapOnCpu(m, Cpu(c))),
        (fold.clone(), map()).prop_map(|(f, m)| Projection::MapFolded(f, m)),
        (any::<u32>(), rq.clone()).prop_map(|(c, f)| Projection::Rq(Cpu(c), f)),
        (fold, rq).prop_map(|(f, r)| Projection::RqFolded(f, r)),
        prop::sample::select(ScxField::ALL).prop_map(|(_, f)| Projection::Scx(f)),
        Just(Projection::Alive),
        (name(), name(), 0..3_u64).prop_map(|(name, metric, index)| {
            let field = [Step::Field(metric), Step::Index(index)].into_iter().collect();
            Projection::Payload(PayloadPath { name, field })
        }),
        rows(),
        prop_oneof![
            path(1, 3).prop_map(Projection::Var),
            kernel_path().prop_map(Projection::Kernel),
            map().prop_map(Projection::Map),
        ]
        .prop_map(|of| Projection::Count(Box::new(of))),
        (
            "[^\"]{1,15}",
            prop_oneof![
                path(1, 3).prop_map(Projection::Var),
                map().prop_map(Projection::Map),
                path(1, 3).prop_map(|path| Projection::Count(Box::new(Projection::Var(path)))),
            ]
        )
            .prop_map(|(name, of)| Projection::OfScheduler(name, Box::new(of))),
        (c_type(), rows()).prop_map(|(words, of)| Projection::Cast(words, Box::new(of))),
        (c_type(), c_type()).prop_map(|(words, inner)| {
            Projection::Cast(words, Box::new(Projection::Cast(inner, Box::new(Projection::Alive))))
        }),
    ]
}

/// Rows and cells of tables.
fn rows() -> impl Strategy<Value = Projection> {
    let table = || prop::sample::select(TableName::ALL).prop_map(|(_, table)| table);
    let column = || prop_oneof![9 => "[a-z_]{1,8}", 1 => "[^\"]{1,4}"];
    let text = || prop_oneof!["[a-zA-Z]{1,6}", "(/[a-z_]{1,4}){1,3}", "[^\"]{0,8}", Just("/".to_owned())];
    let test = prop_oneof![
        bound().prop_map(Test::Number),
        (any::<bool>(), text()).prop_map(|(is, text)| Test::Is(is, text)),
        text().prop_map(Test::Contains),
    ];
    let condition = (column(), test).prop_map(|(column, test)| Condition { column, test });
    let filter = prop::collection::vec(condition, 0..3);
    let of = prop::sample::select(Aggregate::ALL).prop_map(|(_, of)| of);
    let key = prop_oneof![any::<u64>().prop_map(RowKey::Number), text().prop_map(RowKey::Text)];
    prop_oneof![
        (of, table(), prop::option::of(column()), filter).prop_map(|(of, table, column, filter)| {
            // Only rows that are counted need no column.
            let column = column.or_else(|| (of != Aggregate::Count).then(|| "x".to_owned()));
            Projection::Rows(of, RowsPath { table, column, filter })
        }),
        (table(), key, column()).prop_map(|(table, key, column)| Projection::Cell(CellPath {
            table,
            key,
            column
        })),
    ]
}

fn kernel_path() -> impl Strategy<Value = KernelPath> {
    let cast = ("(struct |enum )?[a-z_][a-z0-9_]{0,6}( \\*{1,2})?").prop_map(String::from);
    let symbol = ("[a-z_][a-z0-9_]{0,8}", prop::option::of(cast), prop::option::of(any::<u32>()))
        .prop_map(|(name, cast, cpu)| Root::Symbol { name, cast, cpu: cpu.map(Cpu) });
    let comm = "[^\"]{1,15}".prop_map(|comm| Root::Task(TaskKey::Comm(comm)));
    let root = prop_oneof![
        symbol,
        any::<u32>().prop_map(|pid| Root::Task(TaskKey::Pid(pid))),
        comm,
        (any::<u64>(), prop::option::of("[^\"]{1,15}")).prop_map(|(id, of)| Root::Dsq { id, of }),
    ];
    let of_scheduler = ("[^\"]{1,15}", path(1, 3)).prop_map(|(name, rest)| {
        let rest = [Step::Deref].into_iter().chain(rest.steps().iter().cloned()).collect();
        KernelPath { root: Root::Scheduler(name), rest }
    });
    prop_oneof![
        9 => (root, path(1, 3)).prop_map(|(root, rest)| KernelPath { root, rest }),
        1 => of_scheduler,
    ]
}

fn number() -> impl Strategy<Value = Number> {
    prop_oneof![
        any::<i128>().prop_filter("-min", |i| *i != i128::MIN).prop_map(Number::Int),
        (-1e30..1e30).prop_map(Number::Float)
    ]
}

fn bound() -> impl Strategy<Value = Bound> {
    let band = (number(), number(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(a, b, closed, lo, hi)| {
            let (a, b) = if a.compare(b) == Some(std::cmp::Ordering::Greater) { (b, a) } else { (a, b) };
            Band { start: (lo || !hi).then_some(a), end: hi.then_some((b, closed)) }
        },
    );
    prop_oneof![
        (prop::sample::select(Cmp::ALL), number()).prop_map(|((_, c), n)| Bound::Cmp(c, n)),
        band.prop_filter("empty", |b| !b.is_empty()).prop_map(Bound::In),
    ]
}

fn predicate(bare: bool) -> impl Strategy<Value = Predicate> {
    (projection(), bound(), any::<bool>())
        .prop_map(move |(of, bound, none)| Predicate { of, bound: (!(bare && none)).then_some(bound) })
}

fn claim() -> impl Strategy<Value = Claim> {
    use pattern::*;
    let span = || any::<u64>().prop_map(SpanNs);
    let unit = prop::sample::select(TimeUnit::ALL).prop_map(|(_, unit)| unit);
    prop_oneof![
        projection().prop_map(|of| Nondecreasing { of }.into()),
        projection().prop_map(|of| StrictlyIncreasing { of }.into()),
        (projection(), bound(), unit).prop_map(|(of, bound, per)| Rate { of, bound, per }.into()),
        (projection(), 0.0..1e6, span())
            .prop_map(|(of, within_pct, after)| Steady { of, within_pct, after }.into()),
        (projection(), number(), number(), span()).prop_map(|(of, to, tol, by)| Converges {
            of,
            to,
            tol,
            by
        }
        .into()),
        predicate(true).prop_map(|predicate| Always { predicate }.into()),
        (predicate(true), prop::option::of(span()))
            .prop_map(|(predicate, by)| Eventually { predicate, by }.into()),
        predicate(false).prop_map(|predicate| Each { predicate }.into()),
        predicate(true).prop_map(|predicate| Final { predicate }.into()),
        (projection(), projection(), bound()).prop_map(|(of, over, bound)| Ratio { of, over, bound }.into()),
        (projection(), any::<u32>(), any::<u32>(), bound())
            .prop_map(|(of, baseline, phase, bound)| PhaseRatio { of, baseline, phase, bound }.into()),
        (predicate(true), predicate(true)).prop_map(|(what, during)| Never { what, during }.into()),
        projection().prop_map(|of| Wrapping { inner: Box::new(Nondecreasing { of }.into()) }.into()),
        (projection(), bound(), prop::sample::select(TimeUnit::ALL)).prop_map(|(of, bound, (_, per))| {
            Wrapping { inner: Box::new(Rate { of, bound, per }.into()) }.into()
        }),
    ]
}

proptest! {
    #[test]
    fn what_prints_parses_to_the_same(claim in claim()) {
        let text = claim.to_string();
        let parsed: Claim = text.parse().map_err(|e: SyntaxError| TestCaseError::fail(e.render()))?;
        prop_assert_eq!(&parsed, &claim);
        prop_assert_eq!(parsed.to_string(), text);
    }

    #[test]
    fn no_text_panics_and_every_fault_lies_in_the_text(text in "\\PC{0,60}") {
        if let Err(error) = text.parse::<Claim>() {
            prop_assert!(error.span.end <= text.len());
            let _ = error.render();
        }
    }

    #[test]
    fn no_mutation_of_a_claim_panics(claim in claim(), at in any::<prop::sample::Index>(), junk in "[-.,()\\[\\]=<>%a-z0-9 \u{e9}]{0,3}") {
        let mut chars: Vec<char> = claim.to_string().chars().collect();
        let at = at.index(chars.len());
        chars.splice(at..at + 1, junk.chars());
        if let Err(error) = chars.into_iter().collect::<String>().parse::<Claim>() {
            let _ = (error.render(), error.to_string());
        }
    }
}

/// The rows of the first table under a heading of the docs: the texts between backticks in the first column, and the
/// second column.
fn docs_table(heading: &str) -> Vec<(Vec<&'static str>, &'static str)> {
    let docs = include_str!("../../../docs/claims.md");
    let section = docs.split_once(heading).expect("the heading").1;
    let rows = section.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    rows.take_while(|line| line.starts_with('|'))
        .map(|line| {
            let mut cells = line.split(" | ");
            let (texts, means) = (cells.next().unwrap(), cells.next().unwrap());
            (texts.split('`').skip(1).step_by(2).collect(), means)
        })
        .collect()
}

/// What an event's field is held against, by what the field is.
fn event_test(is_text: bool) -> impl Strategy<Value = String> {
    let text = prop_oneof!["[a-z]{1,6}", "\"[^\"]{0,6}\""];
    let number = prop_oneof!["[0-9]{1,5}", "-[0-9]{1,3}\\.[0-9]"];
    match is_text {
        true => (prop::sample::select(vec!["==", "!=", "~"]), text)
            .prop_map(|(sign, text)| format!("{sign} {text}"))
            .boxed(),
        false => (prop::sample::select(vec!["==", "!=", ">=", "<"]), number)
            .prop_map(|(sign, n)| format!("{sign} {n}"))
            .boxed(),
    }
}

/// Events of any kind, with conditions.
fn events() -> impl Strategy<Value = String> {
    let of_kind = prop::sample::select(EventKind::ALL).prop_flat_map(|(name, kind)| {
        let field = prop::sample::select(kind.fields());
        let condition = field.prop_flat_map(|(field, is)| {
            event_test(is == FieldType::Text).prop_map(move |test| format!("{field} {test}"))
        });
        prop::collection::vec(condition, 0..4).prop_map(move |all| match all.as_slice() {
            [] => format!("event({name})"),
            all => format!("event({name} where {})", all.join(" and ")),
        })
    });
    let target = prop_oneof!["[a-z_]{1,6}", "\"[^\"]{1,8}\""];
    let of_probe = (target, prop_oneof!["[a-z]{1,3}(->|\\.)[a-z]{1,3}", "\"[^\"]{1,8}\""], any::<bool>())
        .prop_flat_map(|(target, field, is_text)| {
            event_test(is_text).prop_map(move |test| format!("probe({target} where {field} {test})"))
        });
    let of_watch = "\"[^\"]{1,8}\"".prop_flat_map(|target| {
        event_test(false).prop_map(move |test| format!("watch({target} where new {test})"))
    });
    prop_oneof![3 => of_kind, 1 => of_probe, 1 => of_watch]
}

proptest! {
    #[test]
    fn a_claim_about_events_prints_to_itself(a in events(), b in events(), ms in 0u64..10_000, hundredths in 1u32..=10_000) {
        for text in [
            format!("never({a})"),
            format!("never({a} while x > {ms})"),
            format!("eventually({a}, by={ms}ms)"),
            format!("within({a}, {ms}ms, after={b})"),
            format!("within(x == 0, {ms}us, after={b})"),
            format!("count({b}) in {ms}..={}", ms + 1),
            format!("p{}(run_delay where pid == {ms}) <= {ms}ms", f64::from(hundredths) / 100.0),
        ] {
            let claim: Claim = text.parse().map_err(|e: SyntaxError| TestCaseError::fail(e.render()))?;
            let printed = claim.to_string();
            prop_assert_eq!(printed.parse(), Ok(claim), "{}: {}", text, printed);
        }
    }
}

#[test]
fn the_docs_table_of_patterns_is_this_one() {
    let rows = docs_table("## Patterns");
    let names = |text: &&str| text.split('(').next().map(str::to_owned);
    let of_docs: Vec<_> = rows.iter().map(|(texts, _)| texts.first().and_then(names)).collect();
    let of_code: Vec<_> = PATTERNS.iter().map(|info| Some(info.name.to_owned())).collect();
    assert_eq!(of_docs, of_code);
    for ((texts, holds), info) in rows.iter().zip(PATTERNS) {
        assert_eq!(*holds, info.holds, "{}", info.name);
        for text in texts {
            let claim: Claim = text.parse().unwrap_or_else(|e: SyntaxError| panic!("{}", e.render()));
            assert_eq!(claim.to_string(), *text);
            assert!(text.starts_with(info.name), "{text}");
        }
    }
}

#[test]
fn the_docs_table_of_columns_is_that_of_the_code() {
    let rows = docs_table("## Tables");
    let of_docs: Vec<_> = rows.iter().map(|(names, _)| names[0]).collect();
    let of_code: Vec<_> = TableName::ALL.iter().map(|(name, _)| *name).collect();
    assert_eq!(of_docs, of_code);
    for ((_, columns), (_, table)) in rows.iter().zip(TableName::ALL) {
        let columns: Vec<_> = columns.split('`').skip(1).step_by(2).collect();
        assert_eq!(columns, table.columns(), "{}", table.name());
    }
}

#[test]
fn every_path_of_the_docs_parses() {
    let texts: Vec<_> =
        docs_table("## What claims are about").into_iter().flat_map(|(texts, _)| texts).collect();
    assert!(texts.len() > 20, "{texts:?}");
    for text in texts {
        // `cpu_min(..)` stands for the same with another fold.
        if !text.contains("(..)") {
            let path: Projection = text.parse().unwrap_or_else(|e: SyntaxError| panic!("{}", e.render()));
            assert_eq!(path.to_string().parse(), Ok(path), "{text}");
        }
    }
}
