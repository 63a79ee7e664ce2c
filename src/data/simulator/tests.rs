use super::*;

#[test]
fn golden() {
    let source = "graphs = 200\n[source]\nkind = \"simulator\"\n";
    crate::data::golden::check(VERSION, source, &[]);
}

fn cloud() -> Cloud {
    Cloud::new(&SimulatorConfig::default()).expect("the default settings are possible")
}

#[test]
fn a_graph_depends_on_its_address_only() {
    let (one, other) = (cloud(), cloud());
    let forwards: Vec<_> = (0..50).map(|index| one.graph(7, index)).collect();
    let mut backwards: Vec<_> = (0..50).rev().map(|index| other.graph(7, index)).collect();
    backwards.reverse();
    assert_eq!(forwards, backwards);
    assert_ne!(one.graph(8, 0), forwards[0]);
}

#[test]
fn other_seeds_make_other_clouds() {
    let config = SimulatorConfig { seed: 3, ..Default::default() };
    let other = Cloud::new(&config).expect("possible");
    assert_ne!(cloud().services(), other.services());
}

#[test]
fn names_have_the_padded_form_and_are_distinct() {
    let cloud = cloud();
    let services: std::collections::BTreeSet<_> = cloud.services().iter().collect();
    let microservices: std::collections::BTreeSet<_> = cloud.microservices().into_iter().collect();
    assert_eq!((services.len(), microservices.len()), (300, 400));
    assert!(services.iter().all(|name| name.starts_with("S_") && name.len() == 11));
    assert!(microservices.iter().all(|name| name.starts_with("MS_") && name.len() == 8));
}

#[test]
fn no_graph_is_larger_or_deeper_than_configured() {
    let config = SimulatorConfig {
        max_edges: 12,
        max_depth: 3,
        services: 40,
        shapes: ShapeWeights { large: 5.0, batch: 5.0, ..Default::default() },
        ..Default::default()
    };
    let cloud = Cloud::new(&config).expect("possible");
    let graphs: Vec<_> = (0..2_000).map(|index| cloud.graph(0, index)).collect();
    let most = graphs.iter().map(CallGraph::num_edges).max().expect("graphs");
    assert!((9..=12).contains(&most), "{most}");
    assert_eq!(graphs.iter().map(CallGraph::depth).max(), Some(3));
}

#[test]
fn an_impossible_setting_is_named() {
    let message = |config: SimulatorConfig| {
        let error = Cloud::new(&config).expect_err("impossible");
        assert!(error.downcast_ref::<UserError>().is_some());
        error.to_string()
    };
    let base = SimulatorConfig::default;
    assert_eq!(
        message(SimulatorConfig { services: 0, ..base() }),
        "simulator: services = 0: must be from 1 to 1000000"
    );
    assert!(message(SimulatorConfig { overlap: f64::NAN, ..base() }).contains("overlap = NaN"));
    let negative = ShapeWeights { deep: -1.0, ..Default::default() };
    assert!(message(SimulatorConfig { shapes: negative, ..base() }).contains("shapes.deep = -1"));
    let none = LeafTypeWeights { mc: 0.0, rpc: 0.0, db: 0.0, http: 0.0, mq: 0.0 };
    assert!(message(SimulatorConfig { leaf_types: none, ..base() }).contains("all weights are 0"));
}

#[test]
fn a_misspelt_key_is_refused() {
    assert!(toml::from_str::<SimulatorConfig>("servces = 3").is_err());
    let config: SimulatorConfig =
        toml::from_str("services = 3\n[shapes]\ndeep = 1.0").expect("valid");
    assert_eq!((config.services, config.shapes.deep, config.microservices), (3, 1.0, 400));
}

#[test]
fn the_smallest_cloud_works() {
    let config = SimulatorConfig {
        services: 1,
        microservices: 10,
        max_edges: 1,
        max_depth: 1,
        ..Default::default()
    };
    let cloud = Cloud::new(&config).expect("possible");
    assert!((0..20).all(|index| cloud.graph(0, index).num_edges() == 1));
}
