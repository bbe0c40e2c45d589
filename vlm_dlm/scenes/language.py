"""Sentences about a scene: the canonical caption, questions with one right answer.

Captions are pure functions of the scene, so exact match is a fair metric. Questions are only
asked where the scene allows a single answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vlm_dlm.scenes.charts import chart_facts, extreme_colour
from vlm_dlm.scenes.scenes import (
    COLOURS,
    NUMBER_NAMES,
    PLACES,
    SHAPES,
    Chart,
    Scene,
    SceneObject,
    pick,
    pick_weighted,
)

CAPTION_PROMPTS = (
    "Describe the image.",
    "Describe this image.",
    "What is in this image?",
    "What is in the image?",
    "What do you see?",
    "What does the image show?",
    "Caption this image.",
    "Describe this picture.",
    "Write a caption for this image.",
)
_CAPTION_PROMPT_WEIGHTS = (8.0, 3.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)

# Phrasings of each kind of question, separated by bars, and how often the kind is asked.
_TEMPLATES: dict[str, str] = {
    "colour_of": "What color is the {what}?|What colour is the {what}?",
    "shape_at": "What shape is {place}?|Which shape is {place}?",
    "colour_at": "What color is the object {place}?|What colour is the object {place}?",
    "what_at": "What is {place}?|What do you see {place}?|What is shown {place}?",
    "size_of": "What size is the {what}?|How big is the {what}?",
    "where": "Where is the {what}?|Where in the image is the {what}?",
    "count": "How many objects are there?|How many objects are in the image?|Count the objects.",
    "count_colour": "How many {colour} objects are there?|How many objects are {colour}?",
    "count_shape": "How many {shapes} are there?|How many {shapes} are in the image?",
    "exists": "Is there {what}?|Is there {what} in the image?|Can you see {what}?",
    "text": "What does the text say?|What word is shown?|Read the text.|Read the word.",
    "number": "What number is shown?|Which number do you see?|Read the number.",
    "background": "What color is the background?|What colour is the background?",
    "family": "Is this a chart or a drawing?|Is the image a chart or a drawing?",
    "relation": "What is {direction} the {what}?|Which object is {direction} the {what}?",
    "num_bars": "How many bars are there?|How many bars does the chart have?",
    "value_of": "What is the value of the {colour} bar?|How high is the {colour} bar?",
    "tallest": "Which bar is the tallest?|Which bar is tallest?|What is the highest bar?",
    "shortest": "Which bar is the shortest?|Which bar is shortest?|What is the lowest bar?",
    "taller": "Is the {colour} bar taller than the {other} bar?",
    "title": "What is the title?|What is the title of the chart?|Read the title.",
}
_KIND_WEIGHTS = {"family": 0.3, "background": 0.5, "relation": 0.9, "text": 2.5, "number": 2.5}
_KIND_WEIGHTS |= {"exists": 1.5, "count": 1.4, "count_colour": 1.2, "count_shape": 1.4}
_KIND_WEIGHTS |= {"value_of": 1.5, "tallest": 1.4, "shortest": 1.4}
# Words, axis (0 rows, 1 columns) and sign of the way to go.
_SIDEWAYS = (("to the left of", 1, -1), ("to the right of", 1, 1))
_DIRECTIONS = (*_SIDEWAYS, ("above", 0, -1), ("below", 0, 1))


@dataclass(frozen=True, slots=True)
class QA:
    """A question of some kind with its only right answer."""

    kind: str
    question: str
    answer: str


_NO_IMAGE = "There is no image in this conversation."
_ABOUT = "I describe drawn scenes and bar charts. I was not trained on photographs."
_ONLY_IMAGES = "I can only describe drawn scenes and bar charts."
TEXT_ONLY: tuple[QA, ...] = tuple(
    QA("text_only", question, answer)
    for question, answer in (
        ("Describe the image.", _NO_IMAGE),
        ("Describe this image.", _NO_IMAGE),
        ("What is in this image?", _NO_IMAGE),
        ("What do you see?", _NO_IMAGE),
        ("How many objects are there?", _NO_IMAGE),
        ("What color is the background?", _NO_IMAGE),
        ("What can you do?", _ABOUT),
        ("Who are you?", "I am a small vision-language model. " + _ABOUT),
        ("Can you describe photographs?", "No. " + _ABOUT),
        ("Hello!", "Hello! Show me a drawing or a bar chart."),
        ("Hi", "Hello! Show me a drawing or a bar chart."),
        ("Thank you.", "You are welcome."),
        ("Write a poem.", _ONLY_IMAGES),
        ("What is the capital of France?", _ONLY_IMAGES),
    )
)


def caption(scene: Scene) -> str:
    """The canonical caption: objects in raster order, or bars from left to right."""
    if scene.chart is not None:
        return _chart_caption(scene.chart)
    phrases = [f"{object_phrase(item)} {PLACES[item.place]}" for item in scene.objects]
    num_objects = len(phrases)
    count = "is one object" if num_objects == 1 else f"are {NUMBER_NAMES[num_objects]} objects"
    kinds = [item.what if item.kind == "shape" else item.kind for item in scene.objects]
    summary = "object is" if num_objects == 1 else "objects in order are"
    return (
        f"There {count} on a {scene.background} background: {_join(phrases)}. "
        f"The {summary} {_join([f'a {kind}' for kind in kinds])}."
    )


def _chart_caption(chart: Chart) -> str:
    title = f" titled {chart.title}" if chart.title else ""
    bars = _join([f"the {bar.colour} bar is {bar.value}" for bar in chart.bars])
    tallest, shortest = extreme_colour(chart.bars, max), extreme_colour(chart.bars, min)
    clauses = [f"the tallest bar is {tallest}"] * bool(tallest)
    clauses += [f"the shortest bar is {shortest}"] * bool(shortest)
    summary = f" {_sentence(' and '.join(clauses))}" if clauses else ""
    return f"A bar chart{title} with {NUMBER_NAMES[len(chart.bars)]} bars: {bars}.{summary}"


def _plural(name: str) -> str:
    return name + ("es" if name.endswith("s") else "s")


def object_phrase(item: SceneObject) -> str:
    """'a large red circle', 'the word STOP in blue' or 'the number 42 in green'."""
    if item.kind == "shape":
        return f"a {item.size} {item.colour} {item.what}"
    return f"the {item.kind} {item.what} in {item.colour}"


def _join(phrases: list[str]) -> str:
    if len(phrases) <= 2:
        return " and ".join(phrases)
    return ", ".join(phrases[:-1]) + ", and " + phrases[-1]


def _sentence(phrase: str) -> str:
    return phrase[0].upper() + phrase[1:] + "."


def caption_prompt(rng: np.random.Generator) -> str:
    """A prompt that asks for the caption; 'Describe the image.' most often."""
    return pick_weighted(rng, CAPTION_PROMPTS, _CAPTION_PROMPT_WEIGHTS)


def sample_questions(
    scene: Scene, rng: np.random.Generator, limit: int = 8, max_per_kind: int = 2
) -> tuple[QA, ...]:
    """At most `limit` distinct questions about the scene, and of one kind `max_per_kind`."""
    by_kind: dict[str, list[QA]] = {}
    source = _object_questions(scene, rng) if scene.chart is None else _chart_questions(scene, rng)
    for qa in source:
        by_kind.setdefault(qa.kind, []).append(qa)
    chosen: list[QA] = []
    num_asked: Counter[str] = Counter()
    while by_kind and len(chosen) < limit:
        kinds = list(by_kind)
        kind = pick_weighted(rng, kinds, [_KIND_WEIGHTS.get(kind, 1.0) for kind in kinds])
        chosen.append(by_kind[kind].pop(int(rng.integers(len(by_kind[kind])))))
        num_asked[kind] += 1
        if not by_kind[kind] or num_asked[kind] == max_per_kind:
            del by_kind[kind]
    return tuple(chosen)


def _ask(rng: np.random.Generator, kind: str, answer: str, **slots: str) -> QA:
    return QA(kind, pick(rng, _TEMPLATES[kind].split("|")).format(**slots), _sentence(answer))


def _chart_questions(scene: Scene, rng: np.random.Generator) -> Iterator[QA]:
    assert scene.chart is not None
    yield _ask(rng, "family", "a chart")
    yield _ask(rng, "background", scene.background)
    for kind, answer, slots in chart_facts(scene.chart):
        yield _ask(rng, kind, answer, **slots)


def _object_questions(scene: Scene, rng: np.random.Generator) -> Iterator[QA]:
    yield _ask(rng, "family", "a drawing")
    yield _ask(rng, "background", scene.background)
    yield _ask(rng, "count", NUMBER_NAMES[len(scene.objects)])
    for item in scene.objects:
        yield from _questions_at(item, rng)
        yield from _questions_by_name(item, scene, rng)
    shapes = [item for item in scene.objects if item.kind == "shape"]
    texts = [item for item in scene.objects if item.kind != "shape"]
    if len(texts) == 1:
        kind = "text" if texts[0].kind == "word" else "number"
        yield _ask(rng, kind, texts[0].what)
    yield from _count_questions(scene, shapes, rng)
    yield from _exists_questions(shapes, rng)
    yield from _relation_questions(scene, rng)


def _questions_at(item: SceneObject, rng: np.random.Generator) -> Iterator[QA]:
    place = PLACES[item.place]
    yield _ask(rng, "colour_at", item.colour, place=place)
    yield _ask(rng, "what_at", object_phrase(item), place=place)
    if item.kind == "shape":
        yield _ask(rng, "shape_at", f"a {item.what}", place=place)


def _unique_name(item: SceneObject, scene: Scene, with_colour: bool) -> str:
    """'red circle', 'circle' or 'word STOP'; empty if it fits several objects."""
    same = [other for other in scene.objects if other.what == item.what]
    if item.kind != "shape":
        return f"{item.kind} {item.what}" if len(same) == 1 else ""
    if with_colour:
        same = [other for other in same if other.colour == item.colour]
    return (f"{item.colour} " * with_colour + item.what) if len(same) == 1 else ""


def _questions_by_name(item: SceneObject, scene: Scene, rng: np.random.Generator) -> Iterator[QA]:
    if plain := _unique_name(item, scene, with_colour=False):
        yield _ask(rng, "colour_of", item.colour, what=plain)
    name = _unique_name(item, scene, with_colour=rng.random() < 0.7)
    if name:
        yield _ask(rng, "where", PLACES[item.place], what=name)
    if name and item.kind == "shape":
        yield _ask(rng, "size_of", item.size, what=name)


def _count_questions(
    scene: Scene, shapes: list[SceneObject], rng: np.random.Generator
) -> Iterator[QA]:
    """Counts of colours and shapes; zero is rare."""
    colours = Counter(item.colour for item in scene.objects)
    names = Counter(item.what for item in shapes)
    if rng.random() < 0.15:
        colours.setdefault(pick(rng, COLOURS), 0)
        names.setdefault(pick(rng, SHAPES), 0)
    for name, count in {**colours, **names}.items():
        if count == 1 and rng.random() < 0.5:  # "one" is almost always true
            continue
        if name in SHAPES:
            yield _ask(rng, "count_shape", NUMBER_NAMES[count], shapes=_plural(name))
        else:
            yield _ask(rng, "count_colour", NUMBER_NAMES[count], colour=name)


def _exists_questions(shapes: list[SceneObject], rng: np.random.Generator) -> Iterator[QA]:
    """As many 'yes' as 'no'; most 'no' mix the colour and the shape of two objects."""
    present = {(item.colour, item.what) for item in shapes}
    for colour, shape in sorted(present):
        yield _ask(rng, "exists", "yes", what=_with_article(f"{colour} {shape}"))
        other_colour = pick(rng, shapes).colour if rng.random() < 0.6 else pick(rng, COLOURS)
        other_shape = pick(rng, shapes).what if rng.random() < 0.6 else pick(rng, SHAPES)
        mixed = [(other_colour, shape), (colour, other_shape), (other_colour, other_shape)]
        mixed += [(pick(rng, COLOURS), shape), (colour, pick(rng, SHAPES))]
        for absent in [pair for pair in mixed if pair not in present][:1]:
            yield _ask(rng, "exists", "no", what=_with_article(" ".join(absent)))


def _with_article(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _relation_questions(scene: Scene, rng: np.random.Generator) -> Iterator[QA]:
    """Only where exactly one object lies on that side, straight across."""
    cells = [divmod(item.place, 3) for item in scene.objects]  # (row, column)
    for item, here in zip(scene.objects, cells, strict=True):
        name = _unique_name(item, scene, with_colour=True)
        for direction, axis, sign in _DIRECTIONS:
            beyond = [k for k, there in enumerate(cells) if (there[axis] - here[axis]) * sign > 0]
            if name and len(beyond) == 1 and cells[beyond[0]][1 - axis] == here[1 - axis]:
                answer = object_phrase(scene.objects[beyond[0]])
                yield _ask(rng, "relation", answer, direction=direction, what=name)
