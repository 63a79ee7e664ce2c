//! Datasets at the edge of statistics, through the binary: everything is constant, hardly anything is
//! tested, everything is tied. Tables hold numbers or `n/a` with a reason, and never NaN or infinity.

mod workplace;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Output;

use workplace::{Workplace, files_below, text};

/// A call: edge id, type, source, destination, start and finish.
type Row = (&'static str, &'static str, String, String, u32, u32);

/// A call table with `graphs` as they come.
fn table(graphs: &[(String, Vec<Row>)]) -> String {
    let mut text =
        "graph_index,service,edge_id,type,source,destination,start_ms,finish_ms\n".to_owned();
    for (index, (service, rows)) in graphs.iter().enumerate() {
        for (edge_id, kind, source, destination, start, finish) in rows {
            let _ = writeln!(
                text,
                "{index},{service},{edge_id},{kind},{source},{destination},{start},{finish}"
            );
        }
    }
    text
}

fn name(number: usize) -> String {
    format!("MS_{number}")
}

/// `count` graphs of `services` services, all of the same shape and times; only names differ.
fn constant(count: usize, services: usize) -> Vec<(String, Vec<Row>)> {
    let graph = |index: usize| {
        let rows = vec![
            ("0", "http", "USER".to_owned(), name(0), 0, 10),
            ("0.1", "rpc", name(0), name(100 + index), 1, 9),
            ("0.2", "mc", name(0), name(200 + index), 1, 9),
        ];
        (format!("S_{}", index % services), rows)
    };
    (0..count).map(graph).collect()
}

/// `count` graphs of two calls, of different latency.
fn varied(count: usize, services: usize) -> Vec<(String, Vec<Row>)> {
    let graph = |index: usize| {
        let finish = 10 + index as u32;
        let rows = vec![
            ("0", "http", "USER".to_owned(), name(0), 0, finish),
            ("0.1", "rpc", name(0), name(1 + index), 1, finish / 2),
        ];
        (format!("S_{}", index % services), rows)
    };
    (0..count).map(graph).collect()
}

const FAMILIES: [&str; 5] = ["accuracy", "fidelity", "distribution", "high-latency", "novelty"];

struct Place(Workplace);

impl Place {
    /// All reports on a dataset, split as `split` says.
    fn new(graphs: &[(String, Vec<Row>)], split: &str) -> Self {
        let place = Workplace::new();
        place.write("calls.csv", &table(graphs));
        let source = "name = \"edge\"\n[source]\nkind = \"call-table\"\npath = \"calls.csv\"\n";
        place.write("edge.toml", &format!("{source}[split]\nseed = 0\n{split}\n"));
        for family in FAMILIES {
            let experiment = format!(
                "id = \"of-{family}\"\ntitle = \"Edge\"\npaper = \"none\"\ndataset = \"edge.toml\"\nfamily = \"{family}\"\ngenerators = [\"markov\", \"training-set-copy\"]\nconditions = {{ kind = \"test\", count = 60 }}\nsampling = {{ temperatures = [0.8] }}\nprofiles.smoke = {{ seeds = [0], graphs = 300 }}\n"
            );
            place.write(&format!("of-{family}.toml"), &experiment);
        }
        Self(place)
    }

    fn run(&self) -> Output {
        let experiments = FAMILIES.map(|family| format!("of-{family}.toml"));
        let mut arguments = vec!["run", "--profile", "smoke"];
        arguments.extend(experiments.iter().map(String::as_str));
        self.0.run(&arguments)
    }

    /// Runs all reports, which must succeed without a value that is not a number.
    fn reports(&self) {
        let output = self.run();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        let files = files_below(&self.0.path().join("results"));
        let tables = |extension: &str| {
            let of = |path: &&PathBuf| path.extension().is_some_and(|found| found == extension);
            files.iter().filter(of).collect::<Vec<_>>()
        };
        assert!(tables("csv").len() > 15, "{files:?}");
        for path in [tables("csv"), tables("md"), tables("tex")].concat() {
            let table = std::fs::read_to_string(path).expect("text").to_lowercase();
            let words = table.split(|c: char| !c.is_alphanumeric());
            let bad: Vec<&str> =
                words.filter(|word| ["nan", "inf", "infinity"].contains(word)).collect();
            assert!(bad.is_empty(), "{}: {bad:?}", path.display());
        }
        for path in files_below(&self.0.path().join("paper-figures")) {
            assert!(std::fs::metadata(&path).expect("there").len() > 500, "{}", path.display());
        }
    }

    fn table(&self, report: &str, name: &str) -> String {
        let folder = self.0.path().join(format!("results/of-{report}/smoke"));
        let direct = folder.join(name);
        let path = if direct.exists() { direct } else { folder.join("edge").join(name) };
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
}

#[test]
fn constant_columns_give_numbers_or_reasons() {
    let place = Place::new(&constant(40, 2), "kind = \"random\"\ntest_share = 0.5");
    place.reports();
    let distribution = place.table("distribution", "distribution.md");
    assert!(
        distribution.contains("No number (PGD): a side has fewer than 40 graphs."),
        "{distribution}"
    );
    assert!(distribution.contains("No number (EMD in-degree): the real values are all equal"));
    let times = place.table("distribution", "times.md");
    assert!(
        times.contains("correlation of edges and depth; correlation of edges and latency"),
        "{times}"
    );
    assert!(times.contains("is the same in all real graphs"), "{times}");
    assert!(place.table("high-latency", "high-latency.md").contains("No number: "));
    let detection = place.table("distribution", "detection.md");
    assert!(detection.contains("No number (all): a side has fewer than 40 graphs."), "{detection}");
}

#[test]
fn a_dataset_without_test_graphs_is_refused_before_anything_is_trained() {
    for count in [1, 2] {
        let place = Place::new(&varied(count, 1), "kind = \"random\"\ntest_share = 0.1");
        let output = place.run();
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        let said = text(&output);
        assert!(said.contains(&format!("has {count} training and 0 test graphs")), "{said}");
        assert!(!said.contains("train "), "{said}");
    }
}

#[test]
fn one_test_graph_and_one_service_have_no_intervals_over_services_and_say_so() {
    for (count, services) in [(10, 2), (30, 1)] {
        let place = Place::new(&varied(count, services), "kind = \"random\"\ntest_share = 0.1");
        place.reports();
        let accuracy = place.table("accuracy", "seeds.md");
        let why = "One service: no intervals but those of fractions of prompts or graphs";
        assert!(accuracy.contains(why), "{accuracy}");
        // Shares of prompts have Wilson's, which are never 0–0 or 100–100.
        let accuracy = place.table("accuracy", "accuracy.md");
        assert!(
            !accuracy.contains("(0.0–0.0)") && !accuracy.contains("(100.0–100.0)"),
            "{accuracy}"
        );
        assert!(accuracy.contains("1 service."), "{accuracy}");
    }
    // Two services have them, and nothing to say.
    let place = Place::new(&varied(30, 2), "kind = \"random\"\ntest_share = 0.5");
    place.reports();
    assert!(!place.table("accuracy", "seeds.md").contains("One service"));
}

/// Every microservice is called equally often. Rows of real graphs are those of the data, whatever the
/// order of its graphs; a tie is settled by name on both sides.
#[test]
fn ties_do_not_depend_on_the_order_of_graphs() {
    let tied: Vec<(String, Vec<Row>)> = (0..24)
        .map(|index| {
            let finish = 20 + (index % 5) as u32;
            let rows = vec![
                ("0", "http", "USER".to_owned(), name(index / 2), 0, finish),
                ("0.1", "rpc", name(index / 2), name(50 + index / 2), 1, 10),
            ];
            (format!("S_{}", index % 3), rows)
        })
        .collect();
    let turned: Vec<_> = tied.iter().rev().cloned().collect();
    let split = "kind = \"by-structure\"\ntest_share = 0.5";
    let places = [Place::new(&tied, split), Place::new(&turned, split)];
    places.iter().for_each(Place::reports);
    for (report, name) in [("fidelity", "fidelity.csv"), ("distribution", "degrees.csv")] {
        let real = places.each_ref().map(|place| {
            let table = place.table(report, name);
            let rows = table.lines().filter(|line| line.contains("train vs. test"));
            rows.map(str::to_owned).collect::<Vec<_>>()
        });
        assert_eq!(real[0].len(), 1, "{report}");
        assert_eq!(real[0], real[1], "{report}");
    }
}
