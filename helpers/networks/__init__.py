"""Networks that two notebooks build, augmentation of batches, and training round by round."""

from helpers.networks.augment import Delay, Gain, Mask, Mixup, Noise, Shift, SpecAugment, Speed, Volume
from helpers.networks.builders import architecture, compact_cnn, raw_cnn, settings
from helpers.networks.training import Batches, Progress, Recipe, cross_validate, one_hot, train, warm_cosine
