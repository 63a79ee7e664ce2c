//! Modules import downwards and never in a circle (docs/architecture.md).
//!
//! Read from the sources: every path that begins with `crate`, `super` or `self`, in `use`
//! declarations and elsewhere, outside tests. A name that a module re-exports counts as the module
//! that it comes from. What a folder's `mod.rs` shares with the files below it is one idea and no edge.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Modules of `src` from the bottom to the top: each may import those on lines before its own.
const ORDER: &[&[&str]] = &[
    &["check", "display", "error", "random", "secret", "process", "device", "number", "version"],
    &["durable", "http", "manifests", "progress", "toml_file"],
    &["graph"],
    &["data", "text"],
    &["model", "export", "replay"],
    &["generators"],
    &["records"],
    &["report"],
    &["evaluate"],
    &["claims"],
    &["run"],
    &["cli"],
];

/// A module's path below `src`: `["graph", "call"]`; empty for `lib.rs`.
type Module = Vec<String>;

/// A source file without comments and tests.
struct Source {
    code: String,
    /// Names that paths through this module can mean: name to path from the root.
    names: BTreeMap<String, Vec<String>>,
}

fn module_of(path: &str) -> Module {
    let mut parts: Module = path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if parts.last().is_some_and(|last| matches!(last.as_str(), "mod" | "lib")) {
        parts.pop();
    }
    parts
}

fn files_below(dir: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files_below(&path, found) } else { found.push(path) }
    }
}

/// The text without line comments, and without its test module at the end.
fn code_of(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Modules that `code` declares for tests only.
fn test_modules(code: &str) -> Vec<String> {
    let after = code.split("#[cfg(test)]").skip(1);
    let declared = after.filter_map(|rest| {
        let rest = rest.trim_start();
        let rest = match rest.strip_prefix("#[path") {
            Some(rest) => rest.split_once(']')?.1.trim_start(),
            None => rest,
        };
        let name = rest.trim_start_matches("pub ").strip_prefix("mod ")?.split_once(';')?.0;
        name.chars().all(|c| c.is_alphanumeric() || c == '_').then(|| name.to_owned())
    });
    declared.collect()
}

/// `a::{b, c::d as e}` as its single paths with the names that they get.
fn expand(tree: &str, prefix: &[String], found: &mut Vec<(Vec<String>, String)>) {
    let (mut depth, mut start) = (0, 0);
    let mut parts = Vec::new();
    for (place, c) in tree.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&tree[start..place]);
                start = place + 1;
            }
            _ => {}
        }
    }
    parts.push(&tree[start..]);
    for part in parts.into_iter().map(str::trim).filter(|part| !part.is_empty()) {
        let mut path = prefix.to_vec();
        if let Some((head, inside)) = part.split_once('{') {
            let head = head.trim_end_matches("::").split("::").filter(|s| !s.is_empty());
            path.extend(head.map(str::to_owned));
            expand(inside.trim_end().trim_end_matches('}'), &path, found);
            continue;
        }
        let (part, name) = part.split_once(" as ").map_or((part, None), |(p, n)| (p, Some(n)));
        path.extend(
            part.split("::").filter(|s| *s != "self" || prefix.is_empty()).map(str::to_owned),
        );
        let name = name.unwrap_or(path.last().map_or("", String::as_str)).to_owned();
        found.push((path, name));
    }
}

/// The path from the root of a path that stands in `module`; `None` for one of another crate.
fn absolute(module: &Module, path: &[String]) -> Option<Vec<String>> {
    let (first, rest) = path.split_first()?;
    match first.as_str() {
        "crate" => Some(rest.to_vec()),
        "self" => Some([module.as_slice(), rest].concat()),
        "super" => {
            let ups = path.iter().take_while(|part| *part == "super").count();
            let parent = &module[..module.len().checked_sub(ups)?];
            Some([parent, &path[ups..]].concat())
        }
        _ => None,
    }
}

/// All paths in `code`: those of `use` declarations with the names that they bring, and others.
fn paths(code: &str) -> Vec<(Vec<String>, Option<String>)> {
    let mut found = Vec::new();
    let mut rest = String::new();
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        let declaration =
            line.trim_start().trim_start_matches("pub(super) ").trim_start_matches("pub(crate) ");
        let Some(tree) = declaration.trim_start_matches("pub ").strip_prefix("use ") else {
            rest.push_str(line);
            rest.push('\n');
            continue;
        };
        let mut tree = tree.to_owned();
        while !tree.contains(';') {
            tree.push_str(lines.next().expect("a `use` ends"));
        }
        let mut single = Vec::new();
        expand(tree.split(';').next().unwrap_or_default(), &[], &mut single);
        found.extend(single.into_iter().map(|(path, name)| (path, Some(name))));
    }
    for start in ["crate::", "super::", "self::"] {
        for (place, _) in rest.match_indices(start) {
            let before = rest[..place].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let path =
                rest[place..].split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
            let path = path.into_iter().next().unwrap_or_default().trim_end_matches(':');
            found.push((path.split("::").map(str::to_owned).collect(), None));
        }
    }
    found
}

fn sources() -> BTreeMap<Module, Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    files_below(&root, &mut files);
    let mut sources = BTreeMap::new();
    let mut tests = BTreeSet::from([vec!["main".to_owned()]]);
    for file in files.iter().filter(|file| file.extension().is_some_and(|e| e == "rs")) {
        let name = file.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
        let module = module_of(&name);
        let text = std::fs::read_to_string(file).unwrap();
        for name in test_modules(&text) {
            let folder =
                if name_is_file(&name, file) { &module[..module.len() - 1] } else { &module };
            tests.insert([folder, &[name]].concat());
        }
        sources.insert(module, Source { code: code_of(&text), names: BTreeMap::new() });
    }
    sources.retain(|module, _| !(0..=module.len()).any(|end| tests.contains(&module[..end])));
    let modules: BTreeSet<Module> = sources.keys().cloned().collect();
    for (module, source) in &mut sources {
        for (path, name) in paths(&source.code) {
            // A path without `crate`, `super` or `self` may begin with a module of this one.
            let child = || modules.contains(&[module.as_slice(), &path[..1]].concat());
            let own = || child().then(|| [module.as_slice(), &path].concat());
            if let (Some(target), Some(name)) = (absolute(module, &path).or_else(own), name) {
                source.names.insert(name, target);
            }
        }
    }
    sources
}

/// Whether a test module that `file` declares lies beside it (by `#[path]`) and not below it.
fn name_is_file(name: &str, file: &Path) -> bool {
    let is_folder = file.file_name().is_some_and(|f| f == "mod.rs" || f == "lib.rs");
    !is_folder && file.with_file_name(format!("{name}.rs")).exists()
}

/// The module in which the item at `path` is declared.
fn declared_in(sources: &BTreeMap<Module, Source>, path: &[String], steps: usize) -> Module {
    let mut end = path.len();
    while end > 0 && !sources.contains_key(&path[..end]) {
        end -= 1;
    }
    let module = path[..end].to_vec();
    let exported = path.get(end).and_then(|name| sources.get(&module)?.names.get(name));
    match exported {
        Some(target) if steps < 8 && target != path => {
            declared_in(sources, &[target, &path[end + 1..]].concat(), steps + 1)
        }
        _ => module,
    }
}

/// Edges between the modules of each folder, with one file that makes each.
fn edges(
    sources: &BTreeMap<Module, Source>,
) -> BTreeMap<Module, BTreeMap<(String, String), String>> {
    let mut folders: BTreeMap<Module, BTreeMap<(String, String), String>> = BTreeMap::new();
    for (module, source) in sources {
        for (path, _) in paths(&source.code) {
            let Some(path) = absolute(module, &path) else { continue };
            let target = declared_in(sources, &path, 0);
            let shared = module.iter().zip(&target).take_while(|(a, b)| a == b).count();
            if let (Some(from), Some(to)) = (module.get(shared), target.get(shared)) {
                let why = format!("{} uses {}", module.join("/"), path.join("::"));
                let folder = folders.entry(module[..shared].to_vec()).or_default();
                folder.entry((from.clone(), to.clone())).or_insert(why);
            }
        }
    }
    folders
}

#[test]
fn modules_import_downwards() {
    let sources = sources();
    let rank = |name: &str| ORDER.iter().position(|level| level.contains(&name));
    let missing: Vec<&Module> = sources
        .keys()
        .filter(|module| module.first().is_some_and(|top| rank(top).is_none()))
        .collect();
    assert!(missing.is_empty(), "modules without a place in ORDER: {missing:?}");
    let edges = edges(&sources);
    let upwards: Vec<&String> = edges[&Vec::new()]
        .iter()
        .filter(|((from, to), _)| rank(from) <= rank(to))
        .map(|(_, why)| why)
        .collect();
    assert!(upwards.is_empty(), "{upwards:#?}");
}

#[test]
fn modules_of_a_folder_import_in_no_circle() {
    for (folder, edges) in edges(&sources()) {
        let mut nodes: BTreeSet<&String> = edges.keys().flat_map(|(from, to)| [from, to]).collect();
        // Whatever imports none of the others that are left is taken away.
        while let Some(&free) =
            nodes.iter().find(|from| !edges.keys().any(|(f, to)| f == **from && nodes.contains(to)))
        {
            nodes.remove(free);
        }
        let circle: Vec<&String> = edges
            .iter()
            .filter(|((from, to), _)| nodes.contains(from) && nodes.contains(to))
            .map(|(_, why)| why)
            .collect();
        assert!(circle.is_empty(), "a circle in src/{}: {circle:#?}", folder.join("/"));
    }
}

#[test]
fn paths_are_read_as_rust_reads_them() {
    let code =
        "use crate::a::{self, b::C, d as e};\npub use super::f;\nlet x = crate::g::H::new();\n";
    let found = paths(code);
    let joined: Vec<(String, Option<String>)> =
        found.into_iter().map(|(path, name)| (path.join("::"), name)).collect();
    let some = |name: &str| Some(name.to_owned());
    let expected = [
        ("crate::a", some("a")),
        ("crate::a::b::C", some("C")),
        ("crate::a::d", some("e")),
        ("super::f", some("f")),
        ("crate::g::H::new", None),
    ];
    assert_eq!(joined, expected.map(|(path, name)| (path.to_owned(), name)));
    let sources = sources();
    let of = |path: &str| {
        let path: Vec<String> = path.split("::").map(str::to_owned).collect();
        declared_in(&sources, &path, 0).join("/")
    };
    assert_eq!(of("graph::CallGraph"), "graph/call_graph");
    assert_eq!(of("error::UserError"), "error");
}
