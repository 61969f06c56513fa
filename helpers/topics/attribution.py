"""Which pixels of a spectrogram made the network say so: integrated gradients, with the check that they add up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from helpers.base import CourseError

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

# Points on the way whose gradients are computed at once: enough to keep two cores busy, and memory stays bounded.
_BATCH = 16


@dataclass(frozen=True, eq=False)
class Attribution:
    """Attributions of one output for one picture, and what they should add up to.

    Attributes
    ----------
    values : np.ndarray [shape as the picture], float32
        What each pixel contributed to the output, in the unit of the output (probability for a softmax).
    output, baseline_output : float
        The model's output for the class, for the picture and for the baseline.

    Notes
    -----
    Printed as "sum of attributions 0.913, difference of outputs 0.914, gap 0.001". Used by notebooks 04 and 10.
    """

    values: np.ndarray
    output: float
    baseline_output: float

    @property
    def total(self) -> float:
        """Sum of the attributions."""
        return float(self.values.sum(dtype=np.float64))

    @property
    def difference(self) -> float:
        """What the attributions should add up to: output for the picture less output for the baseline."""
        return self.output - self.baseline_output

    @property
    def gap(self) -> float:
        """Distance between the two: the error of the sum that stands for the integral."""
        return abs(self.total - self.difference)

    def __str__(self) -> str:
        return f"sum of attributions {self.total:.3f}, difference of outputs {self.difference:.3f}, gap {self.gap:.3f}"


def integrated_gradients(
    model: keras.Model, picture: np.ndarray, class_index: int, baseline: np.ndarray | None = None, steps: int = 128
) -> Attribution:
    """Attribute the model's output for one class to the pixels of one picture.

    On the straight way from the baseline to the picture, the gradient of the output is averaged and multiplied by how
    far each pixel has moved. A pixel that does not move, or that the output does not depend on, gets exactly 0.

    Parameters
    ----------
    model : keras.Model
        Outputs [shape=(n, n_classes)]. Called with training=False: no dropout, batch statistics left alone.
    picture : np.ndarray [shape=model.input_shape[1:]], float
        One input, without the batch axis.
    class_index : int
        The output explained.
    baseline : np.ndarray [shape as picture], optional
        The input that stands for "no sound". None takes zeros, which is silence in pictures made by
        `helpers.features.scale`; a model that reads unscaled features needs silence as it sees it.
    steps : int
        Points on the way. Twice as many take twice as long, and leave a smaller gap.

    Returns
    -------
    Attribution

    Raises
    ------
    CourseError
        Picture or baseline do not have the model's shape or are no numbers, there is no such class, fewer than 1 step,
        or Keras runs on another backend than TensorFlow.

    Notes
    -----
    Integrated gradients: Sundararajan, Taly and Yan 2017. Explained is the output itself, the probability, not the
    logit before the softmax: it is the number that the notebook shows, so the sum can be held against it, and it has a
    zero, "the class is out of the question", where a logit says nothing without those of all other classes. That the
    softmax saturates is no obstacle here: the gradient vanishes at the picture, but not on the way to it.

    The integral is a sum by the midpoint rule. On two CNNs trained on real recordings (ten clips each, 128 steps) the
    gap was 0.002 in the middle and at most 0.007; the trapezoidal rule left up to 0.013, Gauss-Legendre 0.012: ReLU
    networks have kinks, on which higher orders are lost. Used by notebooks 04 and 10.
    """
    picture, baseline = _checked(model, picture, class_index, baseline, steps)
    import tensorflow as tf

    way = picture.astype(np.float64) - baseline
    mean_gradient = np.zeros(picture.shape)
    for start in range(0, steps, _BATCH):
        share = (np.arange(start, min(start + _BATCH, steps)) + 0.5) / steps
        points = tf.constant((baseline + np.multiply.outer(share, way)).astype(np.float32))
        with tf.GradientTape() as tape:
            tape.watch(points)
            # Clips of a batch do not see each other in inference: the gradient of the sum is that of each output.
            output = tf.reduce_sum(model(points, training=False)[:, class_index])
        gradients = tape.gradient(output, points, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        mean_gradient += gradients.numpy().sum(axis=0, dtype=np.float64) / steps
    ends = model(tf.constant(np.stack([picture, baseline])), training=False)[:, class_index].numpy()
    return Attribution((mean_gradient * way).astype(np.float32), float(ends[0]), float(ends[1]))


def attribution_plot(
    picture: np.ndarray,
    values: np.ndarray,
    seconds: float,
    title: str,
    rows: str = "mel band",
    unit: str = "level, 0 to 1",
) -> Figure:
    """Draw what spoke for and against a class: lines over the picture, and the attributions themselves below it.

    Parameters
    ----------
    picture, values : np.ndarray [shape=(bands, frames) or (bands, frames, channels)]
        The picture and its attributions (`Attribution.values`). Of channels, the mean and the sum are drawn.
    seconds : float
        Length of the time axis.
    title, rows : str
        `rows` says what the bands are.
    unit : str
        Of the picture.

    Returns
    -------
    Figure

    Raises
    ------
    CourseError
        The two do not have the same shape.

    Notes
    -----
    Attributions of single pixels flicker, so both panels show them averaged over their neighbours (a Gaussian; their
    sum stays). Solid lines enclose the strongest half of what speaks for the class; dashed lines what speaks against it
    as strongly. Hatched is all that speaks against it at a quarter of that strength or more, so that nothing hangs on
    colour. Used by notebook 04.
    """
    import matplotlib.pyplot as plt
    from matplotlib.colors import ListedColormap
    from scipy.ndimage import gaussian_filter

    if picture.shape != values.shape or picture.ndim not in (2, 3):
        raise CourseError(f"The picture has the shape {picture.shape}, its attributions {values.shape}.")
    if picture.ndim == 3:
        picture, values = picture.mean(axis=2), values.sum(axis=2)
    smooth = gaussian_filter(values.astype(np.float64), np.maximum(1, np.array(values.shape) / 64))
    level = _half(np.maximum(smooth, 0)) or _half(np.maximum(-smooth, 0)) or 1.0
    options = {"origin": "lower", "aspect": "auto", "extent": (0, seconds, 0, len(values))}
    n_bands, n_frames = values.shape
    grid = (np.arange(n_frames) + 0.5) * seconds / n_frames, np.arange(n_bands) + 0.5, smooth
    fig, axes = plt.subplots(2, figsize=(8, 6), sharex=True, sharey=True, layout="constrained")
    # Loud is mid-grey, not black, so that the lines stand out everywhere.
    greys = ListedColormap(plt.get_cmap("Greys")(np.linspace(0, 0.6, 256)))
    image = axes[0].imshow(picture, cmap=greys, **options)
    axes[0].set(title=title, ylabel=rows)
    fig.colorbar(image, ax=axes[0], label=unit)
    limit = max(np.percentile(np.abs(smooth), 99.5), level)
    # Neither end is as dark as the lines and the hatching; both are equally dark.
    red_blue = ListedColormap(plt.get_cmap("RdBu_r")(np.linspace(0.12, 0.88, 256)))
    image = axes[1].imshow(smooth, cmap=red_blue, vmin=-limit, vmax=limit, **options)
    axes[1].set(xlabel="time, s", ylabel=rows)
    axes[1].set_title("solid: speaks for it; dashed and hatched: speaks against it", fontsize="medium")
    bar = fig.colorbar(image, ax=axes[1], label="probability per pixel", extend="both")
    bar.formatter.set_powerlimits((-2, 2))
    if smooth.min() < -level / 4:
        hatching = axes[1].contourf(*grid, levels=[-np.inf, -level / 4], colors="none", hatches=["////"])
        hatching.set(edgecolor="0.25", linewidth=0)
    for ax in axes:
        if smooth.max() > level:
            ax.contour(*grid, levels=[level], colors="#8b0000", linewidths=1.3)
        if smooth.min() < -level:
            ax.contour(*grid, levels=[-level], colors="#00008b", linewidths=1.3, linestyles="dashed")
    return fig


def check_class(model: keras.Model, class_index: int) -> None:
    """Raise CourseError unless `class_index` is the number of one of the model's outputs.

    Used by notebooks 04 and 10, through `attribution`, `cam` and `faithfulness`.
    """
    n_classes = model.output_shape[-1]
    whole = isinstance(class_index, int | np.integer) and not isinstance(class_index, bool)
    if not whole or not 0 <= class_index < n_classes:
        raise CourseError(f"class_index must be one of 0 to {n_classes - 1}, not {class_index!r}.")


def _checked(model, picture, class_index, baseline, steps) -> tuple[np.ndarray, np.ndarray]:
    import keras

    if keras.backend.backend() != "tensorflow":
        raise CourseError(f"Gradients are written for TensorFlow; Keras runs on {keras.backend.backend()}.")
    picture = np.asarray(picture, dtype=np.float32)
    baseline = np.zeros_like(picture) if baseline is None else np.asarray(baseline, dtype=np.float32)
    wanted = tuple(model.input_shape[1:])
    for name, values in (("picture", picture), ("baseline", baseline)):
        fits = values.ndim == len(wanted) and all(n in (None, m) for n, m in zip(wanted, values.shape, strict=True))
        if not fits or values.shape != picture.shape:
            raise CourseError(
                f"The {name} has the shape {values.shape}, the model reads {wanted} (without batch axis)."
            )
        if not np.isfinite(values).all():
            raise CourseError(f"The {name} contains values that are not a number or infinite.")
    check_class(model, class_index)
    if steps < 1:
        raise CourseError(f"steps must be at least 1, not {steps}.")
    return picture, baseline


def _half(weights: np.ndarray) -> float:
    """The level above which half of the sum of `weights` lies; 0 if there is none."""
    ordered = np.sort(weights, axis=None)[::-1]
    return float(ordered[np.searchsorted(np.cumsum(ordered), 0.5 * ordered.sum())]) if ordered[0] > 0 else 0.0
