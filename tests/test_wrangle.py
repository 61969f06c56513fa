"""Tags to classes: the shipped lists, the rule, and slips of the keyboard."""

import pytest

from helpers.base import CourseError, DataMissing
from helpers.data import wrangle

LISTS = wrangle.read_tag_lists()
CROSSWALK = wrangle.read_crosswalk()


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("Dog-Barking", "dog barking"),
        ("FOOTSTEPS", "footstep"),
        ("door_bell", "door bell"),
        ("  Café!! ", "cafe"),
        ("voices", "voice"),
        ("babies", "baby"),
        ("boxes", "box"),
        ("glass", "glass"),
        ("bus", "bus"),
        ("gas", "gas"),
        ("hi-hats", "hi hat"),
        ("???", ""),
    ],
)
def test_normalise(tag, expected):
    assert wrangle.normalise(tag) == expected


def test_shipped_lists_are_large_and_find_their_own_words():
    assert set(LISTS) == set(wrangle._CLASSES) and min(map(len, LISTS.values())) >= 40
    for name, tags in LISTS.items():
        for tag in tags:
            assert wrangle.wrangle([tag.upper().replace(" ", "-") + "S" * tag.endswith("t")], LISTS) == name, tag


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (["dog", "barking", "park"], "animal"),
        (["electric-guitar", "riff"], "music"),
        (["car-alarm"], "alarm"),  # the phrase, not the car
        (["car"], "movement"),
        (["field-recording", "rainstorm"], "ambient"),
        (["vacuum-cleaner", "household"], "noise"),
        (["birds-singing"], "animal"),  # one vote each, animal stands before human
        (["field-recording", "zoom-h4n"], "other"),
        ([], "other"),
        (["glass", "smash", "kitchen"], "other"),
        (["woman", "laughter", "guitar"], "human"),  # two against one
    ],
)
def test_rule(tags, expected):
    assert wrangle.wrangle(tags, LISTS) == expected


def test_votes_are_the_evidence_and_ties_follow_the_order_of_the_lists():
    votes = wrangle.votes(["Dog-Barking", "guitar", "dog", "dog", "xyz"], LISTS)
    assert votes == {"animal": ["Dog-Barking", "dog"], "music": ["guitar"]}
    assert wrangle.wrangle(["dog", "piano"], {"music": ["piano"], "animal": ["dog"]}) == "music"
    assert wrangle.wrangle(["dog", "piano"], {"animal": ["dog"], "music": ["piano"]}) == "animal"


def test_typos_only_on_request():
    assert wrangle.wrangle(["barkign"], LISTS) == "other"
    assert wrangle.wrangle(["barkign"], LISTS, typos=True) == "animal"
    assert wrangle.wrangle(["footstpes"], LISTS, typos=True) == "movement"
    assert wrangle.wrangle(["xylophon"], LISTS, typos=True) == "music"
    # Short words differ too little from each other to be guessed at.
    assert wrangle.wrangle(["dug"], LISTS, typos=True) == "other"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('animal = ["dog" "cat"]', "comma"),
        (
            'animal = ["dog", "bark", "dogbark"]',
            "'dogbark' in animal is 'dog' and 'bark' run together: a forgotten comma?",
        ),
        ('animal = ["dog"]\nhuman = ["Dogs"]', "'dog' stands in animal and in human"),
        ('animals = ["dog"]', "unknown: \\['animals'\\]"),
        ("", "expected a table"),
        ('animal = ["--"]', "empty"),
    ],
)
def test_slips_in_the_lists_are_told(tmp_path, text, message):
    path = tmp_path / "lists.toml"
    path.write_text(f"[classes]\n{text}\n")
    with pytest.raises(CourseError, match=message) as error:
        wrangle.read_tag_lists(path)
    assert str(path) in str(error.value)


def test_compounds_may_be_declared_and_lists_must_be_there(tmp_path):
    path = tmp_path / "lists.toml"
    path.write_text('compounds = ["dogbark"]\n[classes]\nanimal = ["dog", "bark", "dogbark"]\n')
    assert wrangle.read_tag_lists(path) == {"animal": ["dog", "bark", "dogbark"]}
    with pytest.raises(DataMissing):
        wrangle.read_tag_lists(tmp_path / "none.toml")


def test_crosswalk_covers_the_vocabulary():
    assert len(CROSSWALK) == 200 and set(CROSSWALK.values()) == set(wrangle._CLASSES)
    assert wrangle.truth_class([], CROSSWALK) is None
    with pytest.raises(CourseError, match="Bagpipes"):
        wrangle.truth_class(["Music", "Bagpipes"], CROSSWALK)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("Electric_guitar,Guitar,Plucked_string_instrument,Musical_instrument,Music", "music"),
        ("Doorbell,Door,Domestic_sounds_and_home_sounds", "alarm"),
        ("Bark,Dog,Domestic_animals_and_pets,Animal", "animal"),
        ("Coin_(dropping),Domestic_sounds_and_home_sounds", "other"),
        ("Male_speech_and_man_speaking,Speech,Human_voice,Traffic_noise_and_roadway_noise", "human"),
        ("Raindrop,Rain,Water", "ambient"),
        ("Drill,Power_tool,Tools", "noise"),
    ],
)
def test_truth_class(labels, expected):
    assert wrangle.truth_class(labels.split(","), CROSSWALK) == expected
    assert wrangle.truth_class(reversed(labels.split(",")), CROSSWALK) == expected
