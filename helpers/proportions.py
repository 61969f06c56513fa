"""Intervals of proportions: of clips that come in groups, and of few."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import norm

FEW_GROUPS = 8


def interval(hits: np.ndarray, member: np.ndarray, n_boot: int = 1000, seed: int = 0) -> tuple[float, float]:
    """95 % interval of a share among clips that come in groups.

    Parameters
    ----------
    hits : np.ndarray [shape=(n,)]
        0 or 1 per clip.
    member : np.ndarray [shape=(n,)]
        Group of each.

    Returns
    -------
    low, high : float

    Notes
    -----
    Percentile bootstrap over groups. Where there are fewer than eight groups, or all or none of the clips are hits,
    the bootstrap's interval would be too narrow or have no width at all; then Wilson's, with the number of groups as
    n, as if the clips of a group were one observation. Used by notebook 06.
    """
    hits = np.asarray(hits, dtype=float)
    per_group = pd.Series(hits).groupby(np.asarray(member)).agg(["sum", "count"]).to_numpy()
    if len(per_group) < FEW_GROUPS or hits.mean() in (0, 1):
        return wilson(hits.mean() * len(per_group), len(per_group))
    drawn = np.random.default_rng(seed).integers(len(per_group), size=(n_boot, len(per_group)))
    sums = per_group[drawn].sum(axis=1)
    low, high = np.quantile(sums[:, 0] / sums[:, 1], [0.025, 0.975])
    return float(low), float(high)


def wilson(hits: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of a proportion that keeps its width when all or none of a few are hits (Wilson 1927).

    Returns
    -------
    low, high : float
        (0, 1) for n = 0.

    Notes
    -----
    Used by notebook 06, through `interval`.
    """
    if n == 0:
        return 0.0, 1.0
    z = norm.ppf(0.5 + confidence / 2)
    share, weight = hits / n, z**2 / n
    middle = (share + weight / 2) / (1 + weight)
    half = z * np.sqrt(share * (1 - share) / n + weight / (4 * n)) / (1 + weight)
    return float(max(0.0, middle - half)), float(min(1.0, middle + half))
