//! Critical components (figure 5, left): which microservice makes an application slow.
//!
//! FIRM (Qiu et al., OSDI 2020) watches the traces of an application in windows of time, computes
//! for each microservice on the critical path its *relative importance* (Pearson correlation of its
//! time with the length of the critical path) and its *congestion intensity* (99th by 50th
//! percentile of its time), and lets a support vector machine with an approximated RBF kernel say
//! which ones are critical. Here the machine learns from windows of generated graphs.

mod machine;
mod path;
mod window;

use rand::seq::SliceRandom;

use machine::Machine;
use window::{Application, Component, WINDOW, components};

use super::score::{Truth, training_record};
use super::{MAX_TRAIN, prompts, real_test, real_training};
use crate::data::Dataset;
use crate::evaluate::{Case, Dimensions, Interval, Metric, Record, WHOLE};
use crate::graph::CallGraph;
use crate::random;

/// Which service stands behind `application=N`: cells `application=N/service=S`; the value is the
/// number of its real training graphs.
pub const APPLICATION: &Metric =
    &Metric::count("downstream-application/1", "training graphs of an application");

/// Applications that are looked at, as in the paper.
const APPLICATIONS: u32 = 2;
/// Seeds of the classifier, as in the paper.
const FITS: u64 = 5;
/// Random cuts of the training graphs into windows, for each fit.
const CUTS: u64 = 10;

/// All records of a variant. There is no cross-fitting here: a prompt gives a variant the length of a test
/// graph's critical path, but not whose time it is.
pub fn records(case: &Case) -> Vec<Record> {
    let prompts = prompts(case);
    let graphs = prompts.iter().filter_map(|&index| case.verdicts[index].graph.as_ref());
    let ours: Vec<&CallGraph> = graphs.collect();
    let real = real_training(case.dataset, prompts.len(), case.seed);
    let mut records = Vec::new();
    for (place, application) in applications(case.dataset) {
        let about = about(place);
        let test = Test::new(application.as_ref(), case.dataset, case.seed);
        let (rows, scores) = test.trained_on(&ours, case.seed);
        let (_, real) = test.trained_on(&real, case.seed);
        records.extend(test.truth.records(&about, &scores, case.seed));
        records.extend(test.truth.gaps(&about, &scores, &real, case.seed));
        records.push(training_record(about, rows.iter().map(|component| component.critical)));
    }
    records
}

/// Real training graphs; and the larger class of their components always.
pub fn references(dataset: &Dataset, seed: u64) -> Vec<Record> {
    let graphs = real_training(dataset, MAX_TRAIN, seed);
    let mut records = Vec::new();
    for (place, application) in applications(dataset) {
        let about = about(place);
        let test = Test::new(application.as_ref(), dataset, seed);
        let (rows, scores) = test.trained_on(&graphs, seed);
        let critical = rows.iter().filter(|component| component.critical).count();
        let real = about.clone().reference("real");
        records.extend(test.truth.records(&real, &scores, seed));
        records.push(training_record(real, rows.iter().map(|component| component.critical)));
        let always = if 2 * critical > rows.len() { 1.0 } else { -1.0 };
        let majority = vec![always; test.components.len()];
        let majority: &[Vec<f64>] = if rows.is_empty() { &[] } else { &[majority] };
        records.extend(test.truth.records(&about.reference("majority"), majority, seed));
        if let Some(application) = application {
            let about = WHOLE.application(place).service(application.service.clone());
            let graphs = application.graphs as u64;
            records.push(Record::new(APPLICATION, about, graphs as f64, Interval::NONE, graphs));
        }
    }
    records
}

/// Two places with their cells; `None` where the dataset has no application for it.
fn applications(dataset: &Dataset) -> Vec<(u32, Option<Application>)> {
    let mut found = window::popular(dataset).into_iter();
    (1..=APPLICATIONS).map(|place| (place, found.next())).collect()
}

/// What the records of an application are about.
fn about(place: u32) -> Dimensions {
    WHOLE.task("critical-components").application(place)
}

/// Windows of the real test graphs of an application.
struct Test<'a> {
    application: Option<&'a Application>,
    components: Vec<Component>,
    truth: Truth,
}

impl<'a> Test<'a> {
    fn new(application: Option<&'a Application>, dataset: &Dataset, seed: u64) -> Self {
        let mut test = Self { application, components: Vec::new(), truth: Truth::default() };
        let Some(application) = application else {
            return test;
        };
        let graphs = real_test(dataset, seed);
        // Already in random order.
        let graphs: Vec<&CallGraph> =
            graphs.into_iter().filter(|graph| *graph.service() == application.service).collect();
        for (window, graphs) in (0..).zip(graphs.chunks_exact(WINDOW)) {
            let components = components(application, graphs);
            test.truth.clusters.extend(components.iter().map(|_| window));
            test.truth.labels.extend(components.iter().map(|component| component.critical));
            test.components.extend(components);
            test.truth.num_clusters += 1;
            test.truth.graphs += WINDOW as u64;
        }
        test
    }

    /// The training components of the first fit, and the scores of all fits. A fit has its own
    /// windows and its own approximation of the kernel.
    fn trained_on(&self, graphs: &[&CallGraph], seed: u64) -> (Vec<Component>, Vec<Vec<f64>>) {
        let Some(application) = self.application else {
            return (Vec::new(), Vec::new());
        };
        let own = graphs.iter().copied().filter(|graph| *graph.service() == application.service);
        let own: Vec<&CallGraph> = own.collect();
        let windows = |fit: u64| -> Vec<Component> {
            let cut = |cut: u64| {
                let mut graphs = own.clone();
                graphs.shuffle(&mut random::stream(seed, "critical windows", &[fit, cut]));
                let windows = graphs.chunks_exact(WINDOW);
                windows.flat_map(|graphs| components(application, graphs)).collect::<Vec<_>>()
            };
            (0..CUTS).flat_map(cut).collect()
        };
        let fits = (0..FITS).filter_map(|fit| {
            let machine = Machine::new(&windows(fit), random::stream(seed, "kernel", &[fit]))?;
            Some(self.components.iter().map(|component| machine.score(component)).collect())
        });
        (windows(0), fits.collect())
    }
}

#[cfg(test)]
mod tests;
