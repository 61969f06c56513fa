"""Networks that two notebooks build, augmentation of batches, and training round by round."""

from helpers.networks.batch_augment import Gain, Mixup, Shift, SpecAugment
from helpers.networks.models import architecture, compact_cnn, dense_net, flatten_cnn, raw_cnn, settings
from helpers.networks.training import Batches, Progress, cross_validate, one_hot, warm_cosine
from helpers.networks.wave_augment import Delay, Mask, Noise, Speed, Volume
