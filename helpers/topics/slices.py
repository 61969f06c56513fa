"""Slices of predictions: where a model errs more than elsewhere, and how much of that is the luck of small numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd

from helpers.base import DataMissing
from helpers.data import splits
from helpers.scores import mean

LEVEL = 0.05


def join(predictions: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """Put the metadata of the manifest beside a recorded table of predictions.

    Parameters
    ----------
    predictions : pandas.DataFrame
        As made by `helpers.evaluation.prediction_table`.
    manifest : pandas.DataFrame
        Usable clips (`helpers.audit`).

    Returns
    -------
    pandas.DataFrame
        One row per prediction, in the order of `predictions`: its columns, those of the manifest, and `wrong` (bool),
        `confidence` (probability given to the predicted class), `member` (the group, never missing).

    Raises
    ------
    DataMissing
        The manifest lacks clips that were predicted: the run was made with other data.

    Notes
    -----
    Used by notebook 06.
    """
    unknown = set(predictions["clip_id"]) - set(manifest["clip_id"])
    if unknown:
        raise DataMissing(
            f"{len(unknown)} of the {len(predictions)} clips of the run, such as {sorted(unknown)[0]!r}, are not among "
            "the usable clips of this dataset: the run was made with other data. Run the notebook that recorded it "
            "again, with the same `dataset` and `data_dir`."
        )
    details = manifest.assign(member=splits.groups(manifest)).drop(columns=["label", "fold"])
    table = predictions.merge(details, on="clip_id", how="left", validate="many_to_one")
    table["wrong"] = table["label"] != table["predicted"]
    table["confidence"] = [row[f"p_{row['predicted']}"] for row in table.to_dict("records")]
    return table


def bins(values: pd.Series, n_bins: int = 4, unit: str = "") -> pd.Series:
    """Cut a quantity at its quantiles, so that every bin has about the same number of clips.

    Parameters
    ----------
    values : pandas.Series [shape=(n,)]
    n_bins : int
        Wanted bins; equal values never stand in two, so there can be fewer.
    unit : str
        Added to the names of the bins.

    Returns
    -------
    pandas.Series [shape=(n,)] of str
        Such as "1.4 to 2.0 s".

    Notes
    -----
    Used by notebook 06.
    """
    # Equal values throughout have no quantiles to cut at; they are one bin.
    number = pd.qcut(values, n_bins, labels=False, duplicates="drop") if values.nunique() > 1 else values * 0
    part = values.groupby(number)
    names = {
        bin_: f"{low:.1f} to {high:.1f} {unit}".strip()
        for bin_, low, high in zip(part.min().index, part.min(), part.max(), strict=True)
    }
    return number.map(names).astype(object).fillna("unknown")


def by_value(values: pd.Series, name: str, min_n: int = 5) -> pd.DataFrame:
    """Make a slice of every value, or, where clips have lists of values (tags), of every member.

    Parameters
    ----------
    values : pandas.Series [shape=(n,)]
        Texts or lists of texts.
    name : str
        Written before the value.
    min_n : int
        Values with fewer clips make no slice.

    Returns
    -------
    pandas.DataFrame [shape=(n, n_slices)] of bool
        Which clip (row) belongs to which slice (column).

    Notes
    -----
    Used by notebook 06.
    """
    sets = [set(map(str, value)) if isinstance(value, (list, np.ndarray)) else {str(value)} for value in values]
    counts = pd.Series([value for members in sets for value in members], dtype=object).value_counts()
    masks = {f"{name}: {value}": [value in m for m in sets] for value in sorted(counts.index[counts >= min_n])}
    return pd.DataFrame(masks, index=values.index)


def measure(
    wrong: np.ndarray, slices: pd.DataFrame, group: np.ndarray | None = None, n_draws: int = 1000, seed: int = 0
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Measure the error rate of every slice, and say how many would look bad if the errors fell by chance.

    Parameters
    ----------
    wrong : np.ndarray [shape=(n,), dtype=bool]
    slices : pandas.DataFrame [shape=(n, n_slices)] of bool
    group : np.ndarray [shape=(n,)], optional
        Group of every clip: intervals draw whole groups, shuffles keep the errors of a group together. Leave it out
        for slices that *are* groups.
    n_draws : int
        Resamples for the intervals, and shuffles for the chance.
    seed : int

    Returns
    -------
    table : pandas.DataFrame
        One row per slice, worst first (by `chance`): `slice`, `n`, `groups`, `error`, `low`, `high` (95 %), and
        `chance`: the share of shuffles in which the slice has at least this error rate.
    luck : dict
        `found`: slices that look bad (`chance` of at most 5 %); `expected`: how many do so in a shuffle on average;
        `high`: how many in the worst twentieth of the shuffles.

    Notes
    -----
    Intervals: percentile bootstrap over groups; Wilson (1927) with the number of groups as n where a slice has fewer
    than eight, or is all right or all wrong, since the bootstrap would then give an interval without width. Shuffles
    put the groups in a new order and deal their errors, in that order, to the clips. Used by notebook 06.
    """
    wrong = np.asarray(wrong, dtype=float)
    names = np.arange(len(wrong)) if group is None else np.asarray(group, dtype=str)
    _, member = np.unique(names, return_inverse=True)
    mask = slices.to_numpy(float)
    n = mask.sum(axis=0)
    error = wrong @ mask / n
    rng = np.random.default_rng(seed)
    shuffled = np.array([deal(wrong, member, rng) for _ in range(n_draws)]) @ mask / n
    chance = ((shuffled >= error - 1e-12).sum(axis=0) + 1) / (n_draws + 1)
    rows = []
    for column, name in enumerate(slices.columns):
        inside = mask[:, column] > 0
        share = mean(wrong[inside], member[inside])
        low, high = share["low"], share["high"]
        n_groups = len(np.unique(member[inside]))
        rows.append([name, int(n[column]), n_groups, error[column], low, high, chance[column]])
    table = pd.DataFrame(rows, columns=["slice", "n", "groups", "error", "low", "high", "chance"])
    # The same verdict over each shuffle: its error rate among those of all the others.
    ranks = np.array([(shuffled >= draw - 1e-12).mean(axis=0) for draw in shuffled[:200]])
    bad = (ranks <= LEVEL).sum(axis=1)
    found = int((chance <= LEVEL).sum())
    luck = {"found": found, "expected": float(bad.mean()), "high": float(np.quantile(bad, 0.95)), "slices": len(n)}
    return table.sort_values(["chance", "error"], ascending=[True, False], ignore_index=True), luck


def find(metadata: pd.DataFrame, wrong: np.ndarray, k: int = 5, min_n: int = 8, alpha: float = 0.95) -> pd.DataFrame:
    """Search all combinations of up to two properties for the slices with the worst errors.

    Parameters
    ----------
    metadata : pandas.DataFrame [shape=(n, n_properties)] of str
        Binned properties of every clip.
    wrong : np.ndarray [shape=(n,), dtype=bool]
    k : int
        Most slices wanted.
    min_n : int
        Fewest clips a slice may have.
    alpha : float
        Weight of a high error rate against a large slice, 0 to 1.

    Returns
    -------
    pandas.DataFrame [shape=(n, n_found)] of bool
        Columns such as "label: noise & loudness: -30 to -20 dB", best score first; none where nothing is worse than
        the average.

    Notes
    -----
    SliceLine (Sagadeeva and Boehm 2021). Used by notebook 06.
    """
    from sliceline.slicefinder import Slicefinder

    wrong = np.asarray(wrong, dtype=float)
    found: dict[bytes, tuple[dict, np.ndarray]] = {}
    if 0 < wrong.mean() < 1:
        finder = Slicefinder(alpha=alpha, k=4 * k, max_l=2, min_sup=min_n, verbose=False)
        finder.fit(metadata.to_numpy(object), wrong)
        for terms in finder.top_slices_:
            chosen = {name: value for name, value in zip(metadata.columns, terms, strict=True) if value is not None}
            mask = np.logical_and.reduce([metadata[name] == value for name, value in chosen.items()])
            # A second property that excludes no clip makes a second name for the same slice; the shorter one stays.
            known = found.get(mask.tobytes(), (chosen, mask))[0]
            found[mask.tobytes()] = (min(known, chosen, key=len), mask)
    named = {" & ".join(f"{name}: {value}" for name, value in terms.items()): mask for terms, mask in found.values()}
    return pd.DataFrame(dict(list(named.items())[:k]), index=metadata.index)


def deal(wrong: np.ndarray, group: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Deal the errors anew to the clips, those of one group together: what errors by chance would look like.

    Returns
    -------
    np.ndarray [shape=(n,)], as many errors as in `wrong`

    Notes
    -----
    Used by notebook 06.
    """
    wrong = np.asarray(wrong)
    names, member = np.unique(np.asarray(group, dtype=str), return_inverse=True)
    rank = rng.permutation(len(names))
    dealt = np.empty_like(wrong)
    dealt[np.argsort(member, kind="stable")] = wrong[np.argsort(rank[member], kind="stable")]
    return dealt
