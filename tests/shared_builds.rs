//! Nothing of this workspace is compiled twice: what `cargo ktstr` is built of, and what the tests build by it, is what `cargo test
//! --workspace` builds. A dependency with other features in one of them would have all above it compiled once more.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use ktstr_tests::{run_bounded, target_folder};
use serde_json::Value;

/// Longer than cargo takes to look at its packages, also while it waits for one that builds.
const LIMIT: Duration = Duration::from_secs(1800);

/// What cargo would build, given these words, each with its features, profile and dependencies.
fn units(words: &str) -> BTreeSet<String> {
    let mut command = Command::new("cargo");
    command.args(words.split(' ')).args(["--locked", "-Z", "unstable-options", "--unit-graph"]);
    // The graph is for those who develop cargo, who have it say more than its releases do.
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env("RUSTC_BOOTSTRAP", "1");
    let ended = run_bounded(command.env("CARGO_TARGET_DIR", target_folder()), LIMIT);
    let graph: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended}"));
    let units = graph["units"].as_array().expect("units");
    let own = |unit: &Value| {
        let mut profile = unit["profile"].clone();
        // `test` is `dev` by another name.
        profile.as_object_mut().expect("a profile").remove("name");
        let keys = ["pkg_id", "target", "mode", "platform", "features"];
        format!("{} {profile}", keys.map(|key| unit[key].to_string()).join(" "))
    };
    let with_dependencies = |unit: &Value| {
        let indices =
            unit["dependencies"].as_array().into_iter().flatten().filter_map(|of| of["index"].as_u64());
        let dependencies: BTreeSet<String> =
            indices.filter_map(|index| units.get(usize::try_from(index).ok()?)).map(own).collect();
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
