//! The rows of a table, and what claims ask of them.

use super::runqueues;
use super::{CGROUPS, Cell, Column, DSQS, MAPS, MapRow, RUNQUEUES, TASKS};
use crate::kernel::cgroup::read_cgroups;
use crate::kernel::dsq::read_dsqs;
use crate::kernel::maps::BpfObjects;
use crate::kernel::runqueue::read_runqueue_details;
use crate::kernel::task::read_tasks;
use crate::kernel::{Gaps, KernelError, KernelView};
use crate::path::{Aggregate, CellPath, Condition, Number, RowKey, RowsPath, TableName, Test};
use crate::text::Candidates;
use crate::value::Scalar;

/// A table at one checkpoint.
pub(crate) struct Rows {
    table: TableName,
    columns: Vec<ColumnInfo>,
    rows: Vec<Vec<Cell>>,
}

/// What is known of a column without its rows.
struct ColumnInfo {
    name: &'static str,
    known: &'static [&'static str],
}

impl TableName {
    /// The column that names a row.
    fn key(self) -> &'static str {
        match self {
            Self::Tasks => "pid",
            Self::Runqueues => "cpu",
            Self::Dsqs => "id",
            Self::Cgroups => "path",
            Self::Maps => "name",
        }
    }

    /// The names of its columns.
    #[cfg(test)]
    pub(crate) fn columns(self) -> Vec<&'static str> {
        fn names<R>(columns: &[Column<R>]) -> Vec<&'static str> {
            columns.iter().map(|column| column.name).collect()
        }
        match self {
            Self::Tasks => names(TASKS),
            Self::Runqueues => names(RUNQUEUES),
            Self::Dsqs => names(DSQS),
            Self::Cgroups => names(CGROUPS),
            Self::Maps => names(MAPS),
        }
    }

    /// Another one, for numbers, where the first has names.
    fn number_key(self) -> &'static str {
        if self == Self::Maps { "id" } else { self.key() }
    }
}

impl Rows {
    /// Read a table.
    ///
    /// # Errors
    /// Why it, or any row of it, cannot be read: numbers of a part of the rows would be wrong.
    pub(crate) fn read(table: TableName, view: &KernelView<'_>) -> Result<Self, String> {
        let text = |error: KernelError| error.to_string();
        match table {
            TableName::Tasks => {
                let all = read_tasks(view).map_err(text)?;
                Self::of(table, TASKS, &all.tasks, &all.gaps)
            }
            TableName::Runqueues => {
                let all = read_runqueue_details(view).map_err(text)?;
                Self::of(table, RUNQUEUES, &all.runqueues, &all.gaps)
            }
            TableName::Dsqs => {
                let all = read_dsqs(view).map_err(text)?;
                Self::of(table, DSQS, &all.dsqs, &all.gaps)
            }
            TableName::Cgroups => {
                let tasks = read_tasks(view).map_err(text)?;
                let all = read_cgroups(view, &tasks).map_err(text)?;
                Self::of(table, CGROUPS, &all.cgroups, &all.gaps)
            }
            TableName::Maps => {
                let objects = BpfObjects::read(view).map_err(text)?;
                let mut gaps = Gaps::default();
                objects.faults().iter().for_each(|fault| gaps.fault(fault));
                Self::of(table, MAPS, &MapRow::all(&objects), &gaps)
            }
        }
    }

    fn of<R>(table: TableName, columns: &[Column<R>], rows: &[R], gaps: &Gaps) -> Result<Self, String> {
        if let Some(fault) = gaps.faults.first() {
            return Err(format!("a part of the {} could not be read: {fault}", table.name()));
        }
        let cells = |row: &R| columns.iter().map(|column| column.value(row)).collect();
        Ok(Self {
            table,
            columns: columns
                .iter()
                .map(|column| ColumnInfo { name: column.name, known: column.known })
                .collect(),
            rows: rows.iter().map(cells).collect(),
        })
    }

    fn column(&self, name: &str) -> Result<usize, String> {
        self.columns.iter().position(|column| column.name == name).ok_or_else(|| {
            let candidates = Candidates::new(name, self.columns.iter().map(|column| column.name));
            format!("{} has no column `{name}`{candidates}", self.table.name())
        })
    }

    /// The cell that a path names.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn cell(&self, path: &CellPath) -> Result<Scalar, String> {
        let column = self.column(&path.column)?;
        let key = match &path.key {
            RowKey::Number(_) => self.column(self.table.number_key())?,
            RowKey::Text(_) => self.column(self.table.key())?,
        };
        let at = |row: &[Cell], column: usize| row.get(column).cloned().unwrap_or(Cell::None);
        let is = |row: &&Vec<Cell>| match &path.key {
            RowKey::Number(number) => {
                at(row, key).scalar().and_then(Scalar::to_i128) == Some((*number).into())
            }
            RowKey::Text(text) => at(row, key).as_text() == Some(text),
        };
        let found: Vec<_> = self.rows.iter().filter(is).collect();
        match *found.as_slice() {
            [row] => match at(row, column) {
                Cell::None if self.is_offline(row) => {
                    Err(format!("`{path}` has no value: the CPU is offline"))
                }
                Cell::None => Err(format!("`{path}` has no value")),
                cell => cell.scalar().ok_or_else(|| format!("`{path}` is a text, not a number")),
            },
            [] => {
                let asked = match &path.key {
                    RowKey::Number(number) => number.to_string(),
                    RowKey::Text(text) => text.clone(),
                };
                let have = self.rows.iter().map(|row| at(row, key).display());
                let candidates = Candidates::new(&asked, have);
                Err(format!("`{path}`: there is no such row{candidates}"))
            }
            ref several => Err(format!(
                "`{path}`: {} rows have that {}: use `max({}.{} where ..)` to choose",
                several.len(),
                self.table.key(),
                self.table.name(),
                path.column
            )),
        }
    }

    /// Whether it is the row of a CPU that does not run.
    fn is_offline(&self, row: &[Cell]) -> bool {
        let online = self.columns.iter().position(|column| column.name == runqueues::ONLINE);
        online.and_then(|at| row.get(at)).is_some_and(|cell| *cell == Cell::Number(Scalar::Bool(false)))
    }

    /// The rows that a path names, folded into one number.
    ///
    /// # Errors
    /// A column that is not there, a comparison that its values do not have, no row to take the greatest of.
    pub(crate) fn fold(&self, of: Aggregate, path: &RowsPath) -> Result<Scalar, String> {
        let filter: Vec<(usize, &Condition)> = path
            .filter
            .iter()
            .map(|condition| Ok((self.checked(condition)?, condition)))
            .collect::<Result<_, String>>()?;
        let holds = |row: &&Vec<Cell>| {
            filter.iter().all(|(at, one)| row.get(*at).is_some_and(|cell| one.test.holds(cell)))
        };
        let rows: Vec<&Vec<Cell>> = self.rows.iter().filter(holds).collect();
        let Some(name) = &path.column else { return Ok(Scalar::from(rows.len() as u64)) };
        let column = self.column(name)?;
        let cells: Vec<&Cell> =
            rows.iter().filter_map(|row| row.get(column)).filter(|cell| **cell != Cell::None).collect();
        if of == Aggregate::Count {
            return Ok(Scalar::from(cells.len() as u64));
        }
        let numbers: Vec<Scalar> = cells
            .iter()
            .map(|cell| {
                cell.scalar()
                    .ok_or_else(|| format!("`{name}` of {} is a text, not a number", self.table.name()))
            })
            .collect::<Result<_, _>>()?;
        let total = || {
            let whole: Option<Vec<i128>> = numbers.iter().map(|number| number.to_i128()).collect();
            match whole {
                Some(whole) => Scalar::Int(whole.into_iter().fold(0, i128::saturating_add)),
                None => Scalar::Float(numbers.iter().map(|number| number.to_f64()).sum()),
            }
        };
        let found = match of {
            Aggregate::Sum | Aggregate::Count => Some(total()),
            Aggregate::Max => numbers.iter().copied().max_by(|this, that| this.order(*that)),
            Aggregate::Min => numbers.iter().copied().min_by(|this, that| this.order(*that)),
            Aggregate::Mean if numbers.is_empty() => None,
            Aggregate::Mean => Some(Scalar::Float(total().to_f64() / numbers.len() as f64)),
        };
        found.ok_or_else(|| match rows.len() {
            0 => {
                format!("none of the {} rows of {} is meant by `{path}`", self.rows.len(), self.table.name())
            }
            some => format!("none of the {some} rows that `{path}` means has a value there"),
        })
    }

    /// The column of a condition, which has to be one that its values can be held against.
    fn checked(&self, condition: &Condition) -> Result<usize, String> {
        let at = self.column(&condition.column)?;
        let known = self.columns.get(at).map_or(&[][..], |column| column.known);
        if let Test::Is(_, text) = &condition.test
            && !known.is_empty()
            && !known.contains(&text.as_str())
        {
            let candidates = Candidates::new(text, known.iter().copied());
            return Err(format!("`{}` is never `{text}`{candidates}", condition.column));
        }
        let mut cells =
            self.rows.iter().filter_map(|row| row.get(at)).filter(|cell| **cell != Cell::None).peekable();
        if cells.peek().is_some() && cells.all(|cell| !condition.test.fits(cell)) {
            let is = if matches!(condition.test, Test::Number(_)) { "a text" } else { "a number" };
            return Err(format!(
                "`{}` of {} is {is}, so `{condition}` cannot hold",
                condition.column,
                self.table.name()
            ));
        }
        Ok(at)
    }
}

impl Test {
    /// Whether values like this one can be held against it.
    fn fits(&self, cell: &Cell) -> bool {
        match self {
            Self::Number(_) => cell.scalar().is_some(),
            Self::Is(..) | Self::Contains(_) => cell.as_text().is_some() || as_bool(cell).is_some(),
        }
    }

    /// Whether it is true of `cell`; never for what has no value.
    fn holds(&self, cell: &Cell) -> bool {
        let text = || cell.as_text().or_else(|| as_bool(cell));
        match self {
            Self::Number(bound) => cell.scalar().is_some_and(|scalar| bound.holds(Number::from(scalar))),
            Self::Is(is, wanted) => text().is_some_and(|text| (text == wanted) == *is),
            Self::Contains(part) => text().is_some_and(|text| text.contains(part.as_str())),
        }
    }
}

/// A truth value's name.
fn as_bool(cell: &Cell) -> Option<&'static str> {
    match cell {
        Cell::Number(Scalar::Bool(true)) => Some("true"),
        Cell::Number(Scalar::Bool(false)) => Some("false"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::Projection;
    use crate::testing::{Guest, SEEDS, toy_kernel};

    /// The toy kernel, without BPF maps.
    fn kernel(seed: u64) -> Guest {
        let (mut guest, _) = toy_kernel(seed);
        guest.variable("map_idr", "idr");
        guest
    }

    /// What a path makes of the toy kernel.
    fn ask(view: &KernelView<'_>, text: &str) -> Result<String, String> {
        let found = match text.parse().unwrap() {
            Projection::Rows(of, path) => Rows::read(path.table, view)?.fold(of, &path),
            Projection::Cell(path) => Rows::read(path.table, view)?.cell(&path),
            other => panic!("{other}"),
        };
        found.map(|scalar| scalar.to_string())
    }

    #[test]
    fn rows_are_filtered_and_folded() {
        for seed in SEEDS {
            let guest = kernel(seed);
            let profile = guest.profile();
            let view = KernelView::new(&profile, &guest.ram);
            for (text, value) in [
                ("count(tasks)", "3"),
                ("count(tasks where comm ~ wait)", "2"),
                ("count(tasks where comm == waits and pid > 101)", "1"),
                ("count(tasks where comm != waits)", "1"),
                ("count(tasks where pid in 101..=102 and state == R)", "2"),
                ("count(tasks where state == S)", "0"),
                ("sum(tasks.pid where comm == waits)", "203"),
                ("sum(tasks.pid where comm == nobody)", "0"),
                ("max(tasks.pid)", "102"),
                ("min(tasks.pid)", "0"),
                ("mean(tasks.pid where comm == waits)", "101.5"),
                ("count(tasks.cgroup where pid >= 101)", "1"),
                ("count(tasks where cgroup == /cg_0)", "1"),
                ("count(tasks where kernel_thread == false)", "3"),
                ("dsqs[0x7].nr", "2"),
                ("sum(dsqs.nr)", "2"),
                ("dsqs[0x7].head_waits_ms", "2000"),
                ("count(tasks where cpus_allowed == \"0\")", "2"),
                ("cgroups[/cg_0].tasks", "1"),
                ("runqueues[0].nr_runnable", "2"),
            ] {
                assert_eq!(ask(&view, text).as_deref(), Ok(value), "{text}");
            }
        }
    }

    #[test]
    fn a_cpu_that_is_offline_has_a_row_without_values() {
        let mut guest = Guest::new(0);
        guest.cpus(2);
        guest.number("__cpu_online_mask", "u64", 1u64);
        let runqueues = guest.per_cpu("runqueues", "rq");
        let clock = guest.variable("clocksource_jiffies", "clocksource");
        guest.set(clock, "mult", 4_000_000u64 << 8);
        guest.set(clock, "shift", 8u32);
        guest.number("jiffies_64", "u64", 1000u64);
        for cpu in 0..2 {
            let rq = guest.on_cpu(runqueues, cpu);
            guest.set(rq, "nr_running", 5u32);
            guest.ring(&[guest.at(rq, "scx.local_dsq.list")]);
            guest.ring(&[guest.at(rq, "scx.runnable_list")]);
            let task = guest.add("task_struct");
            guest.set(rq, "curr", task);
        }
        let profile = guest.profile();
        let view = KernelView::new(&profile, &guest.ram);
        for (text, value) in [
            ("count(runqueues)", "2"),
            ("count(runqueues where online == true)", "1"),
            ("runqueues[1].online", "false"),
            ("sum(runqueues.nr)", "5"),
        ] {
            assert_eq!(ask(&view, text).as_deref(), Ok(value), "{text}");
        }
        assert_eq!(
            ask(&view, "runqueues[1].nr"),
            Err("`runqueues[1].nr` has no value: the CPU is offline".into())
        );
        assert_eq!(crate::kernel::SampleReader::default().read(&view).cpus.len(), 1);
    }

    #[test]
    fn what_is_not_there_says_what_is() {
        let guest = kernel(0);
        let profile = guest.profile();
        let view = KernelView::new(&profile, &guest.ram);
        for (text, part) in [
            ("max(tasks.runable_ms)", "tasks has no column `runable_ms`; did you mean `runnable_ms`?"),
            ("count(tasks where clas == ext)", "tasks has no column `clas`; did you mean `class`?"),
            ("count(tasks where class == exxt)", "`class` is never `exxt`; did you mean `ext`?"),
            ("count(tasks where comm > 3)", "`comm` of tasks is a text, so `comm > 3` cannot hold"),
            ("count(tasks where pid ~ x)", "`pid` of tasks is a number, so `pid ~ x` cannot hold"),
            ("max(tasks.comm)", "`comm` of tasks is a text, not a number"),
            ("max(tasks.pid where comm == nobody)", "none of the 3 rows of tasks is meant by"),
            ("dsqs[0x8].nr", "there is no such row"),
            ("cgroups[/cg_1].tasks", "there is no such row; did you mean `/cg_0`?"),
            ("tasks[101].comm", "is a text, not a number"),
        ] {
            let error = ask(&view, text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
