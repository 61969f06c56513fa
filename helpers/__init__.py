"""The thin package behind the notebooks: one topic per module, nothing happens on import."""
