"""Slices of predictions: where a model errs more than elsewhere, and how much of that is the luck of small numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd

from helpers import data
from helpers.base import DataMissing
from helpers.scores import mean

_LEVEL = 0.05
_N_DRAWS = 1000


def join(predictions: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """Put the metadata of the manifest beside recorded predictions, and `wrong`, `confidence` and `member` (the group).

    `confidence` is the probability of the predicted class. Raises DataMissing where the run was made with other data.
    """
    unknown = set(predictions["clip_id"]) - set(manifest["clip_id"])
    if unknown:
        raise DataMissing(
            f"{len(unknown)} of the {len(predictions)} clips of the run, such as {sorted(unknown)[0]!r}, are not among "
            "the usable clips of this dataset: the run was made with other data. Run the notebook that recorded it "
            "again, with the same `dataset` and `data_dir`."
        )
    details = manifest.assign(member=data.groups(manifest)).drop(columns=["label", "fold"])
    table = predictions.merge(details, on="clip_id", how="left", validate="many_to_one")
    table["wrong"] = table["label"] != table["predicted"]
    table["confidence"] = [row[f"p_{row['predicted']}"] for row in table.to_dict("records")]
    return table


def bins(values: pd.Series, n_bins: int, unit: str) -> pd.Series:
    """Cut a quantity at its quantiles into bins of about as many clips each, named such as "1.4 to 2.0 s".

    Equal values never stand in two bins, so there can be fewer; a missing value is "unknown".
    """
    # Equal values throughout have no quantiles to cut at; they are one bin.
    number = pd.qcut(values, n_bins, labels=False, duplicates="drop") if values.nunique() > 1 else values * 0
    ends = values.groupby(number).agg(["min", "max"])
    names = {bin_: f"{low:.1f} to {high:.1f} {unit}" for bin_, low, high in ends.itertuples()}
    return number.map(names).astype(object).fillna("unknown")


def by_value(values: pd.Series, name: str, min_n: int) -> pd.DataFrame:
    """Make a slice (column of bool, a row per clip) of every value, or of every tag where clips have lists of them.

    `name` is written before the value; values with fewer than `min_n` clips make no slice.
    """
    sets = [set(map(str, value)) if isinstance(value, (list, np.ndarray)) else {str(value)} for value in values]
    counts = pd.Series([value for tags in sets for value in tags], dtype=object).value_counts()
    masks = {f"{name}: {value}": [value in tags for tags in sets] for value in sorted(counts.index[counts >= min_n])}
    return pd.DataFrame(masks, index=values.index)


def measure(wrong: np.ndarray, slices: pd.DataFrame, group: np.ndarray | None = None) -> tuple[pd.DataFrame, dict]:
    """Measure the error rate of every slice, and say how many would look bad if the errors fell by chance.

    The table has a row per slice, worst first: `slice`, `n`, `groups`, `error`, `low`, `high`, and `chance`, the share
    of a thousand shuffles (`deal`) in which the slice has at least this error rate. The other says how many slices
    look bad (`chance` of at most 5 %): `found`, `expected` in a shuffle, `high` in the worst twentieth of shuffles,
    of how many `slices`. Leave out `group` for slices that *are* groups.
    """
    wrong, mask = np.asarray(wrong, dtype=float), slices.to_numpy(float)
    member = np.arange(len(wrong)) if group is None else _member(group)
    n, rng = mask.sum(axis=0), np.random.default_rng(0)
    error = wrong @ mask / n
    shuffled = np.array([deal(wrong, member, rng) for _ in range(_N_DRAWS)]) @ mask / n
    chance = ((shuffled >= error - 1e-12).sum(axis=0) + 1) / (_N_DRAWS + 1)
    rows = []
    for name, inside, p in zip(slices.columns, mask.T > 0, chance, strict=True):
        share = mean(wrong[inside], member[inside])
        rows.append((name, share["n"], len(set(member[inside])), share["value"], share["low"], share["high"], p))
    table = pd.DataFrame(rows, columns=["slice", "n", "groups", "error", "low", "high", "chance"])
    # The same verdict over each shuffle: its error rate among those of all the others.
    ranks = np.array([(shuffled >= draw - 1e-12).mean(axis=0) for draw in shuffled[:200]])
    bad = (ranks <= _LEVEL).sum(axis=1)
    luck = {"found": int((chance <= _LEVEL).sum()), "expected": float(bad.mean()), "slices": len(n)}
    luck["high"] = float(np.quantile(bad, 0.95))
    return table.sort_values(["chance", "error"], ascending=[True, False], ignore_index=True), luck


def find(metadata: pd.DataFrame, wrong: np.ndarray, k: int, min_n: int) -> pd.DataFrame:
    """Search all combinations of up to two properties for the `k` slices with the worst errors: SliceLine.

    Sagadeeva and Boehm 2021. `metadata` are binned properties of every clip; a slice has at least `min_n` clips.
    Columns such as "label: noise & loudness: -30 to -20 dB", best first; none where nothing is worse than the average.
    """
    from sliceline.slicefinder import Slicefinder

    wrong = np.asarray(wrong, dtype=float)
    found: dict[bytes, tuple[dict, np.ndarray]] = {}
    if 0 < wrong.mean() < 1:
        finder = Slicefinder(alpha=0.95, k=4 * k, max_l=2, min_sup=min_n, verbose=False)
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
    """Deal the errors anew to the clips, those of one group together: what errors by chance would look like."""
    wrong, member = np.asarray(wrong), _member(group)
    rank = rng.permutation(member.max() + 1)
    dealt = np.empty_like(wrong)
    # Groups are put in a new order, and their errors dealt, in that order, to the clips.
    dealt[np.argsort(member, kind="stable")] = wrong[np.argsort(rank[member], kind="stable")]
    return dealt


def _member(group: np.ndarray) -> np.ndarray:
    return np.unique(np.asarray(group, dtype=str), return_inverse=True)[1]
