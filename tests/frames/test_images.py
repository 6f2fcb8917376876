"""Reading frames: every format whole, and cut short or damaged at many places."""

import cv2
import numpy as np
import pytest
from PIL import Image

from vasomim.errors import DatasetError
from vasomim.frames.images import image_size, read_grey, read_mask

FORMATS = ['png', 'jpg', 'bmp', 'tif', 'webp']


@pytest.fixture
def frame() -> np.ndarray:
    noise = np.random.default_rng(0).normal(128, 60, (60, 84))
    return np.clip(cv2.GaussianBlur(noise, None, 1.5) * 2 - 128, 0, 255).astype(np.uint8)


@pytest.mark.parametrize('ending', [*FORMATS, 'PNG', 'jpeg', 'tiff'])
def test_whole_files_are_read(tmp_path, frame, ending):
    path = tmp_path / f'frame.{ending}'
    cv2.imwrite(str(path), frame, [cv2.IMWRITE_JPEG_QUALITY, 100, cv2.IMWRITE_WEBP_QUALITY, 101])
    found = read_grey(path)
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - frame).max() <= (4 if ending.startswith('jp') else 0)


@pytest.mark.parametrize('ending', FORMATS)
@pytest.mark.parametrize('share', [0.0, 0.002, 0.02, 0.1, 0.3, 0.5, 0.9, 0.99])
def test_files_that_end_too_early_are_refused(tmp_path, frame, ending, share):
    path = tmp_path / f'frame.{ending}'
    cv2.imwrite(str(path), frame)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DatasetError) as caught:
        read_grey(path)
    assert str(caught.value).startswith(str(path))
    assert 'again' in caught.value.cure


@pytest.mark.parametrize('ending', FORMATS)
def test_a_few_bytes_short_is_refused_or_read_without_loss(tmp_path, frame, ending):
    path = tmp_path / f'frame.{ending}'
    cv2.imwrite(str(path), frame)
    whole, pixels = path.read_bytes(), read_grey(path)
    for missing in (1, 2, 4, 8, 16):
        path.write_bytes(whole[:-missing])
        try:
            found = read_grey(path)
        except DatasetError:
            continue
        assert ending == 'tif'  # Its last bytes point to a second page, which does not exist.
        np.testing.assert_array_equal(found, pixels)


def test_a_jpeg_whose_thumbnail_is_whole_but_whose_picture_is_not_is_refused(tmp_path, frame):
    thumbnail = cv2.imencode('.jpg', frame[::4, ::4])[1].tobytes()
    picture = cv2.imencode('.jpg', frame)[1].tobytes()
    comment = b'\xff\xfe' + (len(thumbnail) + 2).to_bytes(2, 'big') + thumbnail
    whole = picture[:2] + comment + picture[2:]
    path = tmp_path / 'frame.jpg'
    path.write_bytes(whole)
    assert read_grey(path).shape == frame.shape
    path.write_bytes(whole + bytes(100))  # Some devices pad their files.
    assert read_grey(path).shape == frame.shape
    path.write_bytes(whole[:-50])
    with pytest.raises(DatasetError, match='cut short'):
        read_grey(path)


def test_a_flipped_bit_in_a_png_is_noticed(tmp_path, frame):
    path = tmp_path / 'frame.png'
    cv2.imwrite(str(path), frame)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    with pytest.raises(DatasetError, match='damaged'):
        read_grey(path)


@pytest.mark.parametrize('channels', [3, 4])
def test_equal_channels_are_read_as_they_are(tmp_path, frame, channels):
    path = tmp_path / 'frame.png'
    layers = [frame, frame, frame, np.full_like(frame, 200)][:channels]
    cv2.imwrite(str(path), np.dstack(layers))
    np.testing.assert_array_equal(read_grey(path), frame)


def test_colour_becomes_luminance(tmp_path):
    path = tmp_path / 'frame.png'
    cv2.imwrite(str(path), np.full((4, 4, 3), (10, 200, 90), np.uint8))  # Blue, green, red.
    assert np.all(read_grey(path) == round(0.114 * 10 + 0.587 * 200 + 0.299 * 90))


def test_sixteen_bits_are_refused_with_the_cure(tmp_path):
    path = tmp_path / 'frame.png'
    cv2.imwrite(str(path), np.full((4, 4), 1000, np.uint16))
    with pytest.raises(DatasetError, match='uint16') as caught:
        read_grey(path)
    assert '8 bits' in caught.value.cure


@pytest.mark.parametrize('compression', [None, 'tiff_lzw'])
@pytest.mark.parametrize('big', [False, True])
def test_a_tiff_of_many_pages_is_refused(tmp_path, frame, compression, big):
    pages = [Image.fromarray(np.roll(frame, k)) for k in range(3)]
    path = tmp_path / 'frame.tif'
    pages[0].save(path, save_all=True, append_images=pages[1:], compression=compression, big_tiff=big)
    with pytest.raises(DatasetError, match=r'frame\.tif: it holds 3 pages') as caught:
        read_grey(path)
    assert 'a file of its own' in caught.value.cure
    pages[0].save(path, compression=compression, big_tiff=big)
    np.testing.assert_array_equal(read_grey(path), frame)


@pytest.mark.parametrize('content', [b'hello', b'\xff\xd8', b'\xff\xd8\xff\xe0\x00', b'BM', b'RIFF1234WEBP'])
def test_what_is_no_image_is_refused(tmp_path, content):
    path = tmp_path / 'frame.png'
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r'frame\.png'):
        read_grey(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r'nowhere\.png: it cannot be read: No such file'):
        read_grey(tmp_path / 'nowhere.png')


@pytest.mark.parametrize('top', [1, 255])
def test_masks_of_both_kinds_are_read_as_zero_and_one(tmp_path, top):
    path = tmp_path / 'mask.png'
    mask = np.eye(8, dtype=np.uint8)
    cv2.imwrite(str(path), mask * top)
    np.testing.assert_array_equal(read_mask(path), mask)


def test_a_mask_without_foreground_is_a_mask(tmp_path):
    cv2.imwrite(str(tmp_path / 'mask.png'), np.zeros((4, 6), np.uint8))
    np.testing.assert_array_equal(read_mask(tmp_path / 'mask.png'), np.zeros((4, 6)))


@pytest.mark.parametrize('ending', FORMATS)
def test_the_size_is_read_without_the_pixels(tmp_path, frame, ending):
    path = tmp_path / f'frame.{ending}'
    cv2.imwrite(str(path), frame)
    assert image_size(path) == frame.shape
    path.write_bytes(b'no image')
    assert image_size(path) is None


@pytest.mark.parametrize(('first', 'second'), [(0, 128), (1, 255), (7, 9)])
def test_a_mask_of_other_values_is_refused(tmp_path, first, second):
    path = tmp_path / 'mask.png'
    cv2.imwrite(str(path), np.array([[first, second]], np.uint8))
    with pytest.raises(DatasetError, match=f'values {first}, {second} instead of 0 and 255'):
        read_mask(path)


def modes(frame: np.ndarray) -> dict[str, tuple[Image.Image, np.ndarray, dict]]:
    """Pictures of every mode by file name, with the grey levels that they show, and how to save them."""
    color = np.dstack([frame, 255 - frame, frame // 2])
    grey = Image.fromarray(frame)
    indexed = Image.fromarray(color).convert('P', palette=Image.Palette.ADAPTIVE, colors=64)
    inverted = grey.convert('P')
    inverted.putpalette([level for index in range(256) for level in (255 - index,) * 3])
    cmyk = Image.fromarray(color).convert('CMYK')
    shown = {name: np.asarray(image.convert('RGB').convert('L')) for name, image in (('P', indexed), ('CMYK', cmyk))}
    opaque, half = np.full_like(frame, 255), np.full_like(frame, 128)
    luminance = np.asarray(Image.fromarray(color).convert('L'))
    black = frame > 128
    return {
        'palette.png': (indexed, shown['P'], {}),
        'palette.bmp': (indexed, shown['P'], {}),
        'palette.tif': (indexed, shown['P'], {}),
        'inverted.png': (inverted, 255 - frame, {}),
        'inverted.bmp': (inverted, 255 - frame, {}),
        'inverted.tif': (inverted, 255 - frame, {}),
        'key.png': (grey, frame, {'transparency': 5}),
        'alpha.png': (Image.fromarray(np.dstack([frame, half])), frame, {}),
        'color_alpha.png': (Image.fromarray(np.dstack([color, half])), luminance, {}),
        'color_alpha.webp': (Image.fromarray(np.dstack([color, half])), luminance, {'lossless': True, 'exact': True}),
        'opaque.tif': (Image.fromarray(np.dstack([color, opaque])), luminance, {}),
        'cmyk.jpg': (cmyk, shown['CMYK'], {'quality': 100}),
        'cmyk.tif': (cmyk, shown['CMYK'], {}),
        'bits.png': (Image.fromarray(black), 255 * black, {}),
        'bits.bmp': (Image.fromarray(black), 255 * black, {}),
        'bits.tif': (Image.fromarray(black), 255 * black, {'compression': 'group4'}),
        'white_is_zero.tif': (grey, frame, {'tiffinfo': {262: 0}}),  # Pillow inverts what it stores.
    }


@pytest.mark.parametrize('name', modes(np.zeros((8, 8), np.uint8)))
def test_every_mode_becomes_the_grey_levels_that_it_shows(tmp_path, frame, name):
    image, shown, options = modes(frame)[name]
    image.save(tmp_path / name, **options)
    assert np.abs(read_grey(tmp_path / name).astype(int) - shown).max() <= 2


def test_a_transparent_tiff_is_refused_as_its_colors_are_lost(tmp_path, frame):
    alpha = np.full_like(frame, 255)
    alpha[3, 4] = 254
    Image.fromarray(np.dstack([frame, frame, frame, alpha])).save(tmp_path / 'frame.tif')
    with pytest.raises(DatasetError, match='transparent'):
        read_grey(tmp_path / 'frame.tif')


@pytest.mark.parametrize('dtype', [np.uint16, np.int32, np.float32])
def test_deep_pages_are_refused(tmp_path, frame, dtype):
    Image.fromarray(frame.astype(dtype)).save(tmp_path / 'frame.tif')
    with pytest.raises(DatasetError, match=np.dtype(dtype).name) as caught:
        read_grey(tmp_path / 'frame.tif')
    assert '8 bits' in caught.value.cure


def test_a_jpeg_of_twelve_bits_is_refused_for_its_depth(tmp_path, frame):
    data = bytearray(cv2.imencode('.jpg', frame)[1].tobytes())
    data[data.index(b'\xff\xc0') + 1] = 0xC1  # Extended, which allows 12 bits.
    data[data.index(b'\xff\xc1') + 4] = 12
    (tmp_path / 'frame.jpg').write_bytes(data)
    with pytest.raises(DatasetError, match='12 bits') as caught:
        read_grey(tmp_path / 'frame.jpg')
    assert '8 bits' in caught.value.cure
