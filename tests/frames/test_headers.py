"""What headers say: how a picture is turned, how large it is and how many there are, before anything is decoded."""

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from vasomim.errors import DatasetError
from vasomim.frames.headers import read_header, turned, turned_point
from vasomim.frames.images import image_header, image_size, read_grey, read_mask
from vasomim.frames.limits import MOST_PIXELS

TURNED = {  # The stored picture in, the shown one out: EXIF 2.32, section 4.6.4, with NumPy's words for it.
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(np.transpose(stored), 2),
    8: lambda stored: np.rot90(stored, 1),
}


@pytest.fixture
def stored() -> np.ndarray:
    """A picture without symmetry that JPEG keeps well: two smooth slopes."""
    rows, columns = np.mgrid[:40, :56]
    return (2 * rows + 3 * columns * (columns > 20)).astype(np.uint8)


def save(path, pixels, orientation, **options):
    """Write a picture with its orientation as the format keeps it."""
    exif = Image.Exif()
    exif[0x112] = orientation
    image = Image.fromarray(pixels)
    if path.suffix == '.tif':
        image.save(path, tiffinfo={0x112: orientation}, **options)
    else:
        lossless = {'lossless': True, 'exact': True} if path.suffix == '.webp' else {}
        image.save(path, exif=exif, quality=95, **lossless, **options)


@pytest.mark.parametrize('orientation', TURNED)
@pytest.mark.parametrize('ending', ['png', 'jpg', 'webp', 'tif'])
def test_a_picture_is_read_as_it_is_shown(tmp_path, stored, ending, orientation):
    path = tmp_path / f'frame.{ending}'
    save(path, stored, orientation)
    expected = TURNED[orientation](stored)
    found = read_grey(path)
    assert found.shape == image_size(path) == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= (6 if ending == 'jpg' else 0)


@pytest.mark.parametrize('orientation', [3, 6])
@pytest.mark.parametrize('mode', ['1', 'P', 'RGB', 'RGBA'])
def test_pages_of_every_mode_are_turned_once(tmp_path, stored, mode, orientation):
    image = Image.fromarray(stored).convert(mode)
    image.save(tmp_path / 'frame.tif', tiffinfo={0x112: orientation})
    expected = TURNED[orientation](np.asarray(image.convert('L')))
    assert np.abs(read_grey(tmp_path / 'frame.tif').astype(int) - expected).max() <= 1


def test_masks_are_turned_like_their_frames(tmp_path):
    mask = np.zeros((6, 9), np.uint8)
    mask[1, 2:8] = 255
    save(tmp_path / 'mask.png', mask, 6)
    np.testing.assert_array_equal(read_mask(tmp_path / 'mask.png'), np.rot90(mask, -1) // 255)


@pytest.mark.parametrize('orientation', TURNED)
def test_points_go_where_their_pixels_go(stored, orientation):
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x112] = orientation
    Image.fromarray(stored).save(buffer, 'PNG', exif=exif)
    header = read_header(buffer.getvalue())
    for row, column in ((0, 0), (3, 50), (39, 7)):
        mark = np.zeros_like(stored)
        mark[row, column] = 1
        ((y, x),) = np.argwhere(turned(mark, orientation))
        assert turned_point(column + 0.5, row + 0.5, header) == (x + 0.5, y + 0.5)


@pytest.mark.parametrize(
    'exif', [b'', b'Exif\0\0', b'II*\0', b'MM\0*\0\0\0\x08\xff\xff', b'II*\0\x08\0\0\0\x01\0\x12\x01']
)
def test_a_damaged_exif_turns_nothing(tmp_path, stored, exif):
    Image.fromarray(stored).save(tmp_path / 'frame.png', exif=exif or None)
    np.testing.assert_array_equal(read_grey(tmp_path / 'frame.png'), stored)


def test_orientations_that_do_not_exist_turn_nothing(tmp_path, stored):
    save(tmp_path / 'frame.png', stored, 9)
    np.testing.assert_array_equal(read_grey(tmp_path / 'frame.png'), stored)


def stack(path, pictures, **options):
    first, *others = [Image.fromarray(picture) for picture in pictures]
    first.save(path, path.suffix[1:].replace('tif', 'tiff'), save_all=True, append_images=others, **options)


@pytest.mark.parametrize('ending', ['png', 'webp', 'mpo', 'tif'])
def test_a_file_of_several_pictures_is_refused_with_their_number(tmp_path, stored, ending):
    made = tmp_path / f'made.{ending}'
    stack(made, [np.roll(stored, 5 * k, axis=1) for k in range(4)])
    path = made.rename(tmp_path / f'frame.{"jpg" if ending == "mpo" else ending}')
    with pytest.raises(DatasetError, match=r'frame\..*: it holds 4 p'):
        read_grey(path)


def test_an_animation_of_one_frame_is_a_picture_but_not_beside_a_picture(tmp_path, stored):
    other = np.roll(stored, 9, axis=1)
    stack(tmp_path / 'two.png', [stored, other], default_image=True)
    with pytest.raises(DatasetError, match='it holds 2 pictures'):
        read_grey(tmp_path / 'two.png')
    stack(tmp_path / 'two.webp', [stored, other], lossless=True)
    data = (tmp_path / 'two.webp').read_bytes()
    assert data.count(b'ANMF') == 2
    one = data[: data.rindex(b'ANMF')]
    (tmp_path / 'one.webp').write_bytes(one[:4] + struct.pack('<I', len(one) - 8) + one[8:])
    np.testing.assert_array_equal(read_grey(tmp_path / 'one.webp'), stored)


def test_previews_and_maps_of_a_phone_are_no_frames(tmp_path, stored):
    path = tmp_path / 'frame.mpo'
    stack(path, [stored, stored[::4, ::4], stored[::2, ::2]], quality=95)
    assert image_header(path).pictures == 1
    assert np.abs(read_grey(path).astype(int) - stored).max() <= 6
    stack(path, [stored, stored])
    data = bytearray(path.read_bytes())
    assert image_header(path).pictures == 2
    place = data.rindex(struct.pack('<I', 0x30000), 0, data.index(b'\xff\xdb'))
    data[place + 16 : place + 20] = struct.pack('<I', 0x10001)  # The entry behind it: a large preview.
    path.write_bytes(data)
    assert image_header(path).pictures == 1


def png_of(width: int, height: int) -> bytes:
    header = struct.pack('>IIBBBBB', width, height, 1, 0, 0, 0, 0)
    parts = ((b'IHDR', header), (b'IDAT', zlib.compress(bytes(100))), (b'IEND', b''))
    chunks = (
        struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body)) for kind, body in parts
    )
    return b'\x89PNG\r\n\x1a\n' + b''.join(chunks)


def bombs() -> dict[str, bytes]:
    """A few bytes in each format that announce 32000 x 32000 pixels."""
    small = np.zeros((16, 16), np.uint8)
    made = {ending: cv2.imencode(f'.{ending}', small)[1].tobytes() for ending in ('jpg', 'bmp', 'tif')}
    start = made['jpg'].index(b'\xff\xc0') + 5
    files = {'png': png_of(32000, 32000)}
    files['jpg'] = made['jpg'][:start] + struct.pack('>HH', 32000, 32000) + made['jpg'][start + 4 :]
    files['bmp'] = made['bmp'][:18] + struct.pack('<ii', 32000, -32000) + made['bmp'][26:]
    buffer = io.BytesIO()
    Image.fromarray(small).save(buffer, 'TIFF')
    tags = b''.join(struct.pack('<HHII', tag, 4, 1, 32000) for tag in (0x100, 0x101))
    files['tif'] = b'II*\0\x08\0\0\0' + struct.pack('<H', 2) + tags + bytes(4)
    tiles = b''.join(
        struct.pack('<HHII', tag, 4, 1, side)
        for tag, side in ((0x100, 16), (0x101, 16), (0x142, 1 << 20), (0x143, 1 << 20))
    )
    files['tiles.tif'] = b'II*\0\x08\0\0\0' + struct.pack('<H', 4) + tiles + bytes(4)
    side = (31999).to_bytes(3, 'little')
    for name, body in (
        ('webp', b'VP8X' + struct.pack('<I', 10) + bytes(4) + side + side),
        ('lossless.webp', b'VP8L' + struct.pack('<IBI', 10, 0x2F, (16382 << 14) | 16382) + bytes(5)),
        ('lossy.webp', b'VP8 ' + struct.pack('<I', 10) + b'\x10\0\0\x9d\x01\x2a' + struct.pack('<HH', 16383, 16383)),
    ):
        files[name] = b'RIFF' + struct.pack('<I', len(body) + 4) + b'WEBP' + body
    return files


@pytest.mark.parametrize('name', bombs())
def test_too_many_pixels_are_refused_by_the_header(tmp_path, name):
    path = tmp_path / f'bomb.{name}'
    path.write_bytes(bombs()[name])
    with pytest.raises(DatasetError, match=r'bomb\..*: it announces'):
        read_grey(path)


@pytest.mark.parametrize('ending', ['png', 'bmp', 'jpg', 'webp', 'tif'])
def test_sizes_are_those_that_are_decoded(tmp_path, ending):
    for height, width in ((1, 1), (1, 300), (257, 3), (40, 41)):
        path = tmp_path / f'{height}.{ending}'
        cv2.imwrite(str(path), np.full((height, width), 9, np.uint8))
        assert image_size(path) == read_grey(path).shape == (height, width)


@pytest.mark.skipif(not Path('/proc/self/status').exists(), reason='Only Linux says how much a process had.')
def test_a_chunk_that_announces_more_than_the_file_takes_no_memory(tmp_path):
    data = png_of(8, 8)
    at = data.index(b'IDAT') - 4
    path = tmp_path / 'frame.png'
    path.write_bytes(data[:at] + b'\xff\xff\xff\xf0' + data[at + 4 :])
    command = (
        'import sys, pathlib; from vasomim.frames.images import *\n'
        'try: read_grey(sys.argv[1])\n'
        "except DatasetError: print(pathlib.Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    said = subprocess.run([sys.executable, '-c', command, str(path)], capture_output=True, text=True, check=True).stdout
    assert int(said) < 1 << 20  # Kilobytes at most; OpenCV alone would take four gigabytes.


def test_what_follows_a_picture_is_no_part_of_it(tmp_path, stored):
    save(tmp_path / 'frame.png', stored, 1)
    extra = b'\0\0\0\x1aeXIfMM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0' + bytes(9)
    (tmp_path / 'frame.png').write_bytes((tmp_path / 'frame.png').read_bytes() + extra)
    np.testing.assert_array_equal(read_grey(tmp_path / 'frame.png'), stored)


def test_a_file_larger_than_any_frame_is_not_read(tmp_path):
    path = tmp_path / 'frame.png'
    path.write_bytes(png_of(8, 8))
    os.truncate(path, 1 << 40)  # A hole that takes no room on the disk.
    with pytest.raises(DatasetError, match='1,099,511,627,776 bytes'):
        read_grey(path)


@pytest.mark.timeout(20)
def test_pipes_and_devices_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / 'pipe.png')
    (tmp_path / 'zero.png').symlink_to('/dev/zero')
    for name in ('pipe.png', 'zero.png'):
        with pytest.raises(DatasetError, match=f'{name}: it is no regular file'):
            read_grey(tmp_path / name)
        assert image_size(tmp_path / name) is None


@pytest.mark.parametrize(
    ('content', 'format'),
    [
        (b'GIF89a' + bytes(40), 'GIF'),
        (b'\0\0\0\x0cjP  \r\n\x87\n' + bytes(40), 'JPEG 2000'),
        (b'\0\0\0\x20ftypheic' + bytes(40), 'HEIF'),
        (bytes(128) + b'DICM' + bytes(40), 'DICOM'),
        (b'P6\n4 4\n255\n' + bytes(48), 'PNM'),
        (b'P5\n4 4\n15\n' + bytes(16), 'PNM'),
        (b'P5\n4 4\n65535\n' + bytes(32), 'PNM'),
    ],
)
def test_other_formats_are_named_whatever_the_file_is_called(tmp_path, content, format):
    path = tmp_path / 'frame.png'
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=rf'frame\.png: this is a {format} file'):
        read_grey(path)


def test_pgm_of_8_bits_is_read_whatever_stands_in_its_header(tmp_path):
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    path = tmp_path / 'frame.pgm'
    for header in (b'P5\n3 2\n255\n', b'P5\n# by a tool\n3 2\n255\n', b'P5 3\n# 9 9\n2 255 '):
        path.write_bytes(header + pixels.tobytes())
        assert np.array_equal(read_grey(path), pixels) and image_size(path) == (2, 3)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(DatasetError, match=r'frame\.pgm.*cut short'):
        read_grey(path)
    path.write_bytes(whole + whole)
    with pytest.raises(DatasetError, match='2 pictures'):
        read_grey(path)
    path.write_bytes(b'P5\n999999 999999\n255\n')
    with pytest.raises(DatasetError, match='999999 x 999999'):
        read_grey(path)


def test_damaged_headers_end_in_our_own_error(tmp_path):
    """Files of every format with changed, lost and added bytes, most of them in the header."""
    rng = np.random.default_rng(0)
    pixels = cv2.GaussianBlur(rng.normal(128, 60, (60, 84)), None, 1.5).clip(0, 255).astype(np.uint8)
    image, exif = Image.fromarray(pixels), Image.Exif()
    exif[0x112] = 6
    seeds = [cv2.imencode(f'.{ending}', pixels)[1].tobytes() for ending in ('png', 'jpg', 'bmp', 'tif', 'webp', 'pgm')]
    for format, options in (
        ('PNG', {'exif': exif}),
        ('JPEG', {'exif': exif, 'progressive': True}),
        ('JPEG', {'restart_marker_blocks': 5, 'optimize': True}),
        ('WEBP', {'exif': exif}),
        ('TIFF', {'tiffinfo': {0x112: 7}}),
        ('TIFF', {'big_tiff': True}),
        *((format, {'save_all': True, 'append_images': [image]}) for format in ('PNG', 'WEBP', 'MPO', 'TIFF')),
    ):
        buffer = io.BytesIO()
        image.save(buffer, format, **options)
        seeds.append(buffer.getvalue())
    path, read = tmp_path / 'frame.png', 0
    for number in range(1500):
        data = bytearray(seeds[number % len(seeds)])
        for _ in range(rng.integers(1, 6)):
            at = int(rng.integers(len(data) if rng.random() < 0.3 else min(len(data), 300)))
            change = rng.integers(4)
            if change == 0:
                data[at : at + 1] = rng.bytes(1)
            elif change == 1:
                data[at : at + 4] = b'\xff' * 4 if rng.random() < 0.5 else bytes(4)
            elif change == 2:
                del data[at : at + int(rng.integers(1, 40))]
            else:
                data[at:at] = rng.bytes(int(rng.integers(1, 20)))
        path.write_bytes(data or b'x')
        try:
            assert read_grey(path, thorough=bool(number % 2)).size <= MOST_PIXELS
            read += 1
        except DatasetError:
            pass
    assert 0 < read < 1500


def test_directories_far_away_and_in_circles_end(tmp_path):
    path = tmp_path / 'frame.tif'
    for content in (
        b'II+\0\x08\0\0\0' + b'\xff' * 8,
        b'II*\0\xff\xff\xff\xff',
        b'II*\0\x08\0\0\0' + struct.pack('<HI', 0, 8),
        b'II*\0\x08\0\0\0' + struct.pack('<HHHII', 0xFFFF, 0x100, 4, 1, 5) + bytes(20),
    ):
        path.write_bytes(content)
        with pytest.raises(DatasetError):
            read_grey(path)
