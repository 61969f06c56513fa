"""What notebooks 09 and 13 build step by step and later ones go on with: damaged labels, and a small network."""

from __future__ import annotations

import keras
import numpy as np
import pandas as pd
from keras import layers

from helpers import data


def damaged(manifest: pd.DataFrame, share_verified: float, share_wrong: float, seed: int) -> pd.DataFrame:
    """Give a manifest whose `label` is right, with columns `given` (the damaged label) and `verified`.

    `share_verified` of the recordings keep their label and are verified; of the others, `share_wrong` get any other
    class, all their clips alike. FSDKaggle2018 keeps its own mistakes; clips whose truth nobody knows are left out.
    """
    table = manifest[manifest["label"].notna()].reset_index(drop=True)
    if "truth" in table:
        return table.assign(given=table["label"], label=table["truth"])
    if "verified" in table:
        table = table[table["verified"] | (table["split"] == "test")].reset_index(drop=True)
    classes, truth = np.unique(table["label"].astype(str), return_inverse=True)
    unit = pd.factorize(pd.Series(data.groups(table)).astype(str) + " " + table["label"].astype(str))[0]
    rng, n_units = np.random.default_rng(seed), unit.max() + 1
    place = (rng.permutation(n_units) / n_units)[unit]  # the first verified, the last wrong
    wrong = place >= 1 - share_wrong * (1 - share_verified)
    other = (truth + rng.integers(1, len(classes), n_units)[unit]) % len(classes)
    return table.assign(given=classes[np.where(wrong, other, truth)], verified=place < share_verified)


def vgg(input_shape: tuple[int, int, int], n_classes: int, n_convolutions: int, n_dense: int) -> keras.Model:
    """Build the VGG-like network of notebook 13 for images of `input_shape` (bands, frames, 1)."""
    x = inputs = keras.Input(input_shape)
    for filters in (8, 16, 32):
        for _ in range(n_convolutions):
            x = layers.LeakyReLU(0.1)(layers.Conv2D(filters, 3, padding="same")(x))
        x = layers.MaxPooling2D()(x)
    x = layers.Dense(n_dense, "selu", kernel_initializer="lecun_normal")(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(n_classes, activation="softmax")(layers.Dropout(0.3)(x)))
