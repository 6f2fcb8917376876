"""DCA1 laid out as published: prepared, checked, trained on, tested and predicted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.models.builders import ARCH
from tests.prepare.trees import write_png
from vasomim.cli import main
from vasomim.frames.images import read_grey
from vasomim.prepare.prepared import read_description, read_split

NUMBERS = (*range(1, 9), 100, 101, 102, 134)
SIZE = 300
CONFIG = """
_base_ = 'vasomim::downstream/dca1/segmentation.py'
model = dict(backbone=dict(arch=dict(_delete_=True, **{arch})), decode_head=dict(widths=(16, 8, 8, 8, 8)))
train_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False)
val_dataloader = test_dataloader = dict(num_workers=0, persistent_workers=False)
train_cfg = dict(max_epochs=1)
"""


def prepare(*words: object) -> int:
    return main('prepare', ['downstream', 'dca1', *map(str, words)])


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """Frames of 300 x 300; in frame N a bar N + 10 pixels wide is vessel, and in frame 2 its edges are grey."""
    root = tmp_path / 'archive' / 'Database_134_Angiograms'
    for number in NUMBERS:
        mask = np.zeros((SIZE, SIZE), np.uint8)
        mask[100:120, : number + 10] = 255
        noise = np.random.default_rng(number).integers(90, 160, mask.shape)
        if number == 2:
            mask[99, :12], mask[120, :12] = 128, 127
        write_png(root / f'{number}.pgm', np.where(mask > 0, 40, noise).astype(np.uint8))
        write_png(root / f'{number}_gt.pgm', mask)
    return root


def test_it_goes_from_the_archive_to_predictions(published, tmp_path, capsys):
    out, run = tmp_path / 'dca1', tmp_path / 'run'
    assert prepare(published.parent, out) == 0
    train, val, test = (read_split(out, split) for split in ('train', 'val', 'test'))
    assert test == ['101', '102', '134'] and sorted(train + val) == sorted(map(str, (*range(1, 9), 100)))
    assert len(val) == 1
    for number in NUMBERS:
        image, mask = (read_grey(out / folder / f'{number}.png') for folder in ('images', 'masks'))
        assert np.array_equal(image, cv2.imread(str(published / f'{number}.pgm'), cv2.IMREAD_UNCHANGED))
        expected = np.zeros((SIZE, SIZE), np.uint8)
        expected[99 if number == 2 else 100 : 120, : number + 10] = 1  # 128 is vessel, 127 is not.
        assert np.array_equal(mask, expected)
    assert list(read_description(out)['repairs'].values()) == [['2_gt.pgm: 24 pixels']]

    capsys.readouterr()
    assert main('check', [str(out)]) == 1
    report = capsys.readouterr().out
    assert '9 frames in train and val; published are 100' in report and '3 frames in test; published are 34' in report
    assert main('check', [str(out), '--partial']) == 0

    config = tmp_path / 'tiny.py'
    config.write_text(CONFIG.format(arch=ARCH))
    assert main('train', [str(config), '--data', str(out), '--work-dir', str(run)]) == 0
    assert torch.load(run / 'epoch_1.pth', weights_only=False)['meta']['iter'] == 2
    assert main('test', [str(config), str(run), '--data', str(out)]) == 0
    metrics = json.loads((run / 'test' / 'metrics.json').read_text())['metrics']
    assert 0 <= metrics['DSC'] <= 1
    assert main('predict', [str(run), str(out / 'images' / '134.png'), str(tmp_path / 'predicted')]) == 0
    assert read_grey(tmp_path / 'predicted' / 'masks' / '134.png').shape == (SIZE, SIZE)


def test_what_is_not_as_published_is_named(published, tmp_path, capsys):
    def refused() -> str:
        capsys.readouterr()
        shutil.rmtree(tmp_path / 'out', ignore_errors=True)
        assert prepare(published, tmp_path / 'out') == 2
        return capsys.readouterr().err

    whole = (published / '7.pgm').read_bytes()
    (published / '7.pgm').write_bytes(whole[:-1])
    assert '7.pgm' in refused()
    (published / '7.pgm').unlink()
    assert '7_gt.pgm' in refused()
    (published / '7.pgm').write_bytes(whole)
    (published / 'readme.pgm').write_bytes(whole)
    assert 'readme.pgm' in refused()
    (published / 'readme.pgm').unlink()
    write_png(published / '8_gt.pgm', np.eye(SIZE, dtype=np.uint8))  # 0 and 1: nothing of it is above 127.
    assert '8_gt.pgm' in refused()
    write_png(published / '8_gt.pgm', np.full((SIZE, 200), 255, np.uint8))
    assert '8_gt.pgm' in refused()


def test_the_folder_command_names_the_other(published, tmp_path, capsys):
    assert main('prepare', ['downstream', 'folder', str(published), str(tmp_path / 'out')]) == 2
    assert '`dca1`' in capsys.readouterr().err


def test_simulated_frames_go_the_same_way(tmp_path):
    words = ['downstream', 'synthetic', 'dca1', str(tmp_path / 'out'), '--frames', '9', '--size', '64', '--jobs', '1']
    assert main('prepare', words) == 0
    assert read_description(tmp_path / 'out')['synthetic'] is True
    assert [len(read_split(tmp_path / 'out', split)) for split in ('train', 'val', 'test')] == [6, 1, 2]
