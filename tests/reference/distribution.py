"""Prints the numbers that unit tests in src/evaluate/distribution/ hold ours against.

Run by hand: `pip install scikit-learn scipy numpy`, then `python tests/reference/distribution.py`.
The numbers in the tests are those of scikit-learn 1.9.1, scipy 1.17.1 and numpy 2.4.6.
"""

import numpy as np
from scipy.stats import ks_2samp, wasserstein_distance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler


def histogram() -> None:
    """histogram.rs, `distances_as_scipy_has_them`."""
    real = [0, 1, 1, 3, 4, 7, 20, 20, 55]
    synthetic = [1, 1, 2, 2, 3, 9, 9, 30]
    distance = wasserstein_distance(real, synthetic)
    print("histogram", distance, ks_2samp(real, synthetic).statistic, distance / np.std(real), np.mean(real))


def joint() -> None:
    """joint.rs, `similarities_by_hand`: edges, depth and latency of three graphs a side."""
    real = np.array([[2, 2, 10], [3, 2, 20], [3, 3, 60]])
    synthetic = np.array([[2, 2, 40], [3, 3, 20], [4, 4, 10]])
    rho, sigma = np.corrcoef(real.T), np.corrcoef(synthetic.T)
    similarity = 1 - np.abs(rho - sigma) / 2
    print("joint", similarity[0, 1], similarity[0, 2], similarity[1, 2])


def example() -> tuple[np.ndarray, np.ndarray]:
    """evaluate/mod.rs, `sparse_example`; the last column, which three vectors have, is left out."""
    index = np.arange(40)

    def value(column: int) -> np.ndarray:
        return (index * (column + 3) + column) % 7

    return np.stack([value(0), index % 3, value(2)], axis=1).astype(float), (
        (index * 7 + index // 5) % 10 < 3 + index % 3
    ).astype(int)


def classifier(vectors: np.ndarray, labels: np.ndarray) -> tuple[StandardScaler, LogisticRegression]:
    scaler = StandardScaler().fit(vectors)
    model = LogisticRegression(C=1.0, solver="newton-cholesky", tol=1e-14, max_iter=10_000)
    return scaler, model.fit(scaler.transform(vectors), labels)


def logistic() -> None:
    """classifier/tests.rs, `scaled_columns_give_the_weights_that_scikit_learn_has`."""
    _, model = classifier(*example())
    print("logistic", *model.coef_[0], *model.intercept_)


def polygraph() -> None:
    """polygraph.rs, `discrepancy_and_area_as_scikit_learn_has_them`: fitted on the first 24."""
    vectors, labels = example()
    scaler, model = classifier(vectors[:24], labels[:24])
    p = model.predict_proba(scaler.transform(vectors[24:]))[:, 1]
    real = labels[24:] == 1
    bound = (np.log2(p[real]).mean() + np.log2(1 - p[~real]).mean() + 2) / 2
    print("polygraph", bound, roc_auc_score(labels[24:], p))


def mmd() -> None:
    """mmd.rs, `discrepancies_as_numpy_has_them`: 24 real vectors against 16, with the last column."""
    vectors = np.column_stack([example()[0], np.arange(40) < 3])
    squared = ((vectors[:, None] - vectors[None]) ** 2).sum(axis=2)
    real = np.sqrt(np.sort(squared[:24, :24][np.triu_indices(24, k=1)]))
    bandwidth = real[len(real) // 2]
    print("mmd", bandwidth)
    for factor in (0.25, 0.5, 1, 2, 4):
        kernel = np.exp(-squared / (2 * (factor * bandwidth) ** 2))
        sides = [kernel[:24, :24], kernel[24:, 24:]]
        within = sum((side.sum() - len(side)) / (len(side) * (len(side) - 1)) for side in sides)
        print("mmd", factor, within - 2 * kernel[:24, 24:].mean())


for make in (histogram, joint, logistic, polygraph, mmd):
    make()
