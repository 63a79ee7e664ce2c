use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::data::simulator::{Cloud, SimulatorConfig};
use crate::generators::tests::{call_error, condition, constrained, generate, train_only};
use crate::graph::grid_cells;
use crate::graph::{CallRow, USER, judge};
use crate::model::Sampling;
use crate::testing::{any_graph, row};

/// The sequence of siblings is what the model is about: MS_2 and MS_3 take turns.
#[test]
fn siblings_follow_one_another() {
    let rows = [
        row("0", USER, "MS_1", "http", 0, 10),
        row("0.1", "MS_1", "MS_2", "rpc", 1, 3),
        row("0.2", "MS_1", "MS_3", "rpc", 4, 9),
        row("0.3", "MS_1", "MS_2", "rpc", 9, 9),
        row("0.4", "MS_1", "MS_3", "rpc", 9, 10),
    ];
    let graph = CallGraph::from_rows("S_1".into(), &rows).expect("valid");
    let answers =
        generate(ID, "", &train_only(vec![graph; 200]), &vec![condition("S_1", None); 100], 3);
    let followers = answers.iter().flat_map(|answer| {
        let pairs = answer.rows.windows(2).skip(1);
        pairs.map(|pair| (pair[0].destination.to_string(), pair[1].destination.to_string()))
    });
    let (mut usual, mut all) = (0.0, 0.0);
    for (before, next) in followers {
        all += 1.0;
        usual += f64::from(u8::from(before != next));
    }
    // Shorter contexts, which do not know the sibling before, have a weight of about a hundredth.
    assert!(all > 200.0 && usual / all > 0.96, "{usual} of {all}");
}

#[test]
fn the_calls_of_a_simulated_cloud_are_learnt() {
    let (error, of_sample) = call_error(ID, "", 8);
    assert!(error < 1.5 * of_sample && of_sample < 0.05, "{error} {of_sample}");
}

fn cloud(graphs: u64) -> Vec<CallGraph> {
    let cloud = Cloud::new(&SimulatorConfig { services: 12, ..SimulatorConfig::default() });
    (0..graphs).map(|index| cloud.as_ref().expect("a cloud").graph(1, index)).collect()
}

/// Probabilities add up, and the dynamic programme finds as many graphs of each size as the model
/// draws by chance.
#[test]
fn exact_draws_are_those_of_the_model_given_the_request() {
    let graphs = cloud(400);
    let model = TrainedMarkov::learn(
        GrowthSettings::default(),
        &graphs.iter().collect::<Vec<&CallGraph>>(),
    );
    // The service with most shapes.
    let mut shapes: BTreeMap<&Name, BTreeSet<(u32, u32)>> = BTreeMap::new();
    for graph in &graphs {
        shapes.entry(graph.service()).or_default().insert((graph.num_edges(), graph.depth()));
    }
    let (service, _) = shapes.iter().max_by_key(|(_, shapes)| shapes.len()).expect("services");
    // Trees by chance, by (calls, depth) and what they are.
    let mut free: HashMap<(usize, u32), HashMap<String, f64>> = HashMap::new();
    let draws = 60_000;
    let text = |rows: &[CallRow]| -> String {
        rows.iter()
            .map(|row| format!("{}>{}:{} ", row.edge_id, row.destination, row.kind))
            .collect()
    };
    let requests = vec![condition(service.as_str(), None); draws];
    let options = |decoding| GenerateOptions {
        seed: 4,
        sampling: Sampling { temperature: 1.0, top_k: None },
        decoding,
        batch: 1,
        progress: crate::progress::Progress::Quiet,
    };
    for answer in model.generate(&requests, &options(Decoding::Free)).expect("draws") {
        let depth = answer.rows.iter().map(|row| row.edge_id.path().len()).max().expect("a root");
        let shape = (answer.rows.len(), depth as u32);
        *free.entry(shape).or_default().entry(text(&answer.rows)).or_default() += 1.0;
    }
    let mut checked = 0;
    for ((calls, depth), expected) in free {
        let total: f64 = expected.values().sum();
        // Where nearly every tree is another one, samples tell nothing of probabilities.
        if total < 50.0 * expected.len() as f64 {
            continue;
        }
        checked += 1;
        let mut request = condition(service.as_str(), None);
        (request.num_edges, request.depth) = (Some(calls as u32), Some(depth));
        let requests = vec![request; 4_000];
        let answers = model.generate(&requests, &options(Decoding::Constrained)).expect("draws");
        let mut found: HashMap<String, f64> = HashMap::new();
        for answer in answers {
            assert_eq!(answer.failure, None);
            *found.entry(text(&answer.rows)).or_default() += 1.0 / 4_000.0;
        }
        let keys: BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
        let distance: f64 = keys
            .iter()
            .map(|key| {
                let share = |map: &HashMap<String, f64>| map.get(*key).copied().unwrap_or(0.0);
                (share(&expected) / total - share(&found)).abs() / 2.0
            })
            .sum();
        // What two samples of this size differ by, about, with room.
        let noise = (keys.len() as f64 / total.min(4_000.0)).sqrt();
        assert!(distance < 0.02 + noise, "{calls} {depth}: {distance} {noise}");
    }
    assert!(checked >= 3, "{checked} shapes");
}

#[test]
fn what_cannot_be_is_refused_and_all_else_is_as_requested() {
    let dataset = train_only(cloud(400));
    let services: BTreeSet<Name> =
        dataset.graphs().iter().map(|graph| graph.service().clone()).collect();
    let mut requests = Vec::new();
    for service in services.iter().chain([&Name::from("S_new")]) {
        for (edges, depth) in grid_cells(30, 6) {
            let mut request = condition(service.as_str(), Some(40));
            (request.num_edges, request.depth) = (Some(edges), Some(depth));
            requests.push(request);
        }
    }
    let answers = constrained(ID, "", &dataset, &requests);
    let mut answered = 0;
    for (request, answer) in requests.iter().zip(&answers) {
        match &answer.failure {
            None => {
                assert_eq!(judge(request, answer).violation, None, "{request:?}");
                answered += 1;
            }
            Some(failure) => assert_eq!(failure.code, ViolationCode::Infeasible),
        }
    }
    assert!(answered > 500, "{answered} of {}", requests.len());
    let alone = constrained(ID, "", &dataset, &requests[..40]);
    assert_eq!(alone, answers[..40]);
    let mut impossible = condition("S_new", None);
    (impossible.num_edges, impossible.depth) = (Some(3), Some(5));
    let failure = constrained(ID, "", &dataset, &[impossible]).remove(0).failure;
    assert!(failure.expect("refused").detail.contains("3 calls and depth 5"));
}

use crate::graph::ViolationCode;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    /// Valid graphs, within the limit; constrained ones with what half a request says.
    #[test]
    fn graphs_are_valid(graphs in prop::collection::vec(any_graph(15), 1..10), edges in 1..6u32) {
        let dataset = train_only(graphs);
        let conditions = ["S_000000000", "S_new"].map(|service| condition(service, Some(7)));
        let answers = generate(ID, "max_calls = 20", &dataset, &conditions, 3);
        for (condition, answer) in conditions.iter().zip(&answers) {
            let graph = CallGraph::from_rows(condition.service.clone(), &answer.rows).unwrap();
            prop_assert!(graph.num_edges() <= 20);
            prop_assert_eq!(graph.latency(), 7);
        }
        let half = conditions.clone().map(|condition| Condition { num_edges: Some(edges), ..condition });
        let other = conditions.map(|condition| Condition { depth: Some(edges), ..condition });
        let requests = [half, other].concat();
        for (request, answer) in requests.iter().zip(constrained(ID, "", &dataset, &requests)) {
            match &answer.failure {
                None => prop_assert_eq!(judge(request, &answer).violation, None),
                Some(failure) => prop_assert_eq!(failure.code, ViolationCode::Infeasible),
            }
        }
    }
}
