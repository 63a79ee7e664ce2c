"""Prints the numbers that the tests of src/evaluate/classifier.rs and src/evaluate/downstream/ hold.

Run by hand: `pip install scikit-learn`, then `python tests/reference/classifier.py`. The numbers were
made with scikit-learn 1.9.1, scipy 1.17.1 and numpy 2.4.6. Rows and labels are formulas, as in the tests.
"""

import numpy
import scipy
import scipy.optimize
import sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

ROWS, COLUMNS = 60, 4


def value(row, column):
    """Dense, of very different scales, and correlated."""
    return ((row * (column + 3) * 7 + column * column) % 23 - 11) / 4.0 * 10.0 ** (column - 1)


def label(row):
    return (row * 5 + (value(row, 1) > 0.5) * 9) % 13 > 6


rows = numpy.array([[value(row, column) for column in range(COLUMNS)] for row in range(ROWS)])
labels = numpy.array([label(row) for row in range(ROWS)])
print("scikit-learn", sklearn.__version__, "scipy", scipy.__version__, "numpy", numpy.__version__)
for l2 in [0.01, 1.0, 100.0]:
    model = LogisticRegression(C=1 / l2, solver="newton-cholesky", tol=1e-14, max_iter=1000)
    model.fit(rows, labels)
    scores = model.decision_function(rows)
    print(l2, model.coef_[0].tolist(), model.intercept_[0], roc_auc_score(labels, scores))

# scikit-learn penalises the intercept of a support vector machine, so scipy minimises the objective.
scaled = rows / numpy.array([10.0 ** (column - 1) for column in range(COLUMNS)])
signs = numpy.where(labels, 1.0, -1.0)


def hinge(parameters, l2):
    weights, gaps = parameters[:-1], 1 - signs * (scaled @ parameters[:-1] + parameters[-1])
    gaps = numpy.maximum(gaps, 0)
    slopes = -2 * gaps * signs
    value = (gaps**2).sum() + l2 / 2 * (weights**2).sum()
    return value, numpy.append(scaled.T @ slopes + l2 * weights, slopes.sum())


for l2 in [0.5, 50.0]:
    best = scipy.optimize.minimize(
        hinge, numpy.zeros(COLUMNS + 1), l2, jac=True, method="L-BFGS-B", options={"ftol": 1e-16, "gtol": 1e-11}
    )
    print("hinge", l2, best.x.tolist(), abs(best.jac).max())

scores = [(row * 7) % 10 for row in range(30)]
truth = [(row * 3) % 7 > 3 for row in range(30)]
weights = [row % 3 for row in range(30)]
print("ties", roc_auc_score(truth, scores), roc_auc_score(truth, scores, sample_weight=weights))

from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

scores = [(row * 11) % 17 - 9 for row in range(40)]
truth = [(row * 7) % 10 > 6 for row in range(40)]
guesses = [score > 0 for score in scores]
print(
    "confusion",
    balanced_accuracy_score(truth, guesses),
    accuracy_score(truth, guesses),
    f1_score(truth, guesses),
    roc_auc_score(truth, scores),
)

# Own times of two microservices in four traces, with the lengths of the traces.
lengths = [10, 12, 32, 12]
print("importance", *(numpy.corrcoef(own, lengths)[0, 1] for own in ([2, 2, 2, 3], [8, 10, 30, 9])))
