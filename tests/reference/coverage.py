"""How often the intervals of src/report/statistics/ hold the truth, and how often its tests find a
difference that is not there. Made the table of docs/metrics/statistics.md with numpy 2.4.6 and scipy
1.17.1.

Paired differences without a true difference: value = seed + service + noise of the prompts of a service.

Run by hand: `pip install scipy`, then `python tests/reference/coverage.py` (about two minutes).
"""

import numpy
from scipy import stats

RUNS, RESAMPLES, FLIPS, NOISE = 600, 400, 999, 0.45
rng = numpy.random.default_rng(1)


def drawn(things):
    """How often each is drawn: one less than there are."""
    return rng.multinomial(max(things - 1, 1), [1 / things] * things, RESAMPLES)


def simulate(seeds, services, prompts, seed_spread, service_spread):
    held = by_services = by_seeds = by_both = 0
    for _ in range(RUNS):
        count = numpy.tile(numpy.maximum(1, rng.geometric(1 / prompts, services)), (seeds, 1))
        effect = rng.normal(0, seed_spread, seeds)[:, None] + rng.normal(0, service_spread, services)
        total = count * effect + rng.normal(0, NOISE, count.shape) * numpy.sqrt(count)
        of_seeds, of_services = drawn(seeds), drawn(services)
        means = (of_services @ total.T) / (of_services @ count.T)
        resamples = (means * of_seeds).sum(1) / of_seeds.sum(1)
        low, high = numpy.percentile(resamples, [2.5, 97.5])
        held += low <= 0 <= high
        parts = (total / count.sum(1, keepdims=True)).mean(0)
        flipped = numpy.abs(rng.choice([-1, 1], (FLIPS, services)) @ parts)
        p_services = (1 + (flipped >= abs(parts.sum())).sum()) / (1 + FLIPS)
        differences = total.sum(1) / count.sum(1)
        p_seeds = stats.ttest_1samp(differences, 0).pvalue if seeds > 1 else 0
        by_services += p_services < 0.05
        by_seeds += p_seeds < 0.05
        by_both += max(p_services, p_seeds) < 0.05
    return [f"{100 * hits / RUNS:.0f} %" for hits in (held, by_services, by_seeds, by_both)]


for case in [
    (1, 300, 10, 0.0, 0.2), (1, 300, 10, 0.02, 0.2), (3, 300, 10, 0.0, 0.0), (3, 300, 10, 0.0, 0.2),
    (3, 300, 10, 0.02, 0.2), (3, 300, 10, 0.05, 0.1), (3, 20, 50, 0.02, 0.2), (5, 300, 10, 0.02, 0.2),
    (5, 300, 10, 0.05, 0.1),
]:
    print(*case, *simulate(*case), sep=" | ")
