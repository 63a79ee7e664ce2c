"""Prints the weights, intercepts and areas that the tests of src/evaluate/classifier.rs hold.

Run by hand: `pip install scikit-learn`, then `python tests/reference/classifier.py`. The numbers were
made with scikit-learn 1.9.1 and numpy 2.4.6. Rows and labels are formulas, as in the tests.
"""

import numpy
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
print("scikit-learn", sklearn.__version__, "numpy", numpy.__version__)
for l2 in [0.01, 1.0, 100.0]:
    model = LogisticRegression(C=1 / l2, solver="newton-cholesky", tol=1e-14, max_iter=1000)
    model.fit(rows, labels)
    scores = model.decision_function(rows)
    print(l2, model.coef_[0].tolist(), model.intercept_[0], roc_auc_score(labels, scores))

scores = [(row * 7) % 10 for row in range(30)]
truth = [(row * 3) % 7 > 3 for row in range(30)]
weights = [row % 3 for row in range(30)]
print("ties", roc_auc_score(truth, scores), roc_auc_score(truth, scores, sample_weight=weights))
