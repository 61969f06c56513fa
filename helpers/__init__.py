"""The package behind the notebooks, in the order in which the data walk:

    path -> audio -> data -> features -> networks -> scores -> runs -> serving

    base        errors, places, files written whole or not at all, progress
    audio       read, probe, resample, play
    data        load (one table, the manifest, for every dataset), audit, rounds
    features    FeatureSpec, extract, scale; of(clips, spec): one memory-mapped array per spec
    scores      one rule for intervals over groups, and every score
    plots       figures that two notebooks share
    runs        record, load, find a run; board: one row per run
    networks    builders, augmentation, training round by round
    serving     a recorded run on a folder of recordings
    topics      a room per lesson that needs one
    course      what runs the course and teaches nothing

Nothing happens on import, and a room imports only from those above it (`tests/test_house.py`).
"""  # noqa: D400
