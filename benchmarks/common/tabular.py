"""scikit-learn's data sets, with a part held out."""

from collections.abc import Callable
from typing import Any

import numpy as np

Data = tuple[np.ndarray, np.ndarray]
"""Features, [count, …], and labels, [count]."""


def standardised(load: Callable[..., Any]) -> tuple[Data, Data]:
    """One of scikit-learn's data sets, a fifth held out, in units of the rest's deviations."""
    features, labels = load(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    features, labels = features[order].astype(np.float32), labels[order].astype(np.int32)
    cut = len(labels) // 5
    rest = features[cut:]
    deviation = rest.std(0)
    features = (features - rest.mean(0)) / np.where(deviation > 0, deviation, 1)
    return (features[cut:], labels[cut:]), (features[:cut], labels[:cut])
