"""Tests of maps."""

from helpers.topics.faithfulness import *  # noqa: F403
from helpers.topics.randomisation import *  # noqa: F403
