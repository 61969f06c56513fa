"""Pictures."""

from helpers.topics.attribution import attribution_plot  # noqa: F401
from helpers.topics.faithfulness import deletion_plot  # noqa: F401
from helpers.topics.network_plots import *  # noqa: F403
