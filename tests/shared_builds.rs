//! Nothing of this workspace is compiled twice: what `cargo ktstr` is built of, and what the tests build by it, is what `cargo test
//! --workspace` builds. A dependency with other features in one of them would have all above it compiled once more.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use ktstr_tests::{run_bounded, target_folder};
use serde_json::Value;

/// Longer than cargo takes to look at its packages, also while it waits for one that builds.
const LIMIT: Duration = Duration::from_secs(1800);

/// What cargo would build, given these words, as it tells it: each unit names others by their index.
fn graph(words: &str) -> Value {
    let mut command = Command::new("cargo");
    command.args(words.split(' ')).args(["--locked", "-Z", "unstable-options", "--unit-graph"]);
    // The graph is for those who develop cargo, who have it say more than its releases do.
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env("RUSTC_BOOTSTRAP", "1");
    let ended = run_bounded(command.env("CARGO_TARGET_DIR", target_folder()), LIMIT);
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended}"))
}

/// The units that a unit is made of.
fn made_of(unit: &Value) -> impl Iterator<Item = usize> {
    let dependencies = unit["dependencies"].as_array().into_iter().flatten();
    dependencies.filter_map(|of| usize::try_from(of["index"].as_u64()?).ok())
}

/// What cargo would build, given these words, each with its features, profile and dependencies.
fn units(words: &str) -> BTreeSet<String> {
    let graph = graph(words);
    let units = graph["units"].as_array().expect("units");
    let own = |unit: &Value| {
        let mut profile = unit["profile"].clone();
        // `test` is `dev` by another name.
        profile.as_object_mut().expect("a profile").remove("name");
        let keys = ["pkg_id", "target", "mode", "platform", "features"];
        format!("{} {profile}", keys.map(|key| unit[key].to_string()).join(" "))
    };
    let with_dependencies = |unit: &Value| {
        let dependencies: BTreeSet<String> =
            made_of(unit).filter_map(|index| units.get(index)).map(own).collect();
        format!("{} of {dependencies:?}", own(unit))
    };
    units.iter().map(with_dependencies).collect()
}

#[test]
fn what_is_built_for_a_part_is_what_is_built_for_all() {
    let all = units("test --workspace --no-run");
    for words in [
        "build -p ktstr --bin cargo-ktstr",
        "test -p ktstr-tests --no-run",
        "test -p ktstr-tests --test demo --no-run",
    ] {
        let part = units(words);
        assert!(part.len() > 100, "cargo {words}: {part:?}");
        let other: Vec<_> = part.difference(&all).collect();
        assert!(other.is_empty(), "cargo {words} builds anew:\n{other:#?}");
    }
}

/// Else how cargo compiles such a unit depends on what else is built, by rules that its graph does not tell of.
#[test]
fn programs_and_macros_are_made_of_different_units() {
    let graph = graph("test --workspace --no-run");
    let units = graph["units"].as_array().expect("units");
    let is_for_compiling = |unit: &Value| {
        let kinds = unit["target"]["kind"].as_array().into_iter().flatten().filter_map(Value::as_str);
        kinds.into_iter().any(|kind| kind == "proc-macro" || kind == "custom-build")
    };
    let below = |from: Vec<usize>, passes: &dyn Fn(&Value) -> bool| {
        let (mut seen, mut next) = (BTreeSet::new(), from);
        while let Some(index) = next.pop() {
            if passes(&units[index]) && seen.insert(index) {
                next.extend(made_of(&units[index]));
            }
        }
        seen
    };
    let all = || units.iter().enumerate();
    let macros = all().filter(|(_, unit)| is_for_compiling(unit)).map(|(index, _)| index).collect();
    let for_compiling = below(macros, &|_| true);
    let roots = graph["roots"].as_array().into_iter().flatten();
    let roots = roots.filter_map(|root| usize::try_from(root.as_u64()?).ok()).collect();
    let of_programs = below(roots, &|unit| !is_for_compiling(unit));
    assert!(for_compiling.len() > 10 && of_programs.len() > 100, "{for_compiling:?} {of_programs:?}");
    let both: Vec<&Value> =
        for_compiling.intersection(&of_programs).map(|index| &units[*index]["pkg_id"]).collect();
    assert!(both.is_empty(), "{both:#?}");
}
