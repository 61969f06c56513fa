"""From samples to features: a frozen spec names an array, `extract` computes it for one clip."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import librosa
import numpy as np
import scipy.fft
import scipy.signal
import scipy.sparse

from helpers import audio
from helpers.base import AudioError, CourseError
from helpers.features import yamnet_mel
from helpers.features.cache import of
from helpers.features.denoise import denoise
from helpers.features.gammatone import gammatone_bands

KINDS = ("logmel", "mfcc", "mean_mfcc", "stft", "gammatone", "yamnet", "waveform")
STATISTICS = {
    "mean": lambda mfcc: mfcc.mean(axis=1),
    "std": lambda mfcc: mfcc.std(axis=1),
    "min": lambda mfcc: mfcc.min(axis=1),
    "max": lambda mfcc: mfcc.max(axis=1),
    "delta_std": lambda mfcc: np.diff(mfcc, axis=1).std(axis=1),
}
TOP_DB = 80.0
_FLOOR = 1e-10
# Frames transformed at once: 16 × 2048 doubles and their spectra stay in a core's own cache, which halved the time.
_BLOCK = 16


@dataclass(frozen=True)
class FeatureSpec:
    """Everything that determines a feature array. Two equal specs give the same numbers.

    Attributes
    ----------
    kind : str
        "logmel" (n_mels × frames, dB), "mfcc" (n_mfcc × frames), "mean_mfcc" (n_mfcc values: the mean over time),
        "stft" (power spectrogram, 1 + n_fft/2 × frames, dB), "gammatone" (n_mels × frames, dB), "yamnet" (64 ×
        frames, what that network reads; see `helpers.yamnet_model.spec`: nothing about it can be chosen) or "waveform"
        (the samples themselves, full scale at ±1).
    sr : int
        Sampling rate, Hz; recordings are resampled to it.
    seconds : float
        Length. Longer clips are cut, shorter ones padded with zeros at the end.
    n_fft, hop_length : int
        Window (Hann) and step of the short-time Fourier transform, samples.
    n_mels : int
        Number of mel bands, or of gammatone bands.
    n_mfcc : int
        Number of cepstral coefficients kept.
    statistics : tuple of str
        "mean_mfcc" only: what is kept of each coefficient's course over time, in this order: "mean", "std", "min",
        "max", and "delta_std" (standard deviation of the step from frame to frame). n_mfcc values each.
    denoise : bool
        Turn the steady noise of each clip down first (`helpers.denoise`).

    Raises
    ------
    CourseError
        The values do not fit together; the message says which and why.

    Notes
    -----
    Used by notebooks 01, 02, 03, 04, 05, 06 and 07.
    """

    kind: str = "logmel"
    sr: int = 22050
    seconds: float = 5.0
    n_fft: int = 2048
    hop_length: int = 512
    n_mels: int = 128
    n_mfcc: int = 32
    statistics: tuple[str, ...] = ("mean",)
    denoise: bool = False

    def __post_init__(self):
        if self.kind not in KINDS:
            raise CourseError(f"There is no feature kind {self.kind!r}; choose one of {', '.join(KINDS)}.")
        for name in ("sr", "n_fft", "hop_length", "n_mels", "n_mfcc"):
            value = getattr(self, name)
            if isinstance(value, bool) or value != int(value) or value <= 0:
                raise CourseError(f"{name} must be a whole number above 0, not {value!r}.")
            object.__setattr__(self, name, int(value))  # 2048.0 and 2048 are one spec, not two
        object.__setattr__(self, "seconds", float(self.seconds))
        object.__setattr__(self, "denoise", bool(self.denoise))
        if not 1 / self.sr <= self.seconds < float("inf"):
            raise CourseError(f"seconds must be above 0, not {self.seconds!r}.")
        if self.n_fft % 2:
            raise CourseError(f"n_fft must be even, not {self.n_fft}; powers of two are fastest.")
        if self.kind in ("mfcc", "mean_mfcc") and self.n_mfcc > self.n_mels:
            raise CourseError(f"{self.n_mels} mel bands cannot give {self.n_mfcc} MFCCs: lower n_mfcc or raise n_mels.")
        object.__setattr__(self, "statistics", tuple(self.statistics))
        if not self.statistics or set(self.statistics) - set(STATISTICS):
            raise CourseError(f"statistics must be some of {', '.join(STATISTICS)}, not {self.statistics!r}.")
        fixed = yamnet_mel.SR, yamnet_mel.N_FFT, yamnet_mel.HOP_LENGTH, yamnet_mel.N_MELS
        if self.kind == "yamnet" and (self.sr, self.n_fft, self.hop_length, self.n_mels) != fixed:
            raise CourseError("YAMNet reads one kind of spectrogram only; take helpers.yamnet_model.spec(seconds).")
        if self.statistics != ("mean",) and self.kind != "mean_mfcc":
            raise CourseError(f"statistics belong to the kind 'mean_mfcc'; {self.kind!r} keeps every frame.")

    @property
    def n_samples(self) -> int:
        """Samples per clip after cutting or padding."""
        return round(self.seconds * self.sr)

    @property
    def n_frames(self) -> int:
        """Frames per clip; the first and the last window are centred on the ends of the clip (not for "yamnet")."""
        if self.kind == "yamnet":
            return yamnet_mel.n_frames(self.n_samples)
        return 1 + self.n_samples // self.hop_length

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the features of one clip."""
        if self.kind == "mean_mfcc":
            return (self.n_mfcc * len(self.statistics),)
        if self.kind == "waveform":
            return (self.n_samples,)
        rows = {"mfcc": self.n_mfcc, "stft": 1 + self.n_fft // 2}
        return rows.get(self.kind, self.n_mels), self.n_frames

    def extract(self, y: np.ndarray, sr: int) -> np.ndarray:
        """Compute the features of one clip; the same as `helpers.features.extract`."""
        return extract(y, sr, self)


def extract(y: np.ndarray, sr: int, spec: FeatureSpec) -> np.ndarray:
    """Compute the features of one clip.

    Parameters
    ----------
    y : np.ndarray [shape=(n,)]
        Mono samples, full scale at ±1.
    sr : int
        Their sampling rate, Hz; resampled if it is not the spec's.
    spec : FeatureSpec

    Returns
    -------
    np.ndarray [shape=spec.shape], float32
        Decibels (0 dB = power 1, at most 80 dB below the clip's loudest value) for the spectrograms; cepstral
        coefficients of the log-mel spectrogram for the MFCCs; samples for the waveform.

    Raises
    ------
    AudioError
        No samples, more than one channel, or values that are no numbers.

    Notes
    -----
    Equal to librosa's functions with their defaults. Used by notebooks 01, 02 and 06, and by 03,
    04 and 05 through `helpers.cache`.
    """
    if y.ndim != 1 or not len(y):
        raise AudioError(f"extract wants mono samples of shape (n,), n > 0, not {y.shape}.")
    if not np.isfinite(y).all():
        raise AudioError("The samples contain infinite values or values that are not a number.")
    y = audio.resample(y, sr, spec.sr)[: spec.n_samples]
    if spec.denoise:  # after cutting, as what is cut off need not be paid for; before padding, as zeros are no noise
        y = denoise(y, spec.sr)
    y = audio.fix_length(y, spec.n_samples)
    if spec.kind == "waveform":
        return y.astype(np.float32, copy=False)
    if spec.kind == "yamnet":
        return yamnet_mel.log_mel(y)
    power = power_spectrogram(y, spec.n_fft, spec.hop_length)
    if spec.kind == "stft":
        return decibels(power)
    if spec.kind == "gammatone":
        return decibels(gammatone_bands(spec.sr, spec.n_fft, spec.n_mels) @ power)
    mel = decibels(_mel_bands(spec.sr, spec.n_fft, spec.n_mels) @ power)
    if spec.kind == "logmel":
        return mel
    mfcc = scipy.fft.dct(mel, axis=0, type=2, norm="ortho")[: spec.n_mfcc]
    if spec.kind == "mfcc":
        return mfcc
    return np.concatenate([STATISTICS[name](mfcc) for name in spec.statistics])


def scale(features: np.ndarray, spec: FeatureSpec) -> np.ndarray:
    """Bring feature images into 0..1 for a neural network, with bounds that are the same for every clip and dataset.

    Samples are given as they are: in ±1 since they were read.

    Parameters
    ----------
    features : np.ndarray [shape=(..., *spec.shape)]
        One image or a batch of them.
    spec : FeatureSpec

    Returns
    -------
    np.ndarray [shape as given], float32

    Raises
    ------
    CourseError
        The kind is "mean_mfcc" (values, not an image) or "yamnet" (read as it is).

    Notes
    -----
    No statistic of the data enters, so none of the test data can. Values beyond the bounds, such as digital silence,
    are clipped. Used by notebooks 03, 04 and 07.
    """
    if spec.kind == "waveform":
        return np.asarray(features, dtype=np.float32)
    if spec.kind == "mean_mfcc":
        raise CourseError("mean MFCCs are no image: standardise them with mean and deviation of the training rows.")
    if spec.kind == "yamnet":
        raise CourseError("YAMNet was trained on its spectrogram as it is; it must not be scaled.")
    if spec.kind == "mfcc":
        # Orthonormal DCT: the first coefficient is √n_mels times the mean level; the others shrink with their number.
        high = 27.0 * np.sqrt(spec.n_mels / np.maximum(1, np.arange(spec.n_mfcc)))[:, None]
        low = -high
        low[0], high[0] = np.array([-80.0, 40.0]) * np.sqrt(spec.n_mels)
    else:
        low, high = {"logmel": (-80.0, 40.0), "stft": (-70.0, 60.0), "gammatone": (-100.0, 0.0)}[spec.kind]
    return np.clip((features - low) / (high - low), 0.0, 1.0).astype(np.float32)


def power_spectrogram(y: np.ndarray, n_fft: int, hop_length: int) -> np.ndarray:
    """Squared magnitude of the short-time Fourier transform of `y` [shape=(n,)], as ``np.abs(librosa.stft(y))**2``.

    Returns
    -------
    np.ndarray [shape=(1 + n_fft/2, 1 + n // hop_length)], float32

    Notes
    -----
    Computed in double precision: single is a millisecond faster but 0.003 dB off in the quiet bins beside a tone.
    """
    window = scipy.signal.get_window("hann", n_fft)
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(y, n_fft // 2), n_fft)[::hop_length]
    power = np.empty((1 + n_fft // 2, len(frames)), dtype=np.float32)
    for start in range(0, len(frames), _BLOCK):
        spectrum = scipy.fft.rfft(frames[start : start + _BLOCK] * window, axis=1)
        power[:, start : start + _BLOCK] = (spectrum.real**2 + spectrum.imag**2).T
    return power


def decibels(power: np.ndarray) -> np.ndarray:
    """Power to decibels, no lower than 80 dB below the largest value; ``librosa.power_to_db`` with its defaults."""
    db = 10.0 * np.log10(np.maximum(power, np.float32(_FLOOR)))
    return np.maximum(db, db.max() - np.float32(TOP_DB))


@functools.lru_cache(maxsize=8)
def _mel_bands(sr: int, n_fft: int, n_mels: int) -> scipy.sparse.csr_array:
    # 98 of 100 weights are zero: three times faster than the dense product, and no BLAS with threads of its own.
    return scipy.sparse.csr_array(librosa.filters.mel(sr=sr, n_fft=n_fft, n_mels=n_mels))
