"""Words in streams."""

from helpers.topics.spotting import *  # noqa: F403
from helpers.topics.streams import *  # noqa: F403
from helpers.topics.streams import scores as score  # noqa: F401
