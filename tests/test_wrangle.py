"""Tags to classes: the shipped lists, the rule, and slips of the keyboard."""

import re
import tomllib

import pytest

from helpers.base import DATA, CourseError, DataMissing
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


def test_shipped_lists_are_sound():
    # Reading them checks for fused and repeated tags; every class has a list, and none is a handful of words.
    assert set(LISTS) == set(wrangle._CLASSES)
    assert min(map(len, LISTS.values())) >= 40


def test_every_list_finds_its_own_words():
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


def test_votes_are_the_evidence():
    assert wrangle.votes(["Dog-Barking", "guitar", "dog", "dog", "xyz"], LISTS) == {
        "animal": ["Dog-Barking", "dog"],
        "music": ["guitar"],
    }


def test_ties_follow_the_order_of_the_lists():
    assert wrangle.wrangle(["dog", "piano"], {"music": ["piano"], "animal": ["dog"]}) == "music"
    assert wrangle.wrangle(["dog", "piano"], {"animal": ["dog"], "music": ["piano"]}) == "animal"


def test_typos_only_on_request():
    assert wrangle.wrangle(["barkign"], LISTS) == "other"
    assert wrangle.wrangle(["barkign"], LISTS, typos=True) == "animal"
    assert wrangle.wrangle(["footstpes"], LISTS, typos=True) == "movement"
    assert wrangle.wrangle(["xylophon"], LISTS, typos=True) == "music"
    # Short words differ too little from each other to be guessed at.
    assert wrangle.wrangle(["dug"], LISTS, typos=True) == "other"


def _write(tmp_path, text):
    path = tmp_path / "lists.toml"
    path.write_text(text)
    return path


def test_two_tags_fused_by_a_forgotten_comma(tmp_path):
    path = _write(tmp_path, '[classes]\nanimal = ["dog", "bark", "dogbark"]\n')
    with pytest.raises(CourseError, match="'dogbark' in animal is 'dog' and 'bark' run together: a forgotten comma?"):
        wrangle.read_tag_lists(path)
    declared = _write(tmp_path, 'compounds = ["dogbark"]\n[classes]\nanimal = ["dog", "bark", "dogbark"]\n')
    assert "dogbark" in wrangle.read_tag_lists(declared)["animal"]


def test_every_comma_lost_from_the_shipped_lists_is_found():
    # In a TOML file a lost comma is an error, wherever it happens.
    text = DATA.joinpath("tag_lists.toml").read_text(encoding="utf-8")
    commas = [match.start() for match in re.finditer(r'(?<="),(?= ")', text)]
    assert len(commas) > 500
    for comma in commas[::25]:
        with pytest.raises(tomllib.TOMLDecodeError):
            tomllib.loads(text[:comma] + text[comma + 1 :])


def test_a_tag_in_two_lists(tmp_path):
    path = _write(tmp_path, '[classes]\nanimal = ["dog"]\nhuman = ["Dogs"]\n')
    with pytest.raises(CourseError, match="'dog' stands in animal and in human"):
        wrangle.read_tag_lists(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[classes]\nanimal = ["dog" "cat"]\n', "comma"),
        ('[classes]\nanimals = ["dog"]\n', "unknown: \\['animals'\\]"),
        ("compounds = []\n", "expected a table"),
        ('[classes]\nanimal = ["--"]\n', "empty"),
    ],
)
def test_broken_lists(tmp_path, text, message):
    with pytest.raises(CourseError, match=message):
        wrangle.read_tag_lists(_write(tmp_path, text))
    with pytest.raises(DataMissing):
        wrangle.read_tag_lists(tmp_path / "none.toml")


def test_crosswalk_covers_the_vocabulary():
    assert len(CROSSWALK) == 200
    assert set(CROSSWALK.values()) == set(wrangle._CLASSES)


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


def test_truth_class_without_and_with_unknown_labels():
    assert wrangle.truth_class([], CROSSWALK) is None
    with pytest.raises(CourseError, match="Bagpipes"):
        wrangle.truth_class(["Music", "Bagpipes"], CROSSWALK)
