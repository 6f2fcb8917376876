"""Pictures of reconstructions, pixel by pixel."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from vasomim.drawing.visualization import caption, draw_rows, enlarge, overlay, reconstruction_figure, write_picture

TOP, GAP, PANEL = 26, 6, 224


def panels(picture: np.ndarray, rows: int, columns: int, side: int) -> list[list[np.ndarray]]:
    assert picture.shape == (TOP + rows * (side + GAP), GAP + columns * (side + GAP), 3)
    return [
        [
            picture[TOP + row * (side + GAP) :][:side, GAP + column * (side + GAP) :][:, :side]
            for column in range(columns)
        ]
        for row in range(rows)
    ]


@pytest.fixture
def frames() -> dict[str, np.ndarray]:
    random = np.random.RandomState(0)
    masks = np.zeros((2, 256, 256), bool)
    masks[0, :64] = True  # a quarter of the first frame, none of the second
    guidance = np.zeros((2, 256, 256))
    guidance[1, 100:110] = 1.0
    return {
        'originals': random.randint(0, 256, (2, 256, 256)).astype(np.uint8),
        'reconstructions': random.randint(0, 256, (2, 256, 256)).astype(np.uint8),
        'masks': masks,
        'guidance': guidance,
    }


def test_four_columns_hold_what_they_say(frames):
    rows = panels(draw_rows(**frames), rows=2, columns=4, side=256)
    for index in range(2):
        original, guided, visible, rebuilt = rows[index]
        for panel, image in ((original, 'originals'), (rebuilt, 'reconstructions')):
            np.testing.assert_array_equal(panel, np.stack([frames[image][index]] * 3, axis=-1))
        assert (visible[frames['masks'][index]] == (88, 102, 122)).all()
        outside = ~frames['masks'][index]
        np.testing.assert_array_equal(visible[outside], original[outside])
        faded = frames['guidance'][index] == 0
        np.testing.assert_array_equal(guided[faded], original[faded])
    strong = rows[1][1][100:110].reshape(-1, 3).astype(int)
    assert (strong[:, 0] > strong[:, 2] + 100).all()  # orange, whatever the grey level under it


def test_overlay_by_hand():
    image = np.array([[100, 200]], np.uint8)
    # No guidance: the grey level. Half: share 0.4, 0.6 x 200 + 0.4 x (255, 170, 0).
    assert overlay(image, np.array([[0.0, 0.5]])).tolist() == [[[100] * 3, [222, 188, 120]]]


def test_without_guidance_there_are_three_columns(frames):
    picture = draw_rows(frames['originals'], frames['reconstructions'], frames['masks'])
    panels(picture, rows=2, columns=3, side=256)


def test_small_frames_are_enlarged_by_a_whole_factor():
    panel = np.arange(48 * 60 * 3, dtype=np.uint8).reshape(48, 60, 3)
    large = enlarge(panel)
    assert large.shape == (240, 300, 3)
    np.testing.assert_array_equal(large[2::5, 2::5], panel)
    assert enlarge(np.zeros((224, 300, 3), np.uint8)).shape == (224, 300, 3)


def test_names_stand_on_the_originals_only(frames):
    bare = panels(draw_rows(**frames), 2, 4, 256)
    named = panels(draw_rows(**frames, names=['first.png']), 2, 4, 256)
    changed = [[not np.array_equal(a, b) for a, b in zip(*rows, strict=True)] for rows in zip(bare, named, strict=True)]
    assert changed == [[True, False, False, False], [False] * 4]
    blank = np.zeros((224, 224, 3), np.uint8)
    long = caption(blank, 'x' * 200)
    assert long.any() and not long[:200].any() and not blank.any()


def test_a_reconstruction_of_tensors_is_drawn(frames):
    def tensor(name: str) -> torch.Tensor:
        return torch.from_numpy(frames[name].astype(np.float32))[:, None]

    result = SimpleNamespace(
        original=tensor('originals').expand(-1, 3, -1, -1) / 255,
        mask=tensor('masks'),
        reconstruction=tensor('reconstructions').expand(-1, 3, -1, -1) / 255,
        guidance=tensor('guidance'),
    )
    picture = reconstruction_figure(result, lambda x: (x.mean(1) * 255).round().to(torch.uint8), ['a', 'b'])
    np.testing.assert_array_equal(picture, draw_rows(**frames, names=['a', 'b']))


@pytest.mark.parametrize('change', [{'masks': np.zeros((2, 8, 8), bool)}, {'originals': np.zeros((256, 256))}])
def test_shapes_that_differ_are_an_error(frames, change):
    with pytest.raises(ValueError, match='of one shape'):
        draw_rows(**{**frames, **change})


def test_a_picture_is_written_as_it_is(frames, tmp_path):
    picture = draw_rows(**frames)
    write_picture(tmp_path / 'deep' / 'folder' / 'picture.png', picture)
    read = cv2.imread(str(tmp_path / 'deep' / 'folder' / 'picture.png'))[..., ::-1]
    np.testing.assert_array_equal(read, picture)


TEXTS = """
import numpy as np
from vasomim.drawing.overlays import contact_sheet
from vasomim.drawing.visualization import caption
panel = np.zeros((224, 224, 3), np.uint8)
for text in ('f\\udcfcr', 'a\\x00b', 'n\\nl', '\\u202e', '\\U0001f600', 'x' * 5000, '\\udcff' * 300):
    assert caption(panel, text).any()
    contact_sheet([[panel]], [text], [text], text)
print('alive')
"""


def test_text_of_any_kind_is_drawn():
    """OpenCV dies of half a surrogate pair, so in a process of its own."""
    environment = {**os.environ, 'PYTHONPATH': str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, '-c', TEXTS], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == 'alive', (done.returncode, done.stderr)
