"""Pretrained networks."""

from helpers.features.litert import float_copy  # noqa: F401
from helpers.topics.backbones import NETWORKS, classifier  # noqa: F401
from helpers.topics.imagenet import WeightsMissing, find_weights  # noqa: F401
from helpers.topics.yamnet_model import classifier as yamnet_classifier  # noqa: F401
from helpers.topics.yamnet_model import embeddings, set_head, with_hop  # noqa: F401
from helpers.topics.yamnet_model import network as yamnet_network  # noqa: F401
from helpers.topics.yamnet_model import patches as yamnet_patches  # noqa: F401
from helpers.topics.yamnet_model import spec as yamnet_spec  # noqa: F401
