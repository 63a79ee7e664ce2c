//! The simulated cloud that a dataset's graphs come from.

use anyhow::Result;

use crate::data::simulator::{Cloud, Simulator};
use crate::data::{Dataset, DatasetManifest, SourceSpec};
use crate::error::UserError;

/// Graphs of the dataset that are compared with those that the cloud draws.
const COMPARED: usize = 20;

/// The cloud of the dataset's manifest, which is found by the name on the dataset's card. A card does
/// not hold the cloud's settings, so the cloud is asked for the dataset's first graphs: it has to draw
/// the very same.
///
/// # Errors
/// A dataset that is not simulated, or whose manifest is not found or has been changed.
pub fn cloud_of(dataset: &Dataset) -> Result<Cloud> {
    let card = &dataset.card;
    let source = match card.source.as_str() {
        "simulator" => DatasetManifest::find(&card.name)?.source,
        _ => return Err(not_simulated(&card.name, &card.source).into()),
    };
    let SourceSpec::Simulator(Simulator { seed, cloud, .. }) = source else {
        return Err(not_simulated(&card.name, source.id()).into());
    };
    let cloud = Cloud::new(&cloud)?;
    let mut graphs = dataset.graphs().iter().take(COMPARED).zip(0..);
    if graphs.any(|(graph, index)| cloud.graph(seed, index) != *graph) {
        return Err(UserError::setting(format!(
            "dataset `{0}`: the cloud in the manifest `{0}` does not draw the dataset's graphs, so its \
             distribution is not their true one; put the manifest that the dataset was built from at \
             data/{0}.toml",
            card.name
        ))
        .into());
    }
    Ok(cloud)
}

fn not_simulated(name: &str, source: &str) -> UserError {
    UserError::setting(format!(
        "evaluation `truth` needs simulated graphs, and dataset `{name}` comes from `{source}`, whose \
         true distribution nobody knows; run it on a dataset of kind `simulator`, as with \
         `--dataset simulator`, or use the evaluations `fidelity` and `distribution`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::simulator::SimulatorConfig;
    use crate::data::{DatasetCard, Side};

    /// Graphs of the cloud of the manifest `simulator`, under this name and source.
    fn dataset(name: &str, source: &str, seed: u64) -> Dataset {
        let cloud = Cloud::new(&SimulatorConfig::default()).expect("possible");
        let graphs = (0..3).map(|index| cloud.graph(seed, index)).collect();
        let (name, source) = (name.to_owned(), source.to_owned());
        let card = DatasetCard { name, source, ..DatasetCard::default() };
        Dataset::new(card, graphs, vec![Side::Train, Side::Test, Side::Train])
    }

    #[test]
    fn the_cloud_is_found_by_the_datasets_name() {
        let cloud = cloud_of(&dataset("simulator", "simulator", 0)).unwrap();
        assert_eq!(cloud.services().len(), 300);
    }

    #[test]
    fn other_datasets_are_refused_with_a_remedy() {
        let error = |name: &str, source: &str, seed| {
            let error = cloud_of(&dataset(name, source, seed)).unwrap_err();
            assert!(error.downcast_ref::<UserError>().is_some());
            error.to_string()
        };
        let real = error("alibaba-v2022-graphs", "call-table", 0);
        assert!(real.contains("`call-table`") && real.contains("--dataset simulator"), "{real}");
        assert!(error("simulator", "simulator", 1).contains("data/simulator.toml"));
        assert!(error("alibaba-v2022", "simulator", 0).contains("comes from `alibaba-v2022`"));
        assert!(error("simulater", "simulator", 0).contains("did you mean `simulator`"));
    }
}
