"""Areas under the ROC and the precision-recall curve by scikit-learn 1.9.1, for the tests of
src/evaluate/ranking.rs: scores with ties, unequal weights, weights of 0.

Run by hand: `pip install scikit-learn==1.9.1`, then `python tests/reference/ranking.py`.
"""

from sklearn.metrics import average_precision_score, roc_auc_score

COUNT = 60
scores = [(index * 7 % 23) / 4 for index in range(COUNT)]
labels = [index * 5 % 13 > 6 for index in range(COUNT)]
for name, weights in [
    ("equal", [1] * COUNT),
    ("unequal", [index % 4 for index in range(COUNT)]),
    ("some", [index * 3 % 5 // 3 for index in range(COUNT)]),
]:
    roc = roc_auc_score(labels, scores, sample_weight=weights)
    precision = average_precision_score(labels, scores, sample_weight=weights)
    print(f"{name}: {roc!r} {precision!r}")
