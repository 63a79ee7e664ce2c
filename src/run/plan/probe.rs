//! The stages of a probe.

use std::collections::BTreeSet;

use anyhow::Result;

use super::{Plan, Sources};
use crate::error::UserError;
use crate::evaluate::probes::{Method, Probe};
use crate::run::baseline::Baseline;
use crate::run::cache::Key;
use crate::run::work::{NetworkWork, Place, ProbeWork, VariantRun, Work};

impl Plan {
    /// The runs of a probe, each for every seed: of every baseline that has a model for it, or once if
    /// it needs none.
    pub(super) fn probe(
        &mut self,
        probe: &Probe,
        baselines: &[Baseline],
        dataset: &Key,
        sources: &mut Sources,
    ) -> Result<Vec<VariantRun>> {
        baselines.iter().try_for_each(|baseline| check(baseline, probe))?;
        let mut runs = Vec::new();
        for method in &probe.methods {
            let seeds = match method {
                // Nothing is trained: another seed would only ask other questions.
                Method::InContext => &sources.experiment.seeds[..1],
                _ => &sources.experiment.seeds[..],
            };
            for baseline in models(*method, baselines) {
                for seed in seeds {
                    runs.push(self.probe_run(probe, *method, baseline, *seed, dataset, sources)?);
                }
            }
        }
        Ok(runs)
    }

    fn probe_run(
        &mut self,
        probe: &Probe,
        method: Method,
        baseline: Option<&Baseline>,
        seed: u64,
        dataset: &Key,
        sources: &mut Sources,
    ) -> Result<VariantRun> {
        let network = match baseline.filter(|_| method.is_network()) {
            Some(baseline) => Some(NetworkWork {
                train: self.train(baseline, seed, dataset, sources)?.key,
                tuning: probe.tuning.clone(),
                device: self.device_kind().to_owned(),
            }),
            None => None,
        };
        let in_context = method == Method::InContext;
        let name = match baseline {
            Some(baseline) if in_context || method == Method::Pretrained => baseline.name.clone(),
            Some(baseline) => format!("{}+{}", baseline.name, method.id()),
            None => method.id().to_owned(),
        };
        let work = Work::Probe(ProbeWork {
            task: probe.task,
            train_questions: probe.train,
            test_questions: if in_context { probe.in_context } else { probe.test },
            method,
            seed,
            dataset: dataset.clone(),
            network,
            in_context: baseline.filter(|_| in_context).map(|b| b.settings.clone()),
        });
        let label = format!("probe {name} seed {seed} for {}", sources.experiment.id);
        let place = Place::new("probe", self.stage(label, work, method.is_network())?);
        Ok(VariantRun {
            baseline: name,
            label: method.label(baseline.map_or("", |baseline| &baseline.label)),
            seed,
            temperature: 0.0,
            checkpoint: None,
            training: place.clone(),
            selected: None,
            generate: None,
            records: place,
            failure: None,
        })
    }
}

/// The baselines that the method takes its model from; a single `None` if it has one of its own.
fn models(method: Method, baselines: &[Baseline]) -> Vec<Option<&Baseline>> {
    let Some(known) = method.generators() else { return vec![None] };
    let fits = |baseline: &&Baseline| known.contains(&baseline.generator.as_str());
    baselines.iter().filter(fits).map(Some).collect()
}

/// Whether one of the probe's methods can take its model from the baseline.
fn check(baseline: &Baseline, probe: &Probe) -> Result<(), UserError> {
    let known: BTreeSet<&str> =
        probe.methods.iter().filter_map(|method| method.generators()).flatten().copied().collect();
    if known.contains(baseline.generator.as_str()) {
        return Ok(());
    }
    let Baseline { name, generator, .. } = baseline;
    let known: Vec<&str> = known.into_iter().collect();
    Err(UserError::setting(format!(
        "baseline `{name}` cannot be probed: generator `{generator}` is none of those that the probe's methods take ({})",
        known.join(", ")
    )))
}
