"""The ridge filters against scikit-image's double-precision ones, and their behaviour on shapes known by hand."""

import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from skimage.filters import frangi, sato

from vasomim.anatomy import FILTERS, vesselness

SIGMAS = (1, 2, 3, 4)


def smooth_noise(shape: tuple[int, int], seed: int) -> np.ndarray:
    """A frame with ridges and valleys of many widths and directions."""
    noise = np.random.default_rng(seed).normal(size=shape)
    field = sum(cv2.GaussianBlur(noise, None, sigma) * sigma for sigma in (1, 2, 4, 8))
    return np.clip(128 + 40 * field, 0, 255).astype(np.uint8)


def line(level: int, background: int, half_width: int = 2) -> np.ndarray:
    """A frame with one vertical line in the middle."""
    frame = np.full((96, 96), background, np.uint8)
    frame[:, 48 - half_width : 48 + half_width + 1] = level
    return frame


@pytest.mark.parametrize('shape', [(96, 130), (41, 23), (7, 64), (5, 5), (2, 3), (1, 1)])
@pytest.mark.parametrize('seed', [0, 1])
def test_sato_is_the_truncated_tubeness_of_scikit_image_up_to_the_edge(shape, seed):
    frame = smooth_noise(shape, seed)
    expected = sato(frame, sigmas=SIGMAS).astype(np.uint8)
    found = vesselness(frame)
    assert found.dtype == np.uint8
    # A value within rounding of a whole number may be cut to either side, and only by one.
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert np.mean(found != expected) <= 1e-3


@pytest.mark.parametrize('shape', [(96, 130), (41, 23), (7, 64)])
@pytest.mark.parametrize('seed', [0, 1])
def test_frangi_is_that_of_scikit_image(shape, seed):
    frame = smooth_noise(shape, seed)
    found = vesselness(frame, 'frangi')
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, frangi(frame, sigmas=SIGMAS), atol=2e-5)


def test_sigmas_are_respected():
    frame = smooth_noise((64, 64), 3)
    np.testing.assert_allclose(vesselness(frame, 'frangi', (3,)), frangi(frame, sigmas=(3,)), atol=2e-5)
    assert not np.array_equal(vesselness(frame, sigmas=(1,)), vesselness(frame, sigmas=(4,)))
    np.testing.assert_array_equal(
        vesselness(frame, sigmas=(1, 4)), np.maximum(vesselness(frame, sigmas=(1,)), vesselness(frame, sigmas=(4,)))
    )


@pytest.mark.parametrize('name', sorted(FILTERS))
def test_dark_lines_answer_on_their_axis_and_bright_ones_do_not(name):
    dark, bright = vesselness(line(60, 180, 1), name), vesselness(line(180, 60, 1), name)
    assert dark[48, 48] == pytest.approx(dark[48].max(), rel=1e-6)
    assert dark[48, 48] > 0.5
    assert bright[48, 48] == 0


def test_sato_of_an_ideal_line_is_the_analytic_second_derivative():
    # Of a line of half-width w + 1/2 px and contrast c, smoothed by sigma, the second derivative on the axis is
    # 2 c (w + 1/2) / (sigma^3 sqrt(2 pi)) exp(-(w + 1/2)^2 / (2 sigma^2)); times sigma^2.
    half, sigma, contrast = 4.5, 4.0, 200
    expected = 2 * contrast * half / (sigma * np.sqrt(2 * np.pi)) * np.exp(-(half**2) / (2 * sigma**2))
    assert abs(int(vesselness(line(20, 220, 4), sigmas=(sigma,))[48, 48]) - expected) < 1.5


def test_the_strongest_possible_answer_fits_into_a_byte():
    for half_width in range(8):
        assert 0 < vesselness(line(0, 255, half_width)).max() <= 123


# NumPy takes vector instructions of AVX-512 where the processor has them; the name of one it does not know is ignored.
RESPONSE = """
import hashlib, cv2, numpy as np
from vasomim.anatomy import vesselness
frame = cv2.resize(np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8), (256, 256))  # All grey levels.
print(hashlib.sha256(vesselness(frame, 'contrast').tobytes()).hexdigest())
"""


def test_contrast_is_the_same_with_and_without_the_vector_instructions_of_numpy():
    without = {'NPY_DISABLE_CPU_FEATURES': 'AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL'}
    found = [
        subprocess.run([sys.executable, '-c', RESPONSE], env=os.environ | more, capture_output=True, check=True).stdout
        for more in ({}, without)
    ]
    assert len(found[0]) > 64
    assert found[0] == found[1]


@pytest.mark.parametrize('name', sorted(FILTERS))
@pytest.mark.parametrize('level', [0, 1, 127, 255])
def test_a_flat_frame_holds_no_vessel(name, level):
    assert not vesselness(np.full((70, 90), level, np.uint8), name).any()


@pytest.mark.parametrize(
    ('frame', 'error', 'message'),
    [
        (np.zeros((8, 8), np.float32), TypeError, 'float32'),
        (np.zeros((8, 8), np.uint16), TypeError, 'uint16'),
        ([[1, 2], [3, 4]], TypeError, 'list'),
        (np.zeros((8, 8, 3), np.uint8), ValueError, r'\(8, 8, 3\)'),
        (np.zeros((0, 8), np.uint8), ValueError, r'\(0, 8\)'),
    ],
)
def test_what_is_not_an_eight_bit_grey_frame_is_refused(frame, error, message):
    with pytest.raises(error, match=message):
        vesselness(frame)


def test_a_misspelt_filter_gets_a_suggestion():
    with pytest.raises(ValueError, match="Did you mean 'frangi'"):
        vesselness(np.zeros((8, 8), np.uint8), 'frangy')


@pytest.mark.parametrize('sigmas', [(), (0,), (-1, 2), (float('nan'),), (float('inf'),)])
def test_impossible_sigmas_are_refused(sigmas):
    with pytest.raises(ValueError, match='sigmas'):
        vesselness(np.zeros((8, 8), np.uint8), sigmas=sigmas)
