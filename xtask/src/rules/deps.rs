//! Who may depend on whom. Reads `cargo metadata`: the manifests for arrows between our crates, the resolved graph for
//! what a crate pulls in through others. Dev-dependencies are free: a test may use what the product may not.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::Value;

/// Our packages and their level. An arrow goes to a lower level, or is one of [`WITHIN_LEVEL`].
const LEVELS: &[(&str, u8)] = &[
    ("whit-base", 0),
    ("whit-files", 1),
    ("whit-text", 1),
    ("whit-cpu", 1),
    ("whit-gpu", 1),
    ("whit-models", 2),
    ("whit-sample", 2),
    ("whit-engine", 3),
    ("whit-train", 3),
    ("whit-shrink", 3),
    ("whit-judge", 3),
    ("whit-ground", 3),
    ("whit-route", 3),
    ("whit-hub", 3),
    ("whit", 4),
    ("whit-server", 4),
    ("whit-wasm", 4),
    ("whit-py", 4),
];

/// Arrows inside a level: those who use the engine, and the program that starts the server.
const WITHIN_LEVEL: &[(&str, &str)] = &[
    ("whit-train", "whit-engine"),
    ("whit-shrink", "whit-engine"),
    ("whit-judge", "whit-engine"),
    ("whit-ground", "whit-engine"),
    ("whit-route", "whit-engine"),
    ("whit", "whit-server"),
];

/// A package, what it must not contain even through others, and why.
const CLOSED: &[(&str, &[&str], &str)] = &[
    ("whit-base", FILE_FORMATS, "base knows no file format"),
    ("whit-models", &["whit-cpu", "whit-gpu"], "models know no backend"),
    ("whit-engine", HTTP, "the engine speaks no HTTP"),
];

const FILE_FORMATS: &[&str] = &["memmap2", "serde_json", "safetensors", "zip", "toml"];
const HTTP: &[&str] = &["axum", "h2", "http", "hyper", "reqwest", "rustls", "tower-http", "ureq"];

/// A library that only these packages may contain, even through others.
const RESERVED: &[(&str, &[&str])] = &[("tokio", &["whit-server", "whit", "whit-hub"])];

/// A library that only these packages may use themselves.
const RESERVED_DIRECTLY: &[(&str, &[&str])] = &[("anyhow", &["whit", "xtask"])];

/// Every breach, one line each.
pub(crate) fn check(metadata: &Value) -> Vec<String> {
    let graph = Graph::read(metadata);
    let mut breaches = Vec::new();
    for (package, direct) in &graph.members {
        check_arrows(package, direct, &mut breaches);
        for (_, names, why) in CLOSED.iter().filter(|rule| rule.0 == package) {
            let ways = names.iter().filter_map(|name| graph.way(package, name, &[]));
            breaches.extend(ways.map(|way| format!("{way}: {why}")));
        }
        for (name, owners) in RESERVED.iter().filter(|rule| !rule.1.contains(&package.as_str())) {
            // An owner may bring it in; what counts is a way that passes through none.
            let way = graph.way(package, name, owners);
            breaches.extend(way.map(|way| format!("{way}: only {} may contain {name}", owners.join(", "))));
        }
        for (name, owners) in RESERVED_DIRECTLY {
            if direct.contains(*name) && !owners.contains(&package.as_str()) {
                breaches.push(format!("{package} -> {name}: only {} may use {name}", owners.join(", ")));
            }
        }
    }
    breaches
}

fn check_arrows(package: &str, direct: &BTreeSet<String>, breaches: &mut Vec<String>) {
    let level = |name: &str| LEVELS.iter().find(|entry| entry.0 == name).map(|entry| entry.1);
    let ours = direct.iter().filter(|name| level(name).is_some() || name.starts_with("whit"));
    if package == "xtask" {
        breaches.extend(
            ours.map(|name| format!("xtask depends on {name}: it must build before the product does")),
        );
        return;
    }
    let Some(from) = level(package) else {
        breaches.push(format!("{package} has no level: give it one in xtask/src/rules/deps.rs"));
        return;
    };
    for name in ours {
        let is_down = level(name).is_some_and(|to| to < from);
        if !is_down && !WITHIN_LEVEL.contains(&(package, name)) {
            breaches.push(format!("{package} depends on {name}: arrows go down only"));
        }
    }
}

/// Packages by name. Two versions of a library count as one.
struct Graph {
    /// Members of the workspace, with the names of their normal and build dependencies.
    members: BTreeMap<String, BTreeSet<String>>,
    /// The same for every package that was resolved.
    resolved: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    fn read(metadata: &Value) -> Self {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let packages = list(&metadata["packages"]);
        let names: BTreeMap<String, String> =
            packages.iter().map(|package| (text(&package["id"]), text(&package["name"]))).collect();
        let in_workspace: BTreeSet<String> = list(&metadata["workspace_members"]).iter().map(text).collect();
        let mut members = BTreeMap::new();
        for package in packages.iter().filter(|package| in_workspace.contains(&text(&package["id"]))) {
            let counted =
                list(&package["dependencies"]).into_iter().filter(|dependency| dependency["kind"] != "dev");
            let names = counted.map(|dependency| text(&dependency["name"])).collect();
            members.insert(text(&package["name"]), names);
        }
        let mut resolved: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in list(&metadata["resolve"]["nodes"]) {
            let Some(from) = names.get(&text(&node["id"])) else { continue };
            let to = resolved.entry(from.clone()).or_default();
            for dependency in list(&node["deps"]) {
                let is_normal = list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
                if let (true, Some(name)) = (is_normal, names.get(&text(&dependency["pkg"]))) {
                    to.insert(name.clone());
                }
            }
        }
        Self { members, resolved }
    }

    /// The shortest way from a package to another one that it contains, as `a -> b -> c`, through none of `closed`.
    fn way(&self, package: &str, goal: &str, closed: &[&str]) -> Option<String> {
        let mut seen = BTreeSet::new();
        let mut queue = VecDeque::from([vec![package]]);
        while let Some(way) = queue.pop_front() {
            let last = *way.last()?;
            if last == goal {
                return Some(way.join(" -> "));
            }
            for next in self.resolved.get(last).into_iter().flatten() {
                if !closed.contains(&next.as_str()) && seen.insert(next) {
                    queue.push_back(way.iter().copied().chain([next.as_str()]).collect());
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Metadata of packages and their dependencies, `name` or `name:kind`. Those called whit or xtask are members.
    fn metadata(packages: &[(&str, &[&str])]) -> Value {
        let kind_of = |entry: &str| match entry.split_once(':') {
            Some((name, kind)) => (name.to_owned(), json!(kind)),
            None => (entry.to_owned(), Value::Null),
        };
        let members: Vec<&str> = packages
            .iter()
            .map(|entry| entry.0)
            .filter(|name| name.starts_with("whit") || *name == "xtask")
            .collect();
        let manifests: Vec<Value> = packages
            .iter()
            .map(|(name, dependencies)| {
                let list: Vec<Value> = dependencies
                    .iter()
                    .map(|entry| kind_of(entry))
                    .map(|(name, kind)| json!({"name": name, "kind": kind}))
                    .collect();
                json!({"id": name, "name": name, "dependencies": list})
            })
            .collect();
        let nodes: Vec<Value> = packages
            .iter()
            .map(|(name, dependencies)| {
                let list: Vec<Value> = dependencies
                    .iter()
                    .map(|entry| kind_of(entry))
                    .map(|(name, kind)| json!({"pkg": name, "dep_kinds": [{"kind": kind}]}))
                    .collect();
                json!({"id": name, "deps": list})
            })
            .collect();
        json!({"packages": manifests, "workspace_members": members, "resolve": {"nodes": nodes}})
    }

    fn check_packages(packages: &[(&str, &[&str])], expected: &[&str]) {
        assert_eq!(check(&metadata(packages)), expected, "{packages:?}");
    }

    #[test]
    fn what_is_allowed() {
        check_packages(
            &[
                ("whit-base", &["half"]),
                ("whit-files", &["whit-base", "memmap2", "whit-text:dev", "anyhow:dev"]),
                ("whit-models", &["whit-base", "whit-files"]),
                ("whit-engine", &["whit-models", "whit-cpu"]),
                ("whit-cpu", &["whit-base"]),
                ("whit-judge", &["whit-engine"]),
                ("whit-hub", &["tokio", "ureq", "whit-sample"]),
                ("whit-sample", &["grammar"]),
                ("grammar", &["anyhow"]),
                ("whit-server", &["whit-engine", "axum", "tokio"]),
                ("whit", &["whit-server", "whit-hub", "anyhow"]),
                ("xtask", &["anyhow"]),
                ("axum", &["tokio", "http"]),
                ("memmap2", &[]),
                ("tokio", &[]),
                ("anyhow", &[]),
                ("http", &[]),
                ("half", &[]),
                ("ureq", &[]),
                ("whit-text", &["whit-base"]),
            ],
            &[],
        );
    }

    #[test]
    fn what_is_not() {
        check_packages(
            &[("whit-text", &["whit-files"]), ("whit-files", &[])],
            &["whit-text depends on whit-files: arrows go down only"],
        );
        check_packages(
            &[("whit-base", &["whit-cpu"]), ("whit-cpu", &[])],
            &["whit-base depends on whit-cpu: arrows go down only"],
        );
        check_packages(
            &[("whit-engine", &["whit-judge:build"]), ("whit-judge", &[])],
            &["whit-engine depends on whit-judge: arrows go down only"],
        );
        check_packages(
            &[("whit-new", &[])],
            &["whit-new has no level: give it one in xtask/src/rules/deps.rs"],
        );
        check_packages(
            &[("xtask", &["whit-hub"]), ("whit-hub", &[])],
            &["xtask depends on whit-hub: it must build before the product does"],
        );
        check_packages(
            &[("whit-base", &["bytes"]), ("bytes", &["serde_json"]), ("serde_json", &[])],
            &["whit-base -> bytes -> serde_json: base knows no file format"],
        );
        check_packages(
            &[("whit-models", &["whit-cpu"]), ("whit-cpu", &["whit-base"]), ("whit-base", &[])],
            &["whit-models -> whit-cpu: models know no backend"],
        );
        check_packages(
            &[("whit-engine", &["client"]), ("client", &["http"]), ("http", &[])],
            &["whit-engine -> client -> http: the engine speaks no HTTP"],
        );
        check_packages(
            &[("whit-judge", &["runner"]), ("runner", &["tokio"]), ("tokio", &[])],
            &["whit-judge -> runner -> tokio: only whit-server, whit, whit-hub may contain tokio"],
        );
        check_packages(
            &[("whit-sample", &["anyhow"]), ("anyhow", &[])],
            &["whit-sample -> anyhow: only whit, xtask may use anyhow"],
        );
    }
}
