"""Values for the tests in src/report/statistics/: Holm's correction, Cohen's h and d, permutation and
t-tests, and the probability of improvement, from scipy 1.17.1, statsmodels 0.15.0 and numpy 2.4.6.

Run by hand: `pip install scipy statsmodels`, then `python tests/reference/statistics.py`.
"""

import numpy
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_effectsize

print("holm", multipletests([0.01, 0.04, 0.03, 0.005, 0.5, 0.04], method="holm")[1])
print("h", proportion_effectsize(0.75, 0.5), proportion_effectsize(1.0, 0.9))


def total(differences, axis):
    return numpy.sum(differences, axis=axis)


def flips(differences, resamples=numpy.inf):
    test = stats.permutation_test(
        (numpy.array(differences),), total, permutation_type="samples", n_resamples=resamples,
        alternative="two-sided", rng=numpy.random.default_rng(0),
    )
    return test.pvalue


eight = [0.5, -0.1, 0.3, 0.25, -0.05, 0.4, 0.2, 0.1]
print("flips of eight", flips(eight))
print("flips of three", flips([0.1, 0.2, 0.3]))
# Clusters of one prompt, all flips of 12 of 0 and 1: the exact test of McNemar.
print("mcnemar", mcnemar([[0, 3], [9, 0]], exact=True).pvalue, flips([1.0] * 9 + [-1.0] * 3))
many = [((37 * index) % 41 - 14) / 100 for index in range(40)]
print("flips of forty", flips(many, 199_999))
print("t of three", stats.ttest_1samp([0.02, 0.05, 0.03], 0).pvalue)
print("t of five", stats.ttest_1samp([-0.02, 0.05, 0.03, 0.01, 0.04], 0).pvalue)


def improvement(one, other):
    """Agarwal et al. (2021): mean over tasks (columns) of U / (runs x runs)."""
    sizes = len(one) * len(other)
    tasks = [
        stats.mannwhitneyu([run[task] for run in one], [run[task] for run in other]).statistic / sizes
        for task in range(len(one[0]))
    ]
    return numpy.mean(tasks)


# Means of services (columns) of the seeds (rows) in tests::improvement_is_that_of_mann_and_whitney.
one = [[0.75, 0.5, 1.0], [0.5, 0.5, 0.75], [1.0, 0.25, 0.75]]
other = [[0.5, 0.5, 0.25], [0.75, 0.75, 1.0], [0.25, 0.5, 0.5]]
print("improvement", improvement(one, other), improvement(other, one))

a, b = [1.0, 2.0, 4.0, 3.5], [0.5, 1.0, 3.0, 2.0]
spread = numpy.sqrt((numpy.var(a, ddof=1) + numpy.var(b, ddof=1)) / 2)
print("d", (numpy.mean(a) - numpy.mean(b)) / spread)
