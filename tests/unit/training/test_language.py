"""Captions, questions and parsing on constructed and sampled scenes."""

import numpy as np
import pytest

from vlm_dlm.scenes.language import (
    CAPTION_PROMPTS,
    TEXT_ONLY,
    caption,
    caption_prompt,
    sample_questions,
)
from vlm_dlm.scenes.parsing import object_f1, parse_caption
from vlm_dlm.scenes.samples import sample_rng, sample_scene
from vlm_dlm.scenes.scenes import Bar, Chart, Scene, SceneObject

BOX = (0.0, 0.0, 10.0, 10.0)
SCENE = Scene(
    200,
    200,
    "white",
    (
        SceneObject("shape", "circle", "red", 0, BOX, "large"),
        SceneObject("word", "STOP", "blue", 1, BOX),
        SceneObject("shape", "star", "red", 8, BOX, "small"),
    ),
)
BARS = (Bar("red", 4, BOX), Bar("blue", 7, BOX), Bar("green", 2, BOX))
CHART = Scene(200, 200, "white", chart=Chart(BARS, BOX, 10.0, 10.0, "SALE", BOX))


def _answers(scene: Scene) -> dict[str, set[str]]:
    """Every answer given to each question over many draws."""
    found: dict[str, set[str]] = {}
    for seed in range(150):
        for qa in sample_questions(scene, np.random.default_rng(seed), 12):
            found.setdefault(qa.question, set()).add(qa.answer)
    return found


def test_caption_of_objects() -> None:
    assert caption(SCENE) == (
        "There are three objects on a white background: a large red circle at the top left, "
        "the word STOP in blue at the top, and a small red star at the bottom right. "
        "The objects in order are a circle, a word, and a star."
    )


def test_caption_of_one_object() -> None:
    item = SceneObject("number", "42", "white", 4, BOX)
    expected = (
        "There is one object on a black background: the number 42 in white in the center. "
        "The object is a number."
    )
    assert caption(Scene(60, 60, "black", (item,))) == expected


def test_caption_of_a_chart() -> None:
    assert caption(CHART) == (
        "A bar chart titled SALE with three bars: the red bar is 4, the blue bar is 7, and the "
        "green bar is 2. The tallest bar is blue and the shortest bar is green."
    )


def test_caption_of_a_chart_drops_tied_clauses() -> None:
    tied = Chart((Bar("red", 3, BOX), Bar("blue", 3, BOX)), BOX, 10.0, 10.0)
    text = caption(Scene(200, 200, "white", chart=tied))
    assert text == "A bar chart with two bars: the red bar is 3 and the blue bar is 3."


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("How many objects are there?", "Three."),
        ("What color is the circle?", "Red."),
        ("What shape is at the top left?", "A circle."),
        ("What is at the top?", "The word STOP in blue."),
        ("What size is the red star?", "Small."),
        ("Where is the word STOP?", "At the top."),
        ("How many red objects are there?", "Two."),
        ("Is there a red circle?", "Yes."),
        ("What does the text say?", "STOP."),
        ("What color is the background?", "White."),
        ("What is to the left of the word STOP?", "A large red circle."),
        ("Is this a chart or a drawing?", "A drawing."),
    ],
)
def test_answer_about_objects(question: str, answer: str) -> None:
    assert _answers(SCENE)[question] == {answer}


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("How many bars are there?", "Three."),
        ("What is the value of the blue bar?", "7."),
        ("Which bar is the tallest?", "The blue bar."),
        ("Which bar is shortest?", "The green bar."),
        ("Is the red bar taller than the blue bar?", "No."),
        ("What is the title?", "SALE."),
        ("Is this a chart or a drawing?", "A chart."),
    ],
)
def test_answer_about_a_chart(question: str, answer: str) -> None:
    assert _answers(CHART)[question] == {answer}


def test_ambiguous_questions_are_not_asked() -> None:
    answers = _answers(SCENE)
    assert all(len(given) == 1 for given in answers.values())
    two_stars = Scene(200, 200, "white", (SCENE.objects[2], SCENE.objects[2]))
    assert "Where is the red star?" not in _answers(two_stars)
    assert "What number is shown?" not in answers


def test_existence_is_balanced() -> None:
    answers = [
        qa.answer for index in range(300) for qa in _sampled_questions(index) if qa.kind == "exists"
    ]
    assert 0.4 < answers.count("Yes.") / len(answers) < 0.6


def test_counts_include_zero_and_more_than_one() -> None:
    counted = [qa for index in range(300) for qa in _sampled_questions(index)]
    answers = {qa.answer for qa in counted if qa.kind in ("count_colour", "count_shape")}
    assert {"Zero.", "One.", "Two.", "Three."} <= answers


def _sampled_questions(index: int):
    rng = sample_rng(index, "train")
    return sample_questions(sample_scene(rng), rng)


def test_parse_caption_inverts_caption() -> None:
    for index in range(200):
        scene = sample_scene(sample_rng(index, "train"))
        objects = {
            (item.size, item.colour, item.what) if item.size else (item.kind, item.what)
            for item in scene.objects
        }
        bars = scene.chart.bars if scene.chart else ()
        parsed = parse_caption(caption(scene))
        assert len(parsed) == len(scene.objects) + len(bars)
        if scene.chart:
            assert parsed == {(bar.colour, "bar", str(bar.value), "0") for bar in bars}
        else:
            assert {item[: 3 if item[0] not in ("word", "number") else 2] for item in parsed} == (
                objects
            )


def test_object_f1() -> None:
    reference = caption(SCENE)
    assert object_f1(reference, reference) == 1.0
    assert object_f1(reference.replace("red star", "blue star"), reference) == pytest.approx(2 / 3)
    assert object_f1("", reference) == 0.0
    assert object_f1("a large red circle at the top left " * 2, reference) == pytest.approx(0.4)
    assert object_f1("<|im_end|> \x00 the the (", "\ud800") == 1.0


def test_longer_place_names_are_not_cut() -> None:
    assert object_f1("a small red star at the top", "a small red star at the top left") == 0.0


def test_prompts_and_text_only_pairs() -> None:
    prompts = {caption_prompt(np.random.default_rng(seed)) for seed in range(100)}
    assert prompts <= set(CAPTION_PROMPTS)
    assert len(prompts) > 5
    assert len({qa.question for qa in TEXT_ONLY}) == len(TEXT_ONLY) >= 12
