//! The only arrows between rooms, compared in both directions with what the crates declare: a
//! dependency that is no arrow is refused, and so is an arrow that nobody uses any more.
//!
//! What a pure room may not depend on is checked here too; its `.clippy.toml` then keeps it from
//! what the standard library offers. Dev-dependencies are free: tests may look anywhere.

use std::collections::BTreeSet;

use serde_json::Value;

/// The complete list: who may see whom.
const ARROWS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("wire", &["model"]),
    ("consensus", &["model"]),
    ("machine", &["model", "wire"]),
    ("storage", &["model"]),
    ("telemetry", &["model"]),
    ("node", &["model", "consensus", "machine", "storage", "telemetry"]),
    ("broker", &["model", "node", "wire", "telemetry"]),
    ("server", &["model", "node", "broker", "telemetry"]),
    ("sim", &["model", "node", "consensus", "machine", "storage", "telemetry"]),
    ("xtask", &[]),
    ("client-rdkafka", &[]),
    ("client-rskafka", &[]),
    ("collector", &[]),
    ("decoders", &["model", "wire", "consensus", "storage", "node"]),
];

/// Arrows that are open but need not be walked: `sim` may see whatever `node` sees, and
/// everyone may see `model`.
const MAY: &[(&str, &str)] =
    &[("sim", "telemetry"), ("sim", "machine"), ("sim", "storage"), ("sim", "consensus")];

/// Rooms without clocks, locks, randomness, async, files of their own choosing and logging.
const PURE: &[&str] = &["model", "wire", "consensus", "machine", "storage"];

/// Packages that would bring those in.
const IMPURE_PACKAGES: &[&str] = &[
    "tokio",
    "tokio-stream",
    "async-trait",
    "futures",
    "parking_lot",
    "rand",
    "fastrand",
    "chrono",
    "time",
    "tracing",
    "log",
    "tonic",
];

/// Compares `packages` (of `cargo metadata`) with the list.
pub fn check(packages: &[Value]) -> Result<String, String> {
    let declared = declared(packages);
    let rooms: BTreeSet<&str> = packages.iter().filter_map(|p| p["name"].as_str()).collect();
    let mut wrong = Vec::new();
    for room in &rooms {
        if !ARROWS.iter().any(|(name, _)| name == room) {
            wrong.push(format!("{room} is not in the list of rooms"));
        }
    }
    for (room, may) in ARROWS {
        if !rooms.contains(room) {
            wrong.push(format!("{room} is in the list of rooms but does not exist"));
        }
        let uses: BTreeSet<&str> =
            of(&declared, room).filter(|name| rooms.contains(name)).collect();
        for other in &uses {
            if !may.contains(other) {
                wrong.push(format!("{room} -> {other} is no arrow of the house"));
            }
        }
        for other in *may {
            let free = *other == "model" || MAY.contains(&(room, other));
            if !uses.contains(other) && !free {
                wrong.push(format!("{room} -> {other} is an arrow that nobody walks"));
            }
        }
    }
    for room in PURE {
        for name in of(&declared, room).filter(|name| IMPURE_PACKAGES.contains(name)) {
            wrong.push(format!("{room} is pure and may not depend on {name}"));
        }
    }
    if wrong.is_empty() {
        Ok(format!("{} crates", rooms.len()))
    } else {
        Err(wrong.join("\n      "))
    }
}

/// (package, dependency) of every normal and build dependency.
fn declared(packages: &[Value]) -> BTreeSet<(&str, &str)> {
    let mut found = BTreeSet::new();
    for package in packages {
        let Some(name) = package["name"].as_str() else {
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            if let (Some(on), false) =
                (dependency["name"].as_str(), dependency["kind"].as_str() == Some("dev"))
            {
                found.insert((name, on));
            }
        }
    }
    found
}

fn of<'a>(
    declared: &'a BTreeSet<(&'a str, &'a str)>,
    room: &'a str,
) -> impl Iterator<Item = &'a str> {
    declared.iter().filter(move |(from, _)| *from == room).map(|(_, to)| *to)
}

#[cfg(test)]
mod tests {
    use super::{ARROWS, MAY, check};
    use serde_json::{Value, json};

    /// The house as the list draws it.
    fn house() -> Vec<Value> {
        let package = |(name, may): &(&str, &[&str])| {
            let on: Vec<Value> = may
                .iter()
                .filter(|other| !MAY.contains(&(name, other)))
                .map(|other| json!({"name": other, "kind": null}))
                .collect();
            json!({"name": name, "dependencies": on})
        };
        ARROWS.iter().map(package).collect()
    }

    fn add(house: &mut [Value], room: &str, dependency: Value) {
        let found = house.iter_mut().find(|p| p["name"] == room);
        found.expect("a room")["dependencies"].as_array_mut().expect("an array").push(dependency);
    }

    #[test]
    fn the_drawn_house_stands() {
        check(&house()).expect("the list agrees with itself");
    }

    #[test]
    fn a_new_arrow_is_refused_unless_only_tests_walk_it() {
        let mut house = house();
        add(&mut house, "consensus", json!({"name": "telemetry", "kind": "dev"}));
        check(&house).expect("tests may look anywhere");
        add(&mut house, "consensus", json!({"name": "telemetry", "kind": null}));
        let error = check(&house).expect_err("a planted arrow");
        assert!(error.contains("consensus -> telemetry is no arrow"));
    }

    #[test]
    fn an_arrow_that_nobody_walks_is_reported() {
        let mut house = house();
        let broker = house.iter_mut().find(|p| p["name"] == "broker");
        broker.expect("a room")["dependencies"] = json!([{"name": "node", "kind": null}]);
        let error = check(&house).expect_err("a planted absence");
        assert!(error.contains("broker -> wire is an arrow that nobody walks"));
    }

    #[test]
    fn pure_rooms_refuse_runtimes_and_the_list_knows_every_room() {
        let mut house = house();
        add(&mut house, "machine", json!({"name": "tokio", "kind": null}));
        house.push(json!({"name": "shed", "dependencies": []}));
        let error = check(&house).expect_err("both planted");
        assert!(error.contains("machine is pure and may not depend on tokio"));
        assert!(error.contains("shed is not in the list"));
    }
}
