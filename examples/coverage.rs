//! Prints the tables of `docs/metrics/statistics.md`: how often each interval of the project holds what it
//! should, and how often each test finds a difference that is none, on samples of known truth.
//!
//!     cargo run --release --example coverage
//!
//! A few minutes on two cores. Another number of simulations may be given: `-- 2000`.

use rand::{Rng, RngExt};
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use tracegym::evaluate::fidelity::popular_calls::divergence;
use tracegym::evaluate::fidelity::shape::{kolmogorov_smirnov, total_variation};
use tracegym::random;
use tracegym::records::{Groups, Interval, Metric, PromptScores, Resamples, bootstrap, resamples};
use tracegym::report::statistics::{
    Bounded, Difference, Resampled, Resampling, Seeds, Services, compare, difference, fraction,
    holm, independent, of_seeds, seeds_differ, services_differ,
};

/// Simulations behind a number: its own 95 % interval is ± 2 points at 95 % held.
const SIMULATIONS: u64 = 400;
const METRIC: &Metric = &Metric::fraction("accuracy/1", "accuracy").wilson();

fn main() {
    let simulations = std::env::args().nth(1).and_then(|text| text.parse().ok());
    let simulations = simulations.unwrap_or(SIMULATIONS);
    println!("Intervals, nominal 95 %, {simulations} simulations:\n");
    println!("| interval | of what | services | graphs | held |");
    println!("|---|---|---:|---:|---:|");
    of_fractions(simulations);
    of_seeds_and_services(simulations);
    of_distinct(simulations);
    of_areas(simulations);
    of_distances(simulations);
    println!("\nTests at 5 %, no difference:\n");
    println!("| test | seeds | services | spread of seeds | found |");
    println!("|---|---:|---:|---:|---:|");
    sizes(simulations);
}

fn row(interval: &str, what: &str, services: usize, graphs: usize, held: f64) {
    println!("| {interval} | {what} | {services} | {graphs} | {:.0} % |", 100.0 * held);
}

/// In how many of the simulations this is so, each with a stream of its own.
fn share(simulations: u64, name: &str, of: impl Fn(&mut dyn Rng) -> bool + Sync) -> f64 {
    let hits = (0..simulations).into_par_iter().filter(|simulation| {
        let mut rng = random::stream(0, &format!("coverage/{name}"), &[*simulation]);
        of(&mut rng)
    });
    hits.count() as f64 / simulations as f64
}

fn normal(rng: &mut dyn Rng) -> f64 {
    StandardNormal.sample(rng)
}

fn holds(interval: Interval, truth: f64) -> bool {
    interval.low <= truth && truth <= interval.high
}

/// Share of prompts answered well, of services whose own shares spread by `spread` about the truth.
fn shares(rng: &mut dyn Rng, truth: f64, services: usize, spread: f64) -> Vec<f64> {
    (0..services).map(|_| (truth + spread * normal(rng)).clamp(0.0, 1.0)).collect()
}

/// Mean of [`shares`], which the ends at 0 and 1 move a little.
fn mean_share(truth: f64, spread: f64) -> f64 {
    let mut rng = random::stream(0, "coverage/mean share", &[]);
    let many = shares(&mut rng, truth, 200_000, spread);
    many.iter().sum::<f64>() / many.len() as f64
}

fn of_fractions(simulations: u64) {
    for (truth, prompts) in [(0.5, 50), (0.9, 50), (0.98, 300)] {
        let held = share(simulations, "wilson", |rng| {
            let hits = (0..prompts).filter(|_| rng.random_bool(truth)).count();
            holds(Interval::wilson(hits as u64, prompts as u64), truth)
        });
        row("Wilson", &format!("fraction {truth}, a prompt per service"), prompts, prompts, held);
    }
    for (services, spread) in [(30, 0.2), (300, 0.2)] {
        let truth = mean_share(0.7, spread);
        let held = |cluster: bool| {
            share(simulations, &format!("clusters {services}"), |rng| {
                let hits: Vec<f64> = shares(rng, 0.7, services, spread)
                    .into_iter()
                    .map(|share| (0..10).filter(|_| rng.random_bool(share)).count() as f64)
                    .collect();
                if !cluster {
                    let all = hits.iter().sum::<f64>() as u64;
                    return holds(Interval::wilson(all, 10 * services as u64), truth);
                }
                let groups = Groups::numbered(rng.random(), services);
                let drawn = bootstrap(groups, |drawn| {
                    let (mut sum, mut count) = (0.0, 0.0);
                    for (hits, times) in hits.iter().zip(drawn) {
                        sum += f64::from(*times) * hits;
                        count += f64::from(10 * *times);
                    }
                    vec![sum / count]
                });
                holds(drawn[0].interval, truth)
            })
        };
        row("Wilson", "fraction, 10 prompts per service", services, 10 * services, held(false));
        row("bootstrap over services", "the same", services, 10 * services, held(true));
    }
}

/// Answers of one training to ten prompts per service. All trainings share the prompts.
fn answers(rng: &mut dyn Rng, shares: &[f64], training: f64) -> PromptScores {
    let services: Vec<String> = (0..shares.len()).map(|index| format!("S_{index:04}")).collect();
    let names = services.iter().flat_map(|name| std::iter::repeat_n(name.as_str().into(), 10));
    let mut scores = PromptScores::of((0..10 * shares.len() as u64).collect(), names.collect());
    let values = shares.iter().flat_map(|share| std::iter::repeat_n(*share, 10));
    let values = values
        .map(|share| f64::from(u8::from(rng.random_bool((share + training).clamp(0.0, 1.0)))));
    scores.add(METRIC, values.collect());
    scores
}

fn seeds_of(scores: &[PromptScores]) -> Seeds<'_> {
    (0..).zip(scores).collect()
}

fn of_seeds_and_services(simulations: u64) {
    for (seeds, services, of_seeds_spread) in
        [(1, 100, 0.0), (3, 100, 0.0), (3, 100, 0.02), (3, 100, 0.05), (5, 100, 0.05)]
    {
        let truth = mean_share(0.6, 0.15);
        let arms = |rng: &mut dyn Rng| -> Vec<PromptScores> {
            let shares = shares(rng, 0.6, services, 0.15);
            (0..seeds)
                .map(|_| {
                    let training = of_seeds_spread * normal(rng);
                    answers(rng, &shares, training)
                })
                .collect()
        };
        let name = format!("seeds {seeds} {of_seeds_spread}");
        let crossed = share(simulations / 2, &name, |rng| {
            let scores = arms(rng);
            let found = fraction(&seeds_of(&scores), METRIC).expect("a fraction");
            found.low <= truth && truth <= found.high
        });
        let combined = share(simulations, &name, |rng| {
            let seeds = arms(rng).into_iter().map(|scores| {
                let values = scores.column(METRIC).expect("values");
                let (hits, count) = (values.iter().sum::<f64>(), values.len() as u64);
                let interval = Interval::wilson(hits as u64, count);
                let value = hits / count as f64;
                Bounded { value, low: interval.low, high: interval.high }
            });
            let found = of_seeds(&seeds.collect::<Vec<_>>()).expect("a number");
            found.low <= truth && truth <= found.high
        });
        let what = format!("fraction, {seeds} seeds that spread by {of_seeds_spread}");
        row("bootstrap over seeds and services", &what, services, 10 * services, crossed);
        row("seeds' intervals put together", &what, services, 10 * services, combined);
    }
}

/// Cells of the distributions that are compared: calls by Zipf's law.
const CELLS: usize = 60;

/// Probabilities of the cells; those of the other side take the exponent 1.15 where sides differ.
fn zipf(exponent: f64) -> Vec<f64> {
    let weights: Vec<f64> = (1..=CELLS).map(|rank| (rank as f64).powf(-exponent)).collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / total).collect()
}

fn cell(distribution: &[f64], mut place: f64) -> usize {
    for (cell, probability) in distribution.iter().enumerate() {
        place -= probability;
        if place < 0.0 {
            return cell;
        }
    }
    CELLS - 1
}

/// Counts of both sides by service. Half of a service's calls go to three cells of its own, which are
/// drawn from the same distribution, so that over services each side has its own distribution.
fn sides(
    rng: &mut dyn Rng,
    distributions: [&[f64]; 2],
    services: usize,
    graphs: usize,
) -> Vec<[Vec<f64>; 2]> {
    let own: Vec<[f64; 3]> = (0..services).map(|_| std::array::from_fn(|_| rng.random())).collect();
    let mut counts = vec![[vec![0.0; CELLS], vec![0.0; CELLS]]; services];
    for (side, distribution) in distributions.into_iter().enumerate() {
        for graph in 0..graphs {
            let service = graph % services;
            let place = if rng.random_bool(0.5) {
                own[service][rng.random_range(0..3)]
            } else {
                rng.random()
            };
            counts[service][side][cell(distribution, place)] += 1.0;
        }
    }
    counts
}

const DISTANCES: [&str; 5] = ["TV", "KL", "KS", "EMD", "MMD²"];

/// Gaussian kernel of two cells.
fn kernel(one: usize, other: usize) -> f64 {
    let distance = one.abs_diff(other) as f64 / 10.0;
    (-distance * distance / 2.0).exp()
}

fn earth_movers(real: &[f64], synthetic: &[f64]) -> f64 {
    let (all, others) = (real.iter().sum::<f64>(), synthetic.iter().sum::<f64>());
    let (mut below, mut sum) = (0.0, 0.0);
    for (p, q) in real.iter().zip(synthetic) {
        below += p / all - q / others;
        sum += f64::abs(below);
    }
    sum
}

/// Σ k(x, y) over pairs of two sides.
fn pairs(kernels: &[f64], one: &[f64], other: &[f64]) -> f64 {
    let row = |(cell, weight): (usize, &f64)| {
        let row = &kernels[cell * CELLS..(cell + 1) * CELLS];
        weight * row.iter().zip(other).map(|(kernel, weight)| kernel * weight).sum::<f64>()
    };
    one.iter().enumerate().filter(|(_, weight)| **weight > 0.0).map(row).sum()
}

/// The distances, each service as often as it was drawn.
fn distances(kernels: &[f64], counts: &[[Vec<f64>; 2]], drawn: &[u32]) -> Vec<f64> {
    let mut sums = [vec![0.0; CELLS], vec![0.0; CELLS]];
    // A graph is no pair with itself.
    let mut selves = [0.0; 2];
    for (service, times) in counts.iter().zip(drawn).filter(|(_, times)| **times > 0) {
        let times = f64::from(*times);
        for side in 0..2 {
            for (sum, count) in sums[side].iter_mut().zip(&service[side]) {
                *sum += times * count;
                selves[side] += times * times * count;
            }
        }
    }
    let [real, synthetic] = &sums;
    let all = [0, 1].map(|side: usize| sums[side].iter().sum::<f64>());
    let within = |side: usize| {
        (pairs(kernels, &sums[side], &sums[side]) - selves[side])
            / (all[side] * all[side] - selves[side])
    };
    let between = pairs(kernels, real, synthetic) / (all[0] * all[1]);
    vec![
        total_variation(real, synthetic),
        divergence(real, synthetic),
        kolmogorov_smirnov(real, synthetic),
        earth_movers(real, synthetic),
        within(0) + within(1) - 2.0 * between,
    ]
}

/// The distances of the distributions themselves.
fn true_distances(kernels: &[f64], distributions: [&[f64]; 2]) -> Vec<f64> {
    let [real, synthetic] = distributions;
    let divergence = real.iter().zip(synthetic).map(|(p, q)| p * (p / q).ln()).sum();
    let squared = pairs(kernels, real, real) + pairs(kernels, synthetic, synthetic)
        - 2.0 * pairs(kernels, real, synthetic);
    vec![
        total_variation(real, synthetic),
        divergence,
        kolmogorov_smirnov(real, synthetic),
        earth_movers(real, synthetic),
        squared,
    ]
}

/// Intervals of a distance: as the project has them, percentiles alone, and the basic bootstrap.
fn kinds(value: f64, resamples: &[f64]) -> [Interval; 3] {
    let percentiles = Interval::percentiles(resamples);
    let basic =
        Interval { low: 2.0 * value - percentiles.high, high: 2.0 * value - percentiles.low };
    [Interval::recentred(value, resamples), percentiles, basic]
}

fn of_distances(simulations: u64) {
    println!(
        "\nIntervals of distances, nominal 95 %, held of samples of this size / of the distributions:\n"
    );
    println!(
        "| distance | sides | services | graphs | recentred bootstrap | percentile (not used) | basic (not used) |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|");
    let kernels: Vec<f64> =
        (0..CELLS * CELLS).map(|pair| kernel(pair / CELLS, pair % CELLS)).collect();
    let (real, other) = (zipf(1.0), zipf(1.15));
    for (services, graphs) in [(30, 300), (100, 500)] {
        for (apart, distributions) in [("equal", [&real, &real]), ("different", [&real, &other])] {
            let distributions = distributions.map(Vec::as_slice);
            let truth = true_distances(&kernels, distributions);
            let whole = vec![1; services];
            let simulate = |simulation: u64| {
                let path = [services as u64, u64::from(apart == "equal"), simulation];
                let mut rng = random::stream(0, "coverage/distances", &path);
                let counts = sides(&mut rng, distributions, services, graphs);
                let values = distances(&kernels, &counts, &whole);
                let drawn =
                    resamples(simulation, services, |drawn| distances(&kernels, &counts, drawn));
                let of = |index: usize| drawn.iter().map(|values| values[index]).collect();
                let intervals: Vec<_> = (0..DISTANCES.len())
                    .map(|index| kinds(values[index], &Vec::from_iter::<Vec<f64>>(of(index))))
                    .collect();
                (values, intervals)
            };
            let found: Vec<_> = (0..simulations).into_par_iter().map(simulate).collect();
            for (index, name) in DISTANCES.iter().enumerate() {
                let of_size =
                    found.iter().map(|(values, _)| values[index]).sum::<f64>() / found.len() as f64;
                let held = |kind: usize| {
                    let [of_size, of_all] = [of_size, truth[index]].map(|truth| {
                        let held =
                            found.iter().filter(|(_, kinds)| holds(kinds[index][kind], truth));
                        100.0 * held.count() as f64 / found.len() as f64
                    });
                    format!("{of_size:.0} % / {of_all:.0} %")
                };
                let [own, percentile, basic] = [0, 1, 2].map(held);
                println!(
                    "| {name} | {apart} | {services} | {graphs} | {own} | {percentile} | {basic} |"
                );
            }
        }
    }
}

/// The share of distinct graphs, of services that each have kinds of their own.
fn of_distinct(simulations: u64) {
    for services in [30, 100] {
        let simulate = |simulation: u64| {
            let path = [services as u64, simulation];
            let mut rng = random::stream(0, "coverage/distinct", &path);
            let distinct: Vec<f64> = (0..services)
                .map(|_| {
                    let kinds = rng.random_range(2..20usize);
                    let seen: std::collections::BTreeSet<usize> =
                        (0..10).map(|_| rng.random_range(0..kinds)).collect();
                    seen.len() as f64
                })
                .collect();
            let (all, count) = (distinct.iter().sum::<f64>(), 10.0 * services as f64);
            let without = distinct.iter().map(|own| (all - own) / (count - 10.0));
            let without: Vec<f64> = without.collect();
            (all / count, Interval::jackknife(all / count, &without))
        };
        let found: Vec<_> = (0..simulations).into_par_iter().map(simulate).collect();
        let truth = found.iter().map(|(value, _)| value).sum::<f64>() / found.len() as f64;
        let held = found.iter().filter(|(_, interval)| holds(*interval, truth)).count();
        let held = held as f64 / found.len() as f64;
        row("jackknife over services", "share of distinct graphs", services, 10 * services, held);
    }
}

/// Areas under the ROC curve of scores that resemble each other within services.
fn of_areas(simulations: u64) {
    const EXAMPLES: usize = 5;
    for services in [30, 100] {
        let simulate = |simulation: u64| {
            let path = [services as u64, simulation];
            let mut rng = random::stream(0, "coverage/areas", &path);
            let scores: Vec<[Vec<f64>; 2]> = (0..services)
                .map(|_| {
                    let own = 0.7 * normal(&mut rng);
                    let mut of_service = [Vec::new(), Vec::new()];
                    for _ in 0..EXAMPLES {
                        let label = usize::from(rng.random_bool(0.5));
                        of_service[label].push(own + label as f64 + normal(&mut rng));
                    }
                    of_service
                })
                .collect();
            // Pairs of a true example of one service and a false one of another: won, and all.
            let pairs = |one: &[Vec<f64>; 2], other: &[Vec<f64>; 2]| {
                let won =
                    one[1].iter().map(|high| other[0].iter().filter(|low| high > *low).count());
                [won.sum::<usize>() as f64, (one[1].len() * other[0].len()) as f64]
            };
            let pairs: Vec<Vec<[f64; 2]>> = scores
                .iter()
                .map(|one| scores.iter().map(|other| pairs(one, other)).collect())
                .collect();
            let area = |drawn: &[u32]| {
                let (mut won, mut all) = (0.0, 0.0);
                for (row, times) in pairs.iter().zip(drawn).filter(|(_, times)| **times > 0) {
                    for ([wins, pairs], others) in row.iter().zip(drawn) {
                        let weight = f64::from(*times) * f64::from(*others);
                        won += weight * wins;
                        all += weight * pairs;
                    }
                }
                vec![won / all]
            };
            let drawn = bootstrap(Groups::numbered(simulation, services), area).remove(0);
            (drawn.value, drawn.interval)
        };
        let found: Vec<_> = (0..simulations).into_par_iter().map(simulate).collect();
        let truth = found.iter().map(|(value, _)| value).sum::<f64>() / found.len() as f64;
        let held = found.iter().filter(|(_, interval)| holds(*interval, truth)).count();
        let held = held as f64 / found.len() as f64;
        let what = "area under the ROC curve";
        row("bootstrap over services", what, services, EXAMPLES * services, held);
    }
}

/// Differences of two variants that do not differ: intervals, and tests.
fn sizes(simulations: u64) {
    let mut intervals = Vec::new();
    for (seeds, services, spread) in [
        (1, 100, 0.0),
        (3, 100, 0.0),
        (3, 100, 0.02),
        (3, 100, 0.05),
        (5, 100, 0.05),
        (3, 20, 0.02),
    ] {
        let compared = |simulation: u64| {
            let path = [seeds as u64, services as u64, (spread * 100.0) as u64, simulation];
            let mut rng = random::stream(0, "coverage/differences", &path);
            let rng: &mut dyn Rng = &mut rng;
            let base = shares(rng, 0.6, services, 0.15);
            let mut arm = || -> Vec<PromptScores> {
                // What services are to this generator alone.
                let own: Vec<f64> = base.iter().map(|share| share + 0.1 * normal(rng)).collect();
                (0..seeds)
                    .map(|_| {
                        let training = spread * normal(rng);
                        answers(rng, &own, training)
                    })
                    .collect()
            };
            let (one, other) = (arm(), arm());
            let known = Services::new(one.iter().chain(&other));
            let resampling = Resampling::new(&known);
            let pair = [&seeds_of(&one), &seeds_of(&other)];
            let found = compare(pair, METRIC, &known, &resampling).expect("a comparison");
            let by_service: Vec<f64> = (0..services)
                .map(|service| {
                    let sum = |arm: &[PromptScores]| -> f64 {
                        let of = |scores: &PromptScores| -> f64 {
                            let values = scores.column(METRIC).expect("values");
                            values[10 * service..10 * service + 10].iter().sum()
                        };
                        arm.iter().map(of).sum()
                    };
                    sum(&one) - sum(&other)
                })
                .collect();
            let mean = |scores: &PromptScores| -> f64 {
                let values = scores.column(METRIC).expect("values");
                values.iter().sum::<f64>() / values.len() as f64
            };
            let by_seed: Vec<f64> =
                one.iter().zip(&other).map(|(one, other)| mean(one) - mean(other)).collect();
            (found, services_differ(&by_service), seeds_differ(&by_seed))
        };
        let found: Vec<_> = (0..simulations / 2).into_par_iter().map(compared).collect();
        let count = found.len() as f64;
        let below = |p: &dyn Fn(usize) -> f64| {
            let hits = (0..found.len()).filter(|index| p(*index) < 0.05).count();
            format!("{:.0} %", 100.0 * hits as f64 / count)
        };
        let line = |test: &str, share: String| {
            println!("| {test} | {seeds} | {services} | {spread} | {share} |");
        };
        line("sign flips of services", below(&|index| found[index].1));
        if seeds > 1 {
            line("Student, over seeds", below(&|index| found[index].2.unwrap_or(1.0)));
        }
        line("p of a comparison (the larger)", below(&|index| found[index].0.p));
        // Families of five, whose tests are independent here.
        let families: Vec<Vec<f64>> = found
            .chunks_exact(5)
            .map(|family| holm(&family.iter().map(|one| one.0.p).collect::<Vec<_>>()))
            .collect();
        let any = families.iter().filter(|family| family.iter().any(|p| *p < 0.05)).count();
        let any = 100.0 * any as f64 / families.len() as f64;
        line("any of five, by Holm", format!("{any:.0} %"));
        let held = found.iter().filter(|(found, ..)| {
            let Bounded { low, high, .. } = found.difference;
            low <= 0.0 && 0.0 <= high
        });
        intervals.push((seeds, services, spread, held.count() as f64 / count));
    }
    let distances = distances_compared(simulations);
    for Compared { how, seeds, services, found, .. } in &distances {
        println!("| distances (TV), {how} | {seeds} | {services} | 0 | {:.0} % |", 100.0 * found);
    }
    println!(
        "| each of six with the best (TV), by Holm | 1 | 100 | 0 | {:.0} % |",
        100.0 * best_of_six(simulations)
    );
    println!("\nIntervals of differences, nominal 95 %:\n");
    println!("| difference of | seeds | services | spread of seeds | held |");
    println!("|---|---:|---:|---:|---:|");
    for (seeds, services, spread, held) in intervals {
        println!("| fractions | {seeds} | {services} | {spread} | {:.0} % |", 100.0 * held);
    }
    for Compared { how, seeds, services, held, .. } in distances {
        println!("| distances (TV), {how} | {seeds} | {services} | 0 | {:.0} % |", 100.0 * held);
    }
}

/// Variants that are equally far from the real side.
struct Compared {
    how: &'static str,
    seeds: usize,
    services: usize,
    /// How often a difference is found.
    found: f64,
    /// How often the interval holds none.
    held: f64,
}

fn distances_compared(simulations: u64) -> Vec<Compared> {
    let (real, other) = (zipf(1.0), zipf(1.15));
    let of = |(seeds, services): (usize, usize)| {
        let simulate = |simulation: u64| {
            let path = [seeds as u64, services as u64, simulation];
            let mut rng = random::stream(0, "coverage/distances compared", &path);
            let mut variant = || -> Vec<(f64, Resamples)> {
                let seed = |_| {
                    resampled(&sides(&mut rng, [&real, &other], services, 5 * services), simulation)
                };
                (0..seeds).map(seed).collect()
            };
            let (one, two) = (variant(), variant());
            [together(&one, &two), independent(all(&one), all(&two))]
        };
        let found: Vec<_> = (0..simulations).into_par_iter().map(simulate).collect();
        let share = |how: usize, of: fn(&Difference) -> bool| {
            found.iter().filter(|found| of(&found[how])).count() as f64 / found.len() as f64
        };
        [(0, "on shared draws"), (1, "from two intervals")].map(|(place, how)| Compared {
            how,
            seeds,
            services,
            found: share(place, |found| found.p < 0.05),
            held: share(place, |found| found.difference.low <= 0.0 && 0.0 <= found.difference.high),
        })
    };
    [(1, 100), (3, 100), (3, 30)].into_iter().flat_map(of).collect()
}

/// The distance of the two sides of these services, and what it is for each draw of them.
fn resampled(services: &[[Vec<f64>; 2]], simulation: u64) -> (f64, Resamples) {
    let of = |drawn: &[u32]| {
        let mut sums = [vec![0.0; CELLS], vec![0.0; CELLS]];
        for (service, times) in services.iter().zip(drawn) {
            for side in 0..2 {
                for (sum, count) in sums[side].iter_mut().zip(&service[side]) {
                    *sum += f64::from(*times) * count;
                }
            }
        }
        vec![total_variation(&sums[0], &sums[1])]
    };
    let drawn = resamples(simulation, services.len(), of);
    let values = drawn.into_iter().map(|values| values[0]).collect();
    let groups = services.len() as u32;
    (of(&vec![1; services.len()])[0], Resamples { draws: 0, groups, values })
}

/// How often any of six variants that are equally far from the real side is found to differ from the one
/// that came out best, with Holm's correction for all of their pairs.
fn best_of_six(simulations: u64) -> f64 {
    let (real, other) = (zipf(1.0), zipf(1.15));
    share(simulations, "best of six", |rng| {
        let seed = rng.random();
        let variants: Vec<(f64, Resamples)> =
            (0..6).map(|_| resampled(&sides(rng, [&real, &other], 100, 500), seed)).collect();
        let best = (0..6).reduce(
            |best, next| {
                if variants[next].0 < variants[best].0 { next } else { best }
            },
        );
        let best = best.expect("six");
        let others = (0..6).filter(|place| *place != best);
        let mut p: Vec<f64> = others
            .map(|place| together(&variants[place..=place], &variants[best..=best]).p)
            .collect();
        // Which one is the best is seen in the results: the pairs without it count as tests.
        p.extend([1.0; 10]);
        holm(&p).iter().any(|p| *p < 0.05)
    })
}

fn together(one: &[(f64, Resamples)], two: &[(f64, Resamples)]) -> Difference {
    let [one, two] = [one, two].map(|seeds| {
        let seeds = seeds.iter();
        seeds.map(|(value, resamples)| Resampled { value: *value, resamples }).collect::<Vec<_>>()
    });
    difference(&one, &two).expect("a difference")
}

/// The number of several seeds, as tables have it.
fn all(seeds: &[(f64, Resamples)]) -> Bounded {
    let seeds = seeds.iter().map(|(value, resamples)| {
        let Interval { low, high } = Interval::recentred(*value, &resamples.values);
        Bounded { value: *value, low, high }
    });
    of_seeds(&seeds.collect::<Vec<_>>()).expect("seeds")
}
