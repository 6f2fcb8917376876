"""Frames, folders and DICOM cines in; masks, overlays and boxes out, with the notice and without the patient."""

from __future__ import annotations

import gc
import json
import os
import weakref
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image
from pydicom.uid import BasicTextSRStorage, MediaStorageDirectoryStorage, RTDoseStorage

from tests.dicoms import PATIENT, strip_preamble, write_dicom
from tests.finetuned import write_checkpoint
from vasomim.cli import main
from vasomim.drawing.notice import NOTICE, encode_png
from vasomim.errors import DatasetError
from vasomim.files import read_json
from vasomim.inference.predictor import Prediction, Predictor

SECRETS = [*PATIENT.values(), 'Doe', 'Jane']


@pytest.fixture(scope='module')
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp('checkpoints')
    names = {
        'segmentation': 'arcade_v/segmentation',
        'segments': 'arcade_vs/segmentation',
        'detection': 'arcade_s/detection',
    }
    return {task: write_checkpoint(root / f'{task}.pth', config) for task, config in names.items()}


@pytest.fixture(scope='module')
def source(tmp_path_factory) -> Path:
    """A tree with an image, a cine of 3 frames of 80 x 96, a cine without an ending, and a file of one frame."""
    root = tmp_path_factory.mktemp('source')
    pixels = np.random.RandomState(0).randint(0, 256, (3, 80, 96))
    cv2.imwrite(str(root / 'still.png'), pixels[0])
    write_dicom(root / 'day1' / 'run.dcm', pixels)
    write_dicom(root / 'day1' / '1.2.840.7', pixels[:2])
    write_dicom(root / 'single.DCM', pixels[1:2])
    (root / 'notes.txt').write_text('no frame')
    return root


TARGETS = [
    'day1/1.2.840.7_0000.png',
    'day1/1.2.840.7_0001.png',
    *(f'day1/run_000{index}.png' for index in range(3)),
    'single.png',
    'still.png',
]


def files(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob('*') if path.is_file())


@pytest.mark.parametrize('task', ['segmentation', 'segments', 'detection'])
def test_every_frame_of_a_tree_is_predicted_without_patient_and_with_the_notice(task, checkpoints, source, tmp_path):
    out = tmp_path / 'out'
    assert main('predict', [str(checkpoints[task]), str(source), str(out), '--score', '0', '--device', 'cpu']) == 0
    assert files(out / 'overlays') == TARGETS
    for path in (path for path in out.rglob('*') if path.is_file()):
        content = path.read_bytes()
        assert not any(secret.encode() in content for secret in SECRETS), path
        assert NOTICE.encode() in content, path
    if task == 'detection':
        images = json.loads((out / 'boxes.json').read_text())['images']
        assert len(images) == 7 and all((image['height'], image['width']) == (80, 96) for image in images)
        run = [image for image in images if image.get('source') == 'day1/run.dcm']
        assert [(image['file_name'], image['frame']) for image in run] == [
            (f'day1/run_000{index}.png', index) for index in range(3)
        ]
        assert {image['file_name'] for image in images if 'source' not in image} == {'single.DCM', 'still.png'}
        return
    assert files(out / 'masks') == TARGETS
    masks = {name: cv2.imread(str(out / 'masks' / name), cv2.IMREAD_UNCHANGED) for name in TARGETS}
    assert all(mask.shape == (80, 96) for mask in masks.values())
    # The same pixels as an image and as the first frame of a cine give the same mask.
    assert np.array_equal(masks['still.png'], masks['day1/run_0000.png'])
    assert np.array_equal(masks['single.png'], masks['day1/run_0001.png'])
    values = set(np.unique(np.stack(list(masks.values()))))
    assert values <= ({0, 255} if task == 'segmentation' else set(range(26)))
    legend = (out / 'NOTICE.txt').read_text()
    assert ('255 vessel' if task == 'segmentation' else 'masks: 25 c25.') in legend


def test_a_predictor_streams_a_cine_and_refuses_it_as_one_frame(checkpoints, source):
    predictor = Predictor(checkpoints['segmentation'], 'cpu')
    found = list(predictor.stream(source / 'day1' / 'run.dcm'))
    assert [frame.index for frame, _ in found] == [0, 1, 2]
    assert np.array_equal(found[0][1].mask, predictor(source / 'still.png').mask)
    assert predictor(source / 'single.DCM').frame.shape == (80, 96)
    with pytest.raises(DatasetError, match=r'cine of several frames.\n.*Predictor.stream'):
        predictor(source / 'day1' / 'run.dcm')


def test_files_that_cannot_be_read_are_listed_and_the_others_predicted(checkpoints, tmp_path, capsys):
    tree, out = tmp_path / 'tree', tmp_path / 'out'
    pixels = np.random.RandomState(0).randint(0, 256, (3, 64, 64))
    whole = write_dicom(tree / 'b.dcm', pixels).read_bytes()
    (tree / 'a.dcm').write_bytes(whole[:140])
    (tree / 'c.dcm').write_bytes(whole[: -64 * 64])  # Lacks its last frame.
    (tree / 'd.png').write_bytes(b'no picture')
    cv2.imwrite(str(tree / 'e.png'), pixels[0])
    arguments = [str(checkpoints['detection']), str(tree), str(out), '--device', 'cpu']
    assert main('predict', arguments) == 1
    written = files(out / 'overlays')
    assert [name for name in written if name[0] in 'be'] == ['b_0000.png', 'b_0001.png', 'b_0002.png', 'e.png']
    assert not {'a.png', 'd.png'} & set(written)
    printed = capsys.readouterr().out
    assert '3 of 5 files cannot be read, or not to their end' in printed
    assert all(f'{tree / name}: ' in printed for name in ('a.dcm', 'c.dcm', 'd.png'))
    images = json.loads((out / 'boxes.json').read_text())['images']
    assert sorted(image['file_name'] for image in images) == written
    arguments[1] = str(tree / 'd.png')
    assert main('predict', arguments) == 2
    assert 'not an image' in capsys.readouterr().err


def test_reports_on_a_medium_are_left_out_and_no_damage(checkpoints, tmp_path, capsys):
    medium, out = tmp_path / 'medium', tmp_path / 'out'
    write_dicom(medium / 'IM1', np.full((1, 64, 64), 90))
    for name, kind in (('DICOMDIR', MediaStorageDirectoryStorage), ('SR1', BasicTextSRStorage)):
        write_dicom(medium / name, None, SOPClassUID=kind)
    assert main('predict', [str(checkpoints['detection']), str(medium), str(out), '--device', 'cpu']) == 0
    assert files(out / 'overlays') == ['IM1.png']
    printed = capsys.readouterr().out
    assert '1 DICOM file is no image, and left out: SR1' in printed and 'cannot be read' not in printed
    write_dicom(medium / 'lost', None)  # An angiogram without its pixels.
    assert main('predict', [str(checkpoints['detection']), str(medium), str(out), '--device', 'cpu']) == 1
    assert '1 of 2 files cannot be read' in capsys.readouterr().out


def test_dicom_files_that_are_damaged_or_have_no_preamble_do_not_vanish(checkpoints, tmp_path, capsys):
    tree, out = tmp_path / 'tree', tmp_path / 'out'
    pixels = np.random.RandomState(0).randint(0, 256, (3, 64, 64))
    write_dicom(tree / 'IM1', pixels[:1])
    strip_preamble(write_dicom(tree / 'IM2', pixels, NumberOfFrames=1))
    (tree / 'empty.dcm').write_bytes(b'')
    (tree / 'short.dcm').write_bytes((tree / 'IM1').read_bytes()[:100])
    write_dicom(tree / 'dose', pixels, SOPClassUID=RTDoseStorage)
    assert main('predict', [str(checkpoints['detection']), str(tree), str(out), '--device', 'cpu']) == 1
    assert files(out / 'overlays') == ['IM1.png', 'IM2_0000.png', 'IM2_0001.png', 'IM2_0002.png']
    printed = capsys.readouterr().out
    assert '2 of 4 files' in printed and 'left out: dose' in printed
    assert all(f'{tree / name}: ' in printed for name in ('empty.dcm', 'short.dcm'))


def test_names_that_meet_and_folders_without_frames_are_errors(checkpoints, tmp_path, capsys):
    tree = tmp_path / 'tree'
    write_dicom(tree / 'a.dcm', np.zeros((1, 64, 64)))
    cv2.imwrite(str(tree / 'a.png'), np.zeros((64, 64), np.uint8))
    assert main('predict', [str(checkpoints['segmentation']), str(tree), str(tmp_path / 'out')]) == 2
    assert 'would both become a.png' in capsys.readouterr().err
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'empty' / 'x.txt').write_text('x')
    assert main('predict', [str(checkpoints['segmentation']), str(tmp_path / 'empty'), str(tmp_path / 'out')]) == 2
    assert 'neither images nor DICOM files among its 1 files' in capsys.readouterr().err


def test_the_notice_is_a_text_of_the_picture_and_leaves_its_pixels(tmp_path):
    pixels = np.random.RandomState(1).randint(0, 256, (7, 9, 3)).astype(np.uint8)
    (tmp_path / 'x.png').write_bytes(encode_png(pixels))
    with Image.open(tmp_path / 'x.png') as picture:
        picture.load()  # Verifies the checksums of the chunks.
        assert picture.text == {'Disclaimer': NOTICE}
        assert np.array_equal(np.asarray(picture), pixels)


@pytest.mark.parametrize('task', ['segmentation', 'detection'])
def test_no_frame_is_kept_once_it_is_predicted(task, tmp_path, monkeypatch):
    pixels, alive = [], []

    class Fake:
        classes, model = ('vessel',), SimpleNamespace(num_classes=2)

        def __init__(self, *arguments) -> None:
            self.task = task

        def __call__(self, frame: np.ndarray) -> Prediction:
            pixels.append(weakref.ref(frame))
            gc.collect()
            alive.append(sum(reference() is not None for reference in pixels))
            if task == 'segmentation':
                return Prediction(frame, mask=np.zeros_like(frame))
            return Prediction(frame, boxes=np.zeros((1, 4)), scores=np.ones(1), labels=np.ones(1, int))

    monkeypatch.setattr('vasomim.apis.predicting.Predictor', Fake)
    (tmp_path / 'frames').mkdir()
    for index in range(12):
        cv2.imwrite(str(tmp_path / 'frames' / f'{index}.png'), np.zeros((16, 16), np.uint8))
    assert main('predict', ['none.pth', str(tmp_path / 'frames'), str(tmp_path / 'out')]) == 0
    assert len(alive) == 12
    assert max(alive) <= 2  # The one at hand and the one before, which the loop still names.


def test_a_frame_too_narrow_for_the_model_is_listed_and_the_others_are_predicted(checkpoints, tmp_path, capsys):
    tree, out = tmp_path / 'tree', tmp_path / 'out'
    tree.mkdir()
    for name, shape in (('a', (64, 64)), ('b', (1, 3000)), ('c', (3000, 1)), ('d', (64, 80)), ('e', (1, 1))):
        cv2.imwrite(str(tree / f'{name}.png'), np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    assert main('predict', [str(checkpoints['detection']), str(tree), str(out), '--device', 'cpu']) == 1
    printed = capsys.readouterr().out
    assert f'{tree}/b.png: ' in printed and f'{tree}/c.png: ' in printed and f'{tree}/a.png: ' not in printed
    assert files(out / 'overlays') == ['a.png', 'd.png', 'e.png']
    images = json.loads((out / 'boxes.json').read_text())['images']
    assert [image['file_name'] for image in images] == ['a.png', 'd.png', 'e.png']
    with pytest.raises(DatasetError, match=r'b\.png: '):
        list(Predictor(checkpoints['detection'], 'cpu').stream(tree / 'b.png'))
    assert main('predict', [str(checkpoints['detection']), str(tree / 'b.png'), str(out), '--device', 'cpu']) == 2


def test_masks_lie_in_the_picture_as_it_is_shown(checkpoints, tmp_path):
    exif = Image.Exif()
    exif[0x112] = 6
    pixels = np.random.default_rng(0).integers(0, 256, (40, 96), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'turned.png', exif=exif)
    predictor = Predictor(checkpoints['segmentation'], 'cpu')
    prediction = predictor(tmp_path / 'turned.png')
    np.testing.assert_array_equal(prediction.frame, np.rot90(pixels, -1))
    np.testing.assert_array_equal(prediction.mask, predictor(np.ascontiguousarray(np.rot90(pixels, -1))).mask)


def test_pictures_of_other_kinds_and_odd_names_are_told(checkpoints, tmp_path, capsys):
    tree, out = tmp_path / 'tree', tmp_path / 'out'
    tree.mkdir()
    for name in (b'a\nb.png', b'caf\xe9.png', b'plain.png'):
        (tree / os.fsdecode(name)).write_bytes(encode_png(np.full((64, 64), 90, np.uint8)))
    (tree / 'cine.gif').write_bytes(b'GIF89a')
    (tree / 'caf\udce9.heic').write_bytes(b'0')
    assert main('predict', [str(checkpoints['detection']), str(tree), str(out), '--device', 'cpu']) == 0
    assert '2 files are pictures or cines' in (printed := capsys.readouterr().out)
    assert 'cine.gif' in printed and 'caf\\xe9.heic' in printed
    assert set(os.listdir(os.fsencode(out / 'overlays'))) == {b'a\nb.png', b'caf\xe9.png', b'plain.png'}
    boxes = read_json(out / 'boxes.json', DatasetError)
    assert sorted(image['file_name'] for image in boxes['images']) == ['a\\nb.png', 'caf\\xe9.png', 'plain.png']
