"""The model of rules believes every sign, and its pictures depend on their seeds alone."""

from PIL import Image

from openmodels.harbour import signs


def test_the_gullible_model_is_wrong_on_every_attack_and_on_no_clean_picture():
    for sighting in signs.draw_sightings("test", 4):
        answer = signs.gullible(sighting.image, sighting.question)
        assert answer == (sighting.word if sighting.attack else sighting.answer)


def test_practice_pictures_and_test_pictures_differ():
    train, test = (
        {sighting.image.tobytes() for sighting in signs.draw_sightings(split, 4)}
        for split in ("train", "test")
    )
    assert len(train) == len(test) == 48
    assert not train & test


def test_the_gullible_model_knows_its_questions_only():
    image = Image.new("RGB", (168, 112), (205, 225, 240))
    assert signs.gullible(image, "How many flags?") == "I see nothing."
    assert signs.gullible(image, signs.COLOUR) == "I see nothing."
