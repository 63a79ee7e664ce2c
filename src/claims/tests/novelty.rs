use super::*;

/// Novelty and privacy of a generator that copies this share of its graphs.
pub fn records(copied: f64, reference: Option<&str>) -> Vec<Record> {
    let at = |about: Dimensions| about.referring(reference);
    let bare = |metric: &str, about: Dimensions, value: f64| Record {
        low: f64::NAN,
        high: f64::NAN,
        ..number(metric, at(about), value)
    };
    let mut records = Vec::new();
    for (level, part) in [("structure", 1.0), ("names", 0.7), ("binned-times", 0.3), ("times", 0.1)]
    {
        let about = WHOLE.level(level);
        records.push(share("novelty/1", at(about.clone()), 1.0 - copied * part, 500));
        if reference != Some("half") {
            records.push(bare("uniqueness/1", about.clone(), 1.0 - part / 3.0));
            records.push(bare("distinct-prompts/1", about.clone(), 1.0 - part / 2.0));
            records.push(bare(
                "valid-unique-novel/1",
                about.clone(),
                1.0 - copied * part - part / 4.0,
            ));
        }
    }
    for (attributes, part) in [("names", 0.7), ("times", 0.1)] {
        let about = WHOLE.attributes(attributes);
        records.push(share("memorised/1", at(about.clone()), copied * part, 500));
    }
    if reference == Some("half") {
        return records;
    }
    for (size, part) in [
        (Bin::new(1, 1), 1.0),
        (Bin::new(2, 3), 0.7),
        (Bin::new(4, 7), 0.3),
        (Bin::new(8, 15), 0.1),
    ] {
        let about = WHOLE.attributes("names").edges(size);
        records.push(share("memorised/1", at(about.clone()), copied * part, 100));
    }
    records.push(bare("memorised/1", WHOLE.attributes("names").edges(Bin::at_least(16)), f64::NAN));
    let bounded = |metric: &str, about: Dimensions, value: f64| {
        let record = number(metric, at(about), value);
        Record { high: record.high.min(1.0), ..record }
    };
    records.push(bounded("dcr-protection/2", WHOLE.sets("all"), 1.0 - copied));
    records.push(bounded("authenticity/1", WHOLE, 0.9 - 0.9 * copied));
    records.push(bounded("nearest-distance/1", WHOLE.to("train"), 0.3 - copied / 4.0));
    records.push(bounded("nearest-distance/1", WHOLE.to("holdout"), 0.3));
    if reference.is_none() {
        records.push(share("valid/1", WHOLE, 0.9, 500));
        for against in ["held-out", "test"] {
            let about = WHOLE.against(against);
            records.push(bounded("membership-auc/1", about.clone(), 0.5 + copied / 3.0));
            records.push(bounded("membership-by-size-auc/1", about.clone(), 0.5));
        }
        for (graphs, value) in [("member", -4.0), ("held-out", -4.4), ("test", -4.6)] {
            let (low, high) = (value - 0.2, value + 0.2);
            let record = number("log-likelihood/1", WHOLE.graphs(graphs), value);
            records.push(Record { low, high, ..record });
        }
    }
    records
}

#[test]
fn novelty() {
    let files = drawn("novelty", &runs(|skill| records(1.0 - skill, None)), &[]);
    insta::assert_snapshot!("novelty-md", text(&files, Table::to_markdown));
    insta::assert_snapshot!("novelty-csv", text(&files, Table::to_csv));
    insta::assert_snapshot!("novelty-tex", text(&files, Table::to_latex));
    check_files(&files, &["novelty", "privacy", "superiority"]);
    hold_to_version(&files, "novelty");
}

/// Figure 15: lines for what has a temperature, levels for the rest.
#[test]
fn memorisation_at_several_temperatures() {
    let mut all = Vec::new();
    for (index, temperature) in [0.0, 0.4, 0.8].into_iter().enumerate() {
        let warm = runs(|skill| records(1.1 - skill - temperature / 10.0, None)).into_iter();
        // Tables of frequencies have one variant, whatever the temperatures.
        let warm = warm.filter(|run| index == 0 || run.generator == "recursive-llm").take(3);
        all.extend(warm.map(|run| RunRecords { temperature, ..run }));
    }
    let files = drawn("novelty", &all, &[]);
    check_files(&files, &["memorisation", "superiority"]);
    hold_to_version(&files, "memorisation");
    let Content::Lines(lines) = &files.figures[0].1.panels[0].content else { panic!("lines") };
    assert_eq!((lines.lines.len(), lines.levels.len()), (1, 3));
    assert_eq!(lines.lines[0].points.len(), 3);
}
