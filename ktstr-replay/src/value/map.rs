//! A recorded map: its entries by index and key, their values by CPU.

use super::{Scalar, Scope, Value, ValueError};
use crate::btf::{TypeId, Types, plain, plain_number};
use crate::path::{AsPath, EntryKey, path_text};
use crate::trace::record::{MapContents, MapState};
use crate::units::Cpu;

/// A map of a sample.
#[derive(Clone, Debug)]
pub struct MapView<'a> {
    map: &'a MapState,
    types: Result<&'a Types, ValueError>,
    scope: Scope<'a>,
}

/// One entry of a map.
#[derive(Clone, Debug)]
pub struct MapEntry<'a> {
    view: MapView<'a>,
    /// Position among the recorded entries; the index, for arrays.
    position: usize,
    /// The bytes of its key; `None` for arrays.
    key: Option<&'a [u8]>,
    /// `None`: one value. Else the CPUs, a value for each in `values`.
    cpus: Option<&'a [Cpu]>,
    values: &'a [u8],
}

/// The recorded entries as slices.
struct Layout<'a> {
    keys: Option<&'a [u8]>,
    values: &'a [u8],
    cpus: Option<&'a [Cpu]>,
    entries: usize,
}

impl<'a> MapView<'a> {
    /// `program`: the types of the program that it belongs to, for casts and enumerators.
    pub(crate) fn new(
        map: &'a MapState,
        types: Result<&'a Types, ValueError>,
        program: Option<&'a Types>,
    ) -> Self {
        Self { map, types, scope: Scope { program, ..Scope::default() } }
    }

    /// The record that this looks at.
    #[must_use]
    pub fn state(&self) -> &'a MapState {
        self.map
    }

    /// The types of keys and values.
    ///
    /// # Errors
    /// [`ValueError::NoTypes`].
    pub fn types(&self) -> Result<&'a Types, ValueError> {
        self.types.clone()
    }

    fn layout(&self) -> Result<Layout<'a>, ValueError> {
        let (key_size, value_size) = (self.map.key_size as usize, self.map.value_size as usize);
        let layout = match &self.map.contents {
            MapContents::Array { values } => {
                Layout { keys: None, values, cpus: None, entries: count(values, value_size, 1) }
            }
            MapContents::PerCpuArray { cpus, values } => Layout {
                keys: None,
                values,
                cpus: Some(cpus),
                entries: count(values, value_size, cpus.len()),
            },
            MapContents::Hash { keys, values } => {
                Layout { keys: Some(keys), values, cpus: None, entries: count(keys, key_size, 1) }
            }
            MapContents::PerCpuHash { cpus, keys, values } => {
                Layout { keys: Some(keys), values, cpus: Some(cpus), entries: count(keys, key_size, 1) }
            }
            MapContents::Unread { why } => {
                return Err(ValueError::Unread { map: self.map.name.clone(), why: why.clone() });
            }
        };
        Ok(layout)
    }

    fn entry(&self, layout: &Layout<'a>, position: usize) -> Option<MapEntry<'a>> {
        let each = (self.map.value_size as usize).checked_mul(layout.cpus.map_or(1, <[Cpu]>::len))?;
        let start = position.checked_mul(each)?;
        let values = layout.values.get(start..start.checked_add(each)?)?;
        let key_size = self.map.key_size as usize;
        let key = match layout.keys {
            None => None,
            Some(keys) => {
                let start = position.checked_mul(key_size)?;
                Some(keys.get(start..start.checked_add(key_size)?)?)
            }
        };
        Some(MapEntry { view: self.clone(), position, key, cpus: layout.cpus, values })
    }

    /// How many entries were recorded.
    ///
    /// # Errors
    /// [`ValueError::Unread`].
    pub fn len(&self) -> Result<usize, ValueError> {
        Ok(self.layout()?.entries)
    }

    /// No entry was recorded.
    ///
    /// # Errors
    /// [`ValueError::Unread`].
    pub fn is_empty(&self) -> Result<bool, ValueError> {
        Ok(self.len()? == 0)
    }

    /// The entry of an array at an index; for hashes the entry with that position, in the order of recording.
    ///
    /// # Errors
    /// [`ValueError::NoEntry`], [`ValueError::Unread`].
    pub fn at(&self, index: u32) -> Result<MapEntry<'a>, ValueError> {
        let layout = self.layout()?;
        let found = usize::try_from(index).ok().and_then(|index| self.entry(&layout, index));
        found.ok_or_else(|| self.no_entry(format!("at {index}"), &layout))
    }

    /// The entry that a path names.
    ///
    /// # Errors
    /// Those of [`MapView::at`] and [`MapView::get_key`]; [`ValueError::NoEnumerator`].
    pub(crate) fn entry_of(&self, entry: &EntryKey) -> Result<MapEntry<'a>, ValueError> {
        let constant = |name: &str| self.constant(name);
        let unfit = |name: &str, value: i128, wanted| ValueError::OutOfRange {
            value: format!("{name}={value}"),
            wanted,
        };
        match entry {
            EntryKey::At(index) => self.at(*index),
            // Keys are taken by their bytes: the upper half of u64 is the same bytes as negative numbers.
            EntryKey::Key(key) => self.get_key(key.cast_signed()),
            EntryKey::AtNamed(name) => {
                let value = constant(name)?;
                self.at(u32::try_from(value).map_err(|_| unfit(name, value, "an index"))?)
            }
            EntryKey::KeyNamed(name) => {
                let value = constant(name)?;
                let key = i64::try_from(value).or_else(|_| u64::try_from(value).map(u64::cast_signed));
                self.get_key(key.map_err(|_| unfit(name, value, "a key"))?)
            }
        }
    }

    /// The value of an enumerator of the program, for an index or a key.
    ///
    /// # Errors
    /// [`ValueError::NoEnumerator`], with names that begin alike.
    pub fn constant(&self, name: &str) -> Result<i128, ValueError> {
        self.scope.constant(self.types.as_ref().map_or(plain(), |types| types), name)
    }

    /// The entry whose key is the number `key`, of the key's width (1, 2, 4 or 8 bytes); for arrays the index.
    ///
    /// # Errors
    /// [`ValueError::NoEntry`], also when the key is not that wide; [`ValueError::Unread`].
    pub fn get_key(&self, key: i64) -> Result<MapEntry<'a>, ValueError> {
        let bytes = key.to_le_bytes();
        let layout = self.layout()?;
        let missing = || self.no_entry(format!("with key {key}"), &layout);
        if layout.keys.is_none() {
            let index = usize::try_from(key).map_err(|_| missing())?;
            return self.entry(&layout, index).ok_or_else(missing);
        }
        let size = self.map.key_size as usize;
        let (wanted, rest) = bytes.split_at_checked(size).ok_or_else(missing)?;
        let fits = rest.iter().all(|&byte| byte == 0) || (rest.iter().all(|&byte| byte == 0xff) && key < 0);
        if !fits {
            return Err(missing());
        }
        self.find_key(&layout, wanted).ok_or_else(missing)
    }

    fn find_key(&self, layout: &Layout<'a>, key: &[u8]) -> Option<MapEntry<'a>> {
        let keys = layout.keys?.chunks_exact((self.map.key_size as usize).max(1));
        let position = keys.take(layout.entries).position(|one| one == key)?;
        self.entry(layout, position)
    }

    fn no_entry(&self, wanted: String, layout: &Layout<'_>) -> ValueError {
        ValueError::NoEntry { map: self.map.name.clone(), wanted, entries: layout.entries }
    }

    /// All entries, in the order of recording.
    ///
    /// # Errors
    /// [`ValueError::Unread`].
    pub fn entries(&self) -> Result<Vec<MapEntry<'a>>, ValueError> {
        let layout = self.layout()?;
        Ok((0..layout.entries).map_while(|position| self.entry(&layout, position)).collect())
    }

    /// The first entry for which `test` holds.
    ///
    /// # Errors
    /// [`ValueError::Unread`], [`ValueError::NoEntry`] when there is none.
    pub fn find(&self, test: impl Fn(&MapEntry<'a>) -> bool) -> Result<MapEntry<'a>, ValueError> {
        let layout = self.layout()?;
        (0..layout.entries)
            .map_while(|position| self.entry(&layout, position))
            .find(test)
            .ok_or_else(|| self.no_entry("for which the condition holds".into(), &layout))
    }

    /// The entries for which `test` holds, in the order of recording; none of them is no error.
    ///
    /// ```
    /// use ktstr_replay::trace::Trace;
    ///
    /// let trace = Trace::open("../traces/steady.trace.zst".as_ref())?;
    /// let captures = trace.periodic();
    /// let capture = captures.snapshots().last().expect("a capture");
    /// let runs = |entry: &ktstr_replay::value::MapEntry<'_>| entry.get("nr_runs").and_then(|nr| nr.as_u64());
    /// let busy = capture.map("task_stats")?.filter(|entry| runs(entry).is_ok_and(|runs| runs > 0))?;
    /// assert!(!busy.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ValueError::Unread`].
    pub fn filter(&self, test: impl Fn(&MapEntry<'a>) -> bool) -> Result<Vec<MapEntry<'a>>, ValueError> {
        Ok(self.entries()?.into_iter().filter(|entry| test(entry)).collect())
    }

    /// The entry with the greatest number at `path` of its value. Entries without a number there are passed over.
    ///
    /// # Errors
    /// [`ValueError::Unread`], [`ValueError::NoEntry`] when no entry has a number there.
    pub fn max_by(&self, path: &(impl AsPath + ?Sized)) -> Result<MapEntry<'a>, ValueError> {
        let path = &*path.steps()?;
        let number = |entry: &MapEntry<'a>| entry.get(path).and_then(|value| value.as_f64()).ok();
        let numbered = self.entries()?.into_iter().filter_map(|entry| Some((number(&entry)?, entry)));
        let greatest = numbered.max_by(|(this, _), (that, _)| this.total_cmp(that));
        match greatest {
            Some((_, entry)) => Ok(entry),
            None => {
                let wanted = format!("with a number at `{}`", path_text(&"", path));
                Err(self.no_entry(wanted, &self.layout()?))
            }
        }
    }

    /// The same, for the value `bytes` of an entry: its parts know where in it they are.
    fn in_map(&self, bytes: &'a [u8]) -> Self {
        Self { scope: Scope { map: Some((self.map.id, bytes)), ..self.scope }, ..self.clone() }
    }

    /// The whole of a key or value. Without a type it is a number, if it has the width of one, and else bytes to be cast.
    fn whole<'b>(&self, type_id: u32, bytes: &'b [u8]) -> Result<Value<'b>, ValueError>
    where
        'a: 'b,
    {
        let value = match (self.map.btf, type_id) {
            (None, _) | (_, 0) => match plain_number(bytes.len()) {
                Some(number) => Value::new(plain(), number, bytes)?,
                None => Value::untyped(bytes),
            },
            _ => Value::new(self.types()?, TypeId(type_id), bytes)?,
        };
        Ok(value.within(self.scope))
    }

    fn value<'b>(&self, type_id: u32, bytes: &'b [u8], what: &str) -> Result<Value<'b>, ValueError>
    where
        'a: 'b,
    {
        let value = self.whole(type_id, bytes)?;
        if value.is_untyped() {
            let why = format!(
                "the map was created without a type for its {what}, and {} bytes are no number: cast them, as in `(struct foo)`",
                bytes.len()
            );
            return Err(ValueError::NoTypes { map: self.map.name.clone(), why });
        }
        Ok(value)
    }
}

/// Entries in `bytes`, of `size` bytes for each of `cpus` CPUs.
fn count(bytes: &[u8], size: usize, cpus: usize) -> usize {
    size.checked_mul(cpus).and_then(|each| bytes.len().checked_div(each)).unwrap_or(0)
}

impl<'a> MapEntry<'a> {
    /// Position among the recorded entries; the index, for arrays.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }

    /// The bytes of the key; `None` for arrays.
    #[must_use]
    pub fn key_bytes(&self) -> Option<&'a [u8]> {
        self.key
    }

    /// The key with its type.
    ///
    /// # Errors
    /// [`ValueError::NoTypes`]; [`ValueError::NoEntry`] for arrays, whose key is [`MapEntry::position`].
    pub fn key(&self) -> Result<Value<'a>, ValueError> {
        let map = self.view.map;
        let Some(key) = self.key else {
            let (map, wanted) =
                (map.name.clone(), "with a recorded key: an array's keys are its indices".into());
            return Err(ValueError::NoEntry { map, wanted, entries: 0 });
        };
        self.view.value(map.key_type_id, key, "keys")
    }

    /// The bytes of the value; of all CPUs one after the other, for per-CPU maps.
    #[must_use]
    pub fn value_bytes(&self) -> &'a [u8] {
        self.values
    }

    /// The value, for maps that have one for all CPUs.
    ///
    /// # Errors
    /// [`ValueError::PerCpu`], [`ValueError::NoTypes`], [`ValueError::Truncated`].
    pub fn value(&self) -> Result<Value<'a>, ValueError> {
        if self.cpus.is_some() {
            return Err(ValueError::PerCpu { map: self.view.map.name.clone() });
        }
        self.view.in_map(self.values).value(self.view.map.value_type_id, self.values, "values")
    }

    /// What is at `path` of the value; the value itself for the empty path. A value without a type is cast first:
    /// `(struct foo)`.
    ///
    /// # Errors
    /// Those of [`MapEntry::value`] and [`Value::path`].
    pub fn get(&self, path: &(impl AsPath + ?Sized)) -> Result<Value<'a>, ValueError> {
        let path = path.steps()?;
        if path.is_empty() { self.value() } else { self.whole(None)?.path(&*path) }
    }

    /// The value that a path begins at: that of one CPU, or of all. It may be without a type.
    pub(crate) fn whole(&self, cpu: Option<Cpu>) -> Result<Value<'a>, ValueError> {
        let bytes = match cpu {
            Some(cpu) => self.bytes_on(cpu)?,
            None if self.cpus.is_some() => {
                return Err(ValueError::PerCpu { map: self.view.map.name.clone() });
            }
            None => self.values,
        };
        self.view.in_map(bytes).whole(self.view.map.value_type_id, bytes)
    }

    /// CPUs that the entry has a value for, ascending; empty for maps that are not per-CPU.
    #[must_use]
    pub fn cpus(&self) -> &'a [Cpu] {
        self.cpus.unwrap_or_default()
    }

    /// The value of one CPU.
    ///
    /// # Errors
    /// [`ValueError::NoCpu`], [`ValueError::NoTypes`], [`ValueError::Truncated`].
    pub fn cpu(&self, cpu: Cpu) -> Result<Value<'a>, ValueError> {
        let bytes = self.bytes_on(cpu)?;
        self.view.in_map(bytes).value(self.view.map.value_type_id, bytes, "values")
    }

    fn bytes_on(&self, cpu: Cpu) -> Result<&'a [u8], ValueError> {
        let size = self.view.map.value_size as usize;
        let position = self.cpus().iter().position(|&one| one == cpu);
        let bytes = position.and_then(|position| {
            let start = position.checked_mul(size)?;
            self.values.get(start..start.checked_add(size)?)
        });
        bytes.ok_or_else(|| self.no_cpu(cpu))
    }

    pub(crate) fn no_cpu(&self, cpu: Cpu) -> ValueError {
        ValueError::NoCpu { map: self.view.map.name.clone(), cpu, cpus: self.cpus().to_vec() }
    }

    /// The numbers at `path` of each CPU's value, in the order of the CPUs.
    ///
    /// # Errors
    /// [`ValueError::NoCpu`] for maps that are not per-CPU; those of [`Value::path`] and [`Value::scalar`].
    pub fn per_cpu(&self, path: &(impl AsPath + ?Sized)) -> Result<Vec<(Cpu, Scalar)>, ValueError> {
        if self.cpus().is_empty() {
            return Err(self.no_cpu(Cpu(0)));
        }
        let path = &*path.steps()?;
        self.cpus().iter().map(|&cpu| Ok((cpu, self.whole(Some(cpu))?.path(path)?.scalar()?))).collect()
    }

    /// The sum over all CPUs of the number at `path`: exact for integers, saturating at 127 bits.
    ///
    /// # Errors
    /// Those of [`MapEntry::per_cpu`].
    pub fn cpu_sum(&self, path: &(impl AsPath + ?Sized)) -> Result<Scalar, ValueError> {
        let numbers = self.per_cpu(path)?;
        let whole: Option<Vec<i128>> = numbers.iter().map(|(_, number)| number.to_i128()).collect();
        Ok(match whole {
            Some(whole) => Scalar::Int(whole.into_iter().fold(0, i128::saturating_add)),
            None => Scalar::Float(numbers.iter().map(|(_, number)| number.to_f64()).sum()),
        })
    }

    /// The CPU with the least number at `path`, and that number.
    ///
    /// # Errors
    /// Those of [`MapEntry::per_cpu`].
    pub fn cpu_min(&self, path: &(impl AsPath + ?Sized)) -> Result<(Cpu, Scalar), ValueError> {
        let numbers = self.per_cpu(path)?;
        let least = numbers.into_iter().min_by(|(_, this), (_, that)| this.order(*that));
        least.ok_or_else(|| self.no_cpu(Cpu(0)))
    }

    /// The CPU with the greatest number at `path`, and that number.
    ///
    /// # Errors
    /// Those of [`MapEntry::per_cpu`].
    pub fn cpu_max(&self, path: &(impl AsPath + ?Sized)) -> Result<(Cpu, Scalar), ValueError> {
        let numbers = self.per_cpu(path)?;
        let greatest = numbers.into_iter().max_by(|(_, this), (_, that)| this.order(*that));
        greatest.ok_or_else(|| self.no_cpu(Cpu(0)))
    }
}
