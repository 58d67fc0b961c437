//! Variables and maps where there are several schedulers.

use super::*;
use crate::trace::record::{SchedulerMaps, ScxState};

/// The maps of `sections`, once more with other ids and contents: those of a second scheduler of the same source.
fn two_schedulers(f: &Fixture) -> (Sample, MapOwners) {
    let mut maps = sections(f);
    for map in sections(f) {
        let MapContents::Array { mut values } = map.contents else { continue };
        values[0] = values[0].wrapping_add(1);
        maps.push(MapState { id: map.id + 10, contents: MapContents::Array { values }, ..map });
    }
    let one = |scheduler: &str, level, cgroup: &str, maps: &[u32]| {
        let (scheduler, cgroup) = (scheduler.to_owned(), cgroup.to_owned());
        SchedulerMaps { scheduler, level, cgroup, maps: maps.to_vec() }
    };
    // A third one, which had gone before.
    let owners =
        vec![one("demo", 0, "/", &[1, 2]), one("demo", 1, "/a", &[11, 12]), one("other", 1, "/b", &[21])];
    (sample(maps), MapOwners::new(owners))
}

#[test]
fn a_scheduler_of_several_is_named_by_its_cgroup_or_its_name() {
    let f = fixture();
    let (sample, owners) = two_schedulers(&f);
    let blobs = OneBlob(f.types.clone());
    let snapshot = Snapshot::new(&sample, &blobs).with_owners(&owners);
    let value = |name: &str, path: &str| {
        let its = snapshot.of_scheduler(name).map_err(|error| error.to_string())?;
        its.var(path).and_then(|value| value.as_u64()).map_err(|error| error.to_string())
    };
    assert_eq!(value("/", "nr_dispatched"), Ok(5));
    assert_eq!(value("/a", "demo.bss.nr_dispatched"), Ok(6));
    assert_eq!(value("demo on /a", "nr_dispatched"), Ok(6));
    assert_eq!(
        value("demo", "nr_dispatched").unwrap_err(),
        "several schedulers are called `demo`: write `scheduler(/)` or `scheduler(/a)`"
    );
    let gone = value("/b", "nr_dispatched").unwrap_err();
    assert!(gone.starts_with("there is no scheduler `/b`"), "{gone}");
    assert_eq!(
        snapshot.var("nr_dispatched").unwrap_err().to_string(),
        "`nr_dispatched` is in several data sections: write scheduler(/).demo.bss.nr_dispatched or \
         scheduler(/a).demo.bss.nr_dispatched"
    );
    assert_eq!(
        snapshot.map("demo.bss").map(drop).unwrap_err().to_string(),
        "there are several maps `demo.bss`, of ids [1, 11]: write scheduler(/).map(demo.bss) or \
         scheduler(/a).map(demo.bss)"
    );
    let its = snapshot.of_scheduler("/a").unwrap();
    assert_eq!(its.map("demo.bss").unwrap().state().id, 11);
    assert_eq!(its.maps().count(), 2);
    assert_eq!(snapshot.scheduler_of(12).as_deref(), Some("demo on /a"));
    let names: Vec<String> = snapshot.vars().into_iter().map(|(name, _)| name).collect();
    assert!(names.contains(&"demo.bss.nr_dispatched".to_owned()), "{names:?}");
    assert!(names.contains(&"scheduler(/a).demo.bss.nr_dispatched".to_owned()), "{names:?}");
    assert_eq!(names.len(), 10);
}

#[test]
fn the_only_scheduler_has_all_maps() {
    let f = fixture();
    let mut sample = sample(sections(&f));
    let blobs = OneBlob(f.types.clone());
    let of = |sample: &Sample, name: &str| {
        let snapshot = Snapshot::new(sample, &blobs);
        let its = snapshot.of_scheduler(name).map_err(|error| error.to_string())?;
        its.var("nr_dispatched").and_then(|value| value.as_u64()).map_err(|error| error.to_string())
    };
    // There is none.
    assert_eq!(of(&sample, "/").unwrap_err(), "there is no scheduler `/`; there is nothing to choose from");
    sample.scx = Some(ScxState { ops_name: Some("demo".into()), ..ScxState::default() });
    assert_eq!((of(&sample, "/"), of(&sample, "demo")), (Ok(5), Ok(5)));
    assert!(of(&sample, "/a").unwrap_err().contains("there are: /, demo"));
}
