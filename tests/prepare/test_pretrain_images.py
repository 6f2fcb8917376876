"""``vasomim prepare pretrain folder`` on images as people have them: one that cannot be used costs no other."""

import json
import os

import cv2
import numpy as np
import pytest
from PIL import Image

from vasomim.cli import main
from vasomim.frames.images import read_grey


@pytest.mark.timeout(120)
def test_images_that_cannot_be_used_are_listed_and_the_others_arrive_as_they_are_shown(tmp_path, capsys):
    root = tmp_path / 'images'
    root.mkdir()
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (60, 84), dtype=np.uint8)
    cv2.imwrite(str(root / 'plain.png'), noise)
    cv2.imwrite(str(root / 'narrow.png'), noise[:1])
    exif = Image.Exif()
    exif[0x112] = 8
    Image.fromarray(noise).save(root / 'turned.png', exif=exif)
    smooth = cv2.GaussianBlur(rng.normal(128, 60, (200, 200)), None, 2).clip(0, 255).astype(np.uint8)
    jpeg = cv2.imencode('.jpg', smooth)[1].tobytes()
    (root / 'zeroed.jpg').write_bytes(jpeg[: len(jpeg) // 2] + bytes(512) + jpeg[len(jpeg) // 2 + 512 :])
    first = Image.fromarray(noise)
    others = [Image.fromarray(np.roll(noise, k)) for k in (1, 2)]
    for name in ('cine.webp', 'moving.png', 'beside.gif'):
        first.save(root / name, save_all=True, append_images=others)
    os.mkfifo(root / 'pipe.png')
    words = ['pretrain', 'folder', str(root), str(tmp_path / 'out'), '--name', 'mine', '--jobs', '1']
    assert main('prepare', words) == 1
    said = capsys.readouterr().out
    damaged = {place for place, _ in json.loads((tmp_path / 'out/mine.json').read_text())['damaged']}
    assert damaged == {'zeroed.jpg', 'cine.webp', 'moving.png', 'pipe.png'}
    assert all(name in said for name in (*damaged, 'beside.gif'))
    assert {path.name for path in (tmp_path / 'out/mine').iterdir()} == {'plain.png', 'narrow.png', 'turned.png'}
    np.testing.assert_array_equal(read_grey(tmp_path / 'out/mine/turned.png'), np.rot90(noise))
    with Image.open(tmp_path / 'out/mine/turned.png') as written:
        assert not written.getexif()  # Nobody turns it once more.
        assert written.size == (60, 84)
