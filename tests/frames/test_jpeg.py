"""Damage inside JPEG files: what decoders let pass is refused, and no sound file is."""

import io
import itertools

import numpy as np
import pytest
from PIL import Image, ImageFile

from vasomim.errors import DatasetError
from vasomim.frames.images import read_grey
from vasomim.frames.jpeg import damage, read_jpeg
from vasomim.synthetic import simulate_frame


@pytest.fixture(scope='module')
def frame() -> np.ndarray:
    return simulate_frame(0).image[:320, :320]


def encoded(pixels: np.ndarray, mode: str = 'L', **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, 'JPEG', **options)
    return buffer.getvalue()


def pictures(frame: np.ndarray) -> dict[str, np.ndarray]:
    """Pictures whose codes may be anything, long runs of zeros among them."""
    rows, columns = np.mgrid[:320, :320]
    return {
        'frame': frame,
        'collimated': np.where((rows - 160) ** 2 + (columns - 160) ** 2 < 90**2, frame, 0).astype(np.uint8),
        'black': np.zeros((1024, 1024), np.uint8),
        'line': np.full((1, 3000), 7, np.uint8),
        'slope': np.tile(np.arange(256, dtype=np.uint8), (64, 2)),
        'noise': np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8),
        'checks': ((rows // 8 + columns // 8) % 2 * 255).astype(np.uint8),
        'pixel': np.zeros((1, 1), np.uint8),
    }


@pytest.mark.parametrize('mode', ['L', 'RGB', 'CMYK'])
@pytest.mark.parametrize('progressive', [False, True])
def test_no_sound_file_is_refused(frame, mode, progressive, monkeypatch):
    monkeypatch.setattr(ImageFile, 'MAXBLOCK', 1 << 24)  # Pillow writes a file of one block.
    for name, pixels in pictures(frame).items():
        for quality, optimize, interval, sampling in itertools.product((20, 95), (False, True), (0, 1, 64), (0, 2)):
            marks = {'restart_marker_blocks': interval} if interval else {}
            data = encoded(
                pixels, mode, quality=quality, optimize=optimize, progressive=progressive, subsampling=sampling, **marks
            )
            for padded in (
                data,
                data[:-2] + b'\xff' * 9 + data[-2:],
                data[:-2] + bytes(9) + data[-2:],
                data + bytes(99),
            ):
                jpeg = read_jpeg(padded)
                assert (jpeg.height, jpeg.width) == pixels.shape
                assert damage(padded, jpeg, thorough=True) == '', (name, quality, optimize, interval)


@pytest.mark.parametrize('options', [{}, {'optimize': True}, {'restart_marker_blocks': 40}, {'quality': 95}], ids=str)
@pytest.mark.parametrize('thorough', [False, True])
def test_zeros_in_the_middle_are_seen(tmp_path, frame, options, thorough):
    whole = encoded(frame, **options)
    start = read_jpeg(whole).scan
    path = tmp_path / 'frame.jpg'
    for length, share in itertools.product((64, 512, 2048), (0.0, 0.3, 0.6)):
        at = start + int(share * (len(whole) - start))
        path.write_bytes(whole[:at] + bytes(length) + whole[at + length :])
        with pytest.raises(DatasetError, match=r'frame\.jpg: damaged'):
            read_grey(path, thorough=thorough)


def test_sectors_of_zeros_in_a_progressive_file_are_mostly_seen(frame):
    whole = encoded(frame, progressive=True, quality=90)
    start = read_jpeg(whole).scan
    places = range(start, len(whole) - 600, (len(whole) - start) // 20)
    seen = [
        bool(damage(data, read_jpeg(data), False))
        for data in (whole[:at] + bytes(512) + whole[at + 512 :] for at in places)
    ]
    assert sum(seen) > 0.7 * len(seen)


@pytest.mark.parametrize('options', [{}, {'restart_marker_blocks': 40}], ids=str)
def test_other_bytes_in_the_middle_are_seen_by_a_thorough_reader(frame, options):
    whole = encoded(frame, quality=90, **options)
    start = read_jpeg(whole).scan
    rng = np.random.default_rng(0)
    seen = []
    for at in rng.integers(start, len(whole) - 600, 20):
        data = whole[:at] + rng.bytes(512) + whole[at + 512 :]
        seen.append(bool(damage(data, read_jpeg(data), True)))
    assert sum(seen) > 0.7 * len(seen)  # A decoder that is back in step at the right block tells nothing.


def test_a_part_that_is_missing_is_seen(frame):
    whole = encoded(frame)
    start = read_jpeg(whole).scan
    data = whole[: start + 1000] + whole[start + 3000 :]
    assert 'codes' in damage(data, read_jpeg(data), True)


def test_restart_markers_out_of_order_are_seen(frame):
    whole = encoded(frame, restart_marker_blocks=40)
    data = whole.replace(b'\xff\xd1', b'\xff\xd3', 1)
    assert damage(whole, read_jpeg(whole), True) == ''
    assert 'codes' in damage(data, read_jpeg(data), True)
