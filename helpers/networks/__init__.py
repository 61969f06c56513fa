"""Networks that two notebooks build, augmentation of batches, and training round by round."""

from helpers.networks.augment import Delay, Gain, Mask, Mixup, Noise, Shift, SpecAugment, Speed, Volume
from helpers.networks.builders import architecture, compact_cnn, dense_net, flatten_cnn, raw_cnn, settings
from helpers.networks.training import Batches, Progress, cross_validate, one_hot, warm_cosine
