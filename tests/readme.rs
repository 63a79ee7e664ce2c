//! The tables of documents and the index of results are what the committed results give.

use std::path::Path;

use tracegym::report::splice::splice;

#[test]
fn tables_in_documents_are_generated_from_committed_results() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (document, tables) in [("README.md", 1), ("docs/findings.md", 10)] {
        let path = root.join(document);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches("<!-- table\n").count(), tables, "{document}");
        let renewed = splice(&path, &text, root).unwrap();
        assert!(renewed == text, "`tracegym report --splice {document}` renews it");
    }
}

#[test]
fn the_index_lists_all_committed_results() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always") {
        tracegym::run::write_index(root).unwrap();
    }
    let index = tracegym::run::index(root).unwrap().expect("there are results");
    let committed = std::fs::read_to_string(root.join("results/README.md")).unwrap();
    assert!(index == committed, "INSTA_UPDATE=always cargo test --test readme renews it");
    let links = index.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
    let links: Vec<&str> = links.collect();
    let broken = links.iter().find(|link| !root.join("results").join(link).exists());
    assert!(links.len() > 100 && broken.is_none(), "{} links, {broken:?}", links.len());
}
