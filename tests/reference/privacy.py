"""Prints the distances, scores and areas that the tests of src/evaluate/novelty hold.

Run by hand: `pip install sdmetrics scikit-learn`, then `python tests/reference/privacy.py`. The numbers
were made with sdmetrics 0.32.0 and scikit-learn 1.9.1.
"""

import pandas
import sdmetrics
import sklearn
from sdmetrics.single_table import DCROverfittingProtection
from sdmetrics.single_table.privacy.dcr_utils import calculate_dcr
from sklearn.metrics import roc_auc_score

print("sdmetrics", sdmetrics.__version__, "scikit-learn", sklearn.__version__)
columns = {
    "size": {"sdtype": "numerical"},
    "service": {"sdtype": "categorical"},
    "kind": {"sdtype": "categorical"},
}
metadata = {"columns": columns}
tables = {"tables": {"calls": metadata}}


def table(rows):
    return pandas.DataFrame(rows, columns=["size", "service", "kind"])


train = table([(0, "a", "x"), (2, "a", "y"), (5, "b", "x"), (8, "c", "y")])
holdout = table([(1, "a", "x"), (2, "c", "y"), (6, "b", "x"), (16, "b", "y")])
for synthetic in [
    train,
    holdout,
    table([(0, "a", "x"), (2, "a", "y"), (5, "b", "x"), (16, "b", "x")]),
    # The second one is as far from both.
    table([(0, "a", "x"), (2, "d", "z"), (2, "a", "y"), (5, "b", "x")]),
]:
    score = DCROverfittingProtection.compute(train, synthetic, holdout, tables, "calls")
    distances = [
        calculate_dcr(reference_dataset=other, dataset=synthetic, metadata=metadata).tolist()
        for other in (train, holdout)
    ]
    print(*distances, score)

scores, members, sizes = [], [], []
for index in range(40):
    scores.append((index * 7) % 16 - 20.0 + (3.0 if index % 3 == 0 else 0.0))
    members.append(index % 3 == 0)
    sizes.append(1 + index * index % 7)
print("loss", roc_auc_score(members, scores), "size", roc_auc_score(members, sizes))
