"""Dense labels agree with the scene."""

import numpy as np

from vlm_dlm.scenes.labels import IGNORE, LABEL_SIZES, dense_labels, grid_of
from vlm_dlm.scenes.samples import sample_rng, sample_scene
from vlm_dlm.scenes.scenes import BACKGROUNDS, COLOURS, SHAPES, WORDS, Scene, SceneObject


def test_grid_rounds_up() -> None:
    assert grid_of(56, 56) == (2, 2)
    assert grid_of(57, 28) == (1, 3)


def test_shapes_types_and_ranges() -> None:
    for index in range(60):
        scene = sample_scene(sample_rng(index, "train"))
        num_cells = grid_of(scene.width, scene.height)
        labels = dense_labels(scene, num_cells)
        assert set(labels) == set(LABEL_SIZES)
        for name, cells in labels.items():
            assert cells.shape == num_cells
            assert cells.dtype == np.int64
            valid = cells[cells != IGNORE]
            assert valid.min(initial=0) >= 0
            assert valid.max(initial=0) < LABEL_SIZES[name]


def test_nearly_every_object_and_every_bar_owns_a_cell() -> None:
    """A small object at the corner of a cell may lose it to a neighbour, which must stay rare."""
    num_objects = num_lost = 0
    for index in range(150):
        scene = sample_scene(sample_rng(index, "train"))
        labels = dense_labels(scene, grid_of(scene.width, scene.height))
        places = set(labels["place"].ravel().tolist())
        num_objects += len(scene.objects)
        num_lost += sum(item.place + 1 not in places for item in scene.objects)
        for bar in scene.chart.bars if scene.chart else ():
            own = labels["bar_colour"] == COLOURS.index(bar.colour) + 1
            assert own.any()
            assert set(labels["bar_value"][own].tolist()) == {bar.value}
    assert num_lost < 0.02 * num_objects


def test_constructed_scene() -> None:
    circle = SceneObject("shape", "circle", "red", 0, (0.0, 0.0, 56.0, 56.0), "large")
    word = SceneObject("word", "DOG", "blue", 8, (84.0, 84.0, 140.0, 98.0))
    number = SceneObject("number", "7", "blue", 6, (3.0, 90.0, 23.0, 106.0))
    labels = dense_labels(Scene(140, 112, "black", (circle, number, word)), (4, 5))
    assert (labels["background"] == BACKGROUNDS.index("black")).all()
    assert (labels["shape"][:2, :2] == SHAPES.index("circle") + 1).all()
    assert (labels["colour"][:2, :2] == COLOURS.index("red") + 1).all()
    assert (labels["extent"][:2, :2] == 11).all()  # 56 = 12 * 1.16 ** 10.4
    assert (labels["extent"][2:] == 0).all()
    assert (labels["text"][3, 3:] == WORDS.index("DOG") + 1).all()
    assert (labels["tens"][3, 0], labels["ones"][3, 0]) == (11, 8)
    assert (labels["shape"][:3, 2:] == 0).all()
    assert (labels["is_chart"] == 0).all()


def test_extent_counts_pixels_of_the_token_grid() -> None:
    def extent(side: int, diameter: float) -> int:
        circle = SceneObject("shape", "circle", "red", 0, (0.0, 0.0, diameter, diameter), "large")
        labels = dense_labels(Scene(side, side, "white", (circle,)), grid_of(side, side))
        return int(labels["extent"].max())

    assert extent(56, 12.0) == 1
    assert extent(56, 28.0) == 6
    assert extent(42, 21.0) == 6  # resized to 56
    assert extent(448, 440.0) == LABEL_SIZES["extent"] - 1
