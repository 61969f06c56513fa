"""From samples to features: a frozen spec names an array, `extract` computes it for one clip, `of` for all clips."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import librosa
import numpy as np
import scipy.sparse

from helpers import audio
from helpers.base import AudioError, CourseError
from helpers.features import yamnet
from helpers.features.bands import denoise, gammatone_bands
from helpers.features.cache import of

_KINDS = ("logmel", "mfcc", "mean_mfcc", "stft", "gammatone", "yamnet", "waveform")
_STATISTICS = {
    "mean": lambda mfcc: mfcc.mean(axis=1),
    "std": lambda mfcc: mfcc.std(axis=1),
    "min": lambda mfcc: mfcc.min(axis=1),
    "max": lambda mfcc: mfcc.max(axis=1),
    "delta_std": lambda mfcc: np.diff(mfcc, axis=1).std(axis=1),
}


@dataclass(frozen=True)
class FeatureSpec:
    """Everything that determines a feature array: two equal specs give the same numbers."""

    # "logmel" and "gammatone" [n_mels, frames] and "stft" [1 + n_fft/2, frames] in dB, "mfcc" [n_mfcc, frames],
    # "mean_mfcc" [n_mfcc for each of the statistics], "yamnet" [64, frames]: what that network reads, "waveform".
    kind: str = "logmel"
    sr: int = 22050  # Hz
    seconds: float = 5.0  # longer clips are cut, shorter ones padded with zeros at the end
    n_fft: int = 2048  # samples of a window (Hann)
    hop_length: int = 512
    n_mels: int = 128  # or gammatone bands
    n_mfcc: int = 32
    statistics: tuple[str, ...] = ("mean",)  # of each coefficient over time, in this order
    denoise: bool = False
    channel: str = "mean"  # of a stereo recording, one of audio.CHANNELS

    def __post_init__(self):
        if self.kind not in _KINDS:
            raise CourseError(f"There is no feature kind {self.kind!r}; choose one of {', '.join(_KINDS)}.")
        # 2048.0 and 2048 are one spec, not two; JSON knows no tuples.
        numbers = dict.fromkeys(("sr", "n_fft", "hop_length", "n_mels", "n_mfcc"), int)
        for name, kind in {**numbers, "seconds": float, "statistics": tuple, "denoise": bool}.items():
            object.__setattr__(self, name, kind(getattr(self, name)))
        wrong = min(self.n_fft, self.hop_length, self.n_mels, self.n_mfcc) < 1
        if wrong or not 1 <= self.seconds * self.sr < float("inf"):
            raise CourseError(f"sr, seconds, n_fft, hop_length, n_mels and n_mfcc must be above 0: {self}.")
        if self.channel not in audio.CHANNELS:
            raise CourseError(f"There is no channel {self.channel!r}; choose one of {', '.join(audio.CHANNELS)}.")
        if "mfcc" in self.kind and self.n_mfcc > self.n_mels:
            raise CourseError(f"{self.n_mels} mel bands cannot give {self.n_mfcc} MFCCs: lower n_mfcc or raise n_mels.")
        if not self.statistics or set(self.statistics) - set(_STATISTICS):
            raise CourseError(f"statistics must be some of {', '.join(_STATISTICS)}, not {self.statistics!r}.")
        if self.statistics != ("mean",) and self.kind != "mean_mfcc":
            raise CourseError(f"statistics belong to the kind 'mean_mfcc'; {self.kind!r} keeps every frame.")
        fixed = yamnet.SR, yamnet.N_FFT, yamnet.HOP_LENGTH, yamnet.N_MELS
        if self.kind == "yamnet" and (self.sr, self.n_fft, self.hop_length, self.n_mels) != fixed:
            raise CourseError("YAMNet reads one kind of spectrogram only: take helpers.topics.transfer.yamnet_spec.")

    @property
    def n_samples(self) -> int:
        """Samples per clip after cutting or padding."""
        return round(self.seconds * self.sr)

    @property
    def n_frames(self) -> int:
        """Frames per clip; the first and the last window are centred on the ends of the clip (not for "yamnet")."""
        if self.kind == "yamnet":
            return yamnet.n_frames(self.n_samples)
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
        """Compute the features of one clip, as `helpers.features.extract`."""
        return extract(y, sr, self)


def extract(y: np.ndarray, sr: int, spec: FeatureSpec) -> np.ndarray:
    """Compute the features [shape=spec.shape, float32] of mono samples `y` [shape=(n,)], as librosa's own functions do.

    Spectrograms are in decibels: 0 dB is power 1, nothing lies more than 80 dB below the clip's loudest value.
    AudioError: no samples, more than one channel, or values that are no numbers.
    """
    if y.ndim != 1 or not len(y) or not np.isfinite(y).all():
        raise AudioError(f"extract wants mono samples (n,), n > 0, all of them numbers, not {y.dtype} {y.shape}.")
    y = audio.resample(y, sr, spec.sr)[: spec.n_samples]
    if spec.denoise:  # after cutting, as what is cut off need not be paid for; before padding, as zeros are no noise
        y = denoise(y, spec.sr)
    y = audio.fix_length(y, spec.n_samples)
    if spec.kind == "waveform":
        return y.astype(np.float32, copy=False)
    if spec.kind == "yamnet":
        return yamnet.log_mel(y)
    power = np.abs(librosa.stft(y, n_fft=spec.n_fft, hop_length=spec.hop_length)) ** 2
    if spec.kind == "stft":
        return librosa.power_to_db(power)
    if spec.kind == "gammatone":
        return librosa.power_to_db(gammatone_bands(spec.sr, spec.n_fft, spec.n_mels) @ power)
    mel = librosa.power_to_db(_mel_bands(spec.sr, spec.n_fft, spec.n_mels) @ power)
    if spec.kind == "logmel":
        return mel
    mfcc = librosa.feature.mfcc(S=mel, n_mfcc=spec.n_mfcc)
    if spec.kind == "mfcc":
        return mfcc
    return np.concatenate([_STATISTICS[name](mfcc) for name in spec.statistics])


def scale(features: np.ndarray, spec: FeatureSpec) -> np.ndarray:
    """Bring feature images [shape=(..., *spec.shape)] into 0..1 for a network; float32, waveforms as they are.

    The bounds are the same for every clip and dataset, so nothing of the test data can enter; values beyond, such as
    digital silence, are clipped. CourseError: "mean_mfcc" is no image, and "yamnet" must be read as it is.
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


@functools.lru_cache(maxsize=8)
def _mel_bands(sr: int, n_fft: int, n_mels: int) -> scipy.sparse.csr_array:
    # 98 of 100 weights are zero: twenty times faster than the dense product of melspectrogram.
    return scipy.sparse.csr_array(librosa.filters.mel(sr=sr, n_fft=n_fft, n_mels=n_mels))
