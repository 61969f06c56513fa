"""Errors a learner may meet. Each message says what is wrong, with which file, and what to do."""


class CourseError(ValueError):
    """Base of all errors this package raises on purpose."""


class DataMissing(CourseError):
    """A dataset or an artefact of another notebook is not where it was expected."""


class AudioError(CourseError):
    """A file cannot be decoded as audio, or not completely."""


class ManifestError(CourseError):
    """A manifest breaks the rules of `helpers.manifest`."""


class DownloadError(CourseError):
    """A download failed, or what arrived is not what was published."""
