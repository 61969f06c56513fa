"""Opening a network."""

from helpers.topics.activations import *  # noqa: F403
from helpers.topics.attribution import integrated_gradients  # noqa: F401
from helpers.topics.cam import *  # noqa: F403
from helpers.topics.yamnet_model import over_time  # noqa: F401
