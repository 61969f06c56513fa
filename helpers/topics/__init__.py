"""Rooms that one notebook opens: transfer (04), slices (06), words (07), inside, sanity, pictures and resound (10)."""
