"""``vasomim prepare pretrain`` and ``check``: each source from a tree in its published layout, damaged files in it."""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydicom.uid import BasicTextSRStorage, MediaStorageDirectoryStorage, SegmentationStorage

from tests.dicoms import PATIENT, strip_preamble, write_dicom
from tests.prepare.trees import write_arcade, write_png
from vasomim.anatomy import extract_anatomy
from vasomim.apis.configs import config_path
from vasomim.cli import main, train
from vasomim.data.datasets import XA170K
from vasomim.frames.images import read_grey, read_mask
from vasomim.frames.layout import merged_sources, series_key

SIZE = 48


def frame(seed: int, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size), dtype=np.uint8)


def prepare(*words: object) -> int:
    return main('prepare', ['pretrain', *map(str, words), '--jobs', '1'])


def rows_of(root: Path, name: str) -> list[dict[str, str]]:
    with (root / f'{name}.csv').open(newline='') as file:
        return list(csv.DictReader(file))


def report_of(root: Path, name: str) -> dict:
    return json.loads((root / f'{name}.json').read_text())


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob('*') if path.is_file()}


def check_pool(root: Path, name: str, expected: dict[str, np.ndarray]) -> None:
    """The frames, their maps by the extractor itself, and the manifest are what is expected, and nothing else."""
    assert {path.name for path in (root / name).iterdir()} == set(expected)
    maps = root / f'{name}_frangi'
    assert {path.name for path in maps.iterdir()} == {*expected, 'extract_settings.json'}
    for file, pixels in expected.items():
        assert np.array_equal(cv2.imread(str(root / name / file), cv2.IMREAD_UNCHANGED), pixels), file
    file = min(expected)
    assert np.array_equal(read_mask(maps / file), extract_anatomy(expected[file]))
    rows = rows_of(root, name)
    assert [row['file'] for row in rows] == sorted(expected, key=series_key)
    for row in rows:
        assert row['sha256'] == hashlib.sha256((root / name / row['file']).read_bytes()).hexdigest()


def write_cadica(root: Path) -> dict[str, np.ndarray]:
    expected = {}
    for patient in (1, 2, 10):
        for video in (1, 2):
            for k in range(2):
                name = f'p{patient}_v{video}_{k:05d}.png'
                expected[name] = frame(100 * patient + 10 * video + k)
                folder = root / 'selectedVideos' / f'p{patient}' / f'v{video}'
                write_png(folder / 'input' / name, expected[name])
                (folder / 'groundtruth').mkdir(exist_ok=True)
                (folder / 'groundtruth' / name.replace('.png', '.txt')).write_text('1 2 3 4 p50_70')
            (folder / f'p{patient}_v{video}_selectedFrames.txt').write_text('0\n')
    write_png(root / 'nonselectedVideos' / 'p1' / 'v9' / 'input' / 'p1_v9_00000.png', frame(999))
    return expected


def test_cadica_with_damaged_frames(tmp_path, capsys):
    expected = write_cadica(tmp_path / 'cadica' / 'CADICA')
    inputs = tmp_path / 'cadica' / 'CADICA' / 'selectedVideos' / 'p2' / 'v1' / 'input'
    whole = (inputs / 'p2_v1_00001.png').read_bytes()
    (inputs / 'p2_v1_00001.png').write_bytes(whole[: len(whole) // 2])
    (inputs / 'p2_v1_00000.png').write_bytes(b'')
    write_png(inputs / 'p2_v1_00002.png', np.where(frame(3) > 99, 255, 0).astype(np.uint8))
    bad = {'p2_v1_00000.png', 'p2_v1_00001.png', 'p2_v1_00002.png'}
    expected = {name: pixels for name, pixels in expected.items() if name not in bad}
    assert prepare('cadica', tmp_path / 'cadica', tmp_path / 'out', '--held-out', '0.3') == 1
    check_pool(tmp_path / 'out', 'cadica', expected)
    damaged = report_of(tmp_path / 'out', 'cadica')['damaged']
    assert {place.rpartition('/')[2] for place, _ in damaged} == bad
    printed = capsys.readouterr().out
    command = printed.partition('To train on it: vasomim train ')[2].splitlines()[0].split()
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    given = parser.parse_args(command)
    assert config_path(given.config).is_file() and merged_sources(Path(given.data)) == ['cadica']
    assert '10 frames (published: 6594); 3 patients (published: 42); 10 kept' in printed
    assert '3 damaged, and left out' in printed and 'a mask or a blank' in printed

    lists = {
        subset: (tmp_path / 'out' / 'splits' / f'{subset}.txt').read_text().split() for subset in ('train', 'held_out')
    }
    assert sorted(lists['train'] + lists['held_out']) == sorted(f'cadica/{name}' for name in expected)
    sides = [{name.partition('_')[0] for name in names} for names in lists.values()]
    assert all(sides) and not sides[0] & sides[1]
    split = tmp_path / 'out' / 'splits' / 'held_out.txt'
    assert len(XA170K(data_root=tmp_path / 'out', split=split)) == len(lists['held_out'])


def test_cadica_s_other_videos_and_a_zip_file(tmp_path, capsys):
    expected = write_cadica(tmp_path / 'cadica')
    archive = tmp_path / 'cadica.zip'
    with zipfile.ZipFile(archive, 'w') as packed:
        for path in (tmp_path / 'cadica').rglob('*'):
            packed.write(path, path.relative_to(tmp_path))
    assert prepare('cadica', archive, tmp_path / 'out', '--all-videos') == 0
    check_pool(tmp_path / 'out', 'cadica', expected | {'p1_v9_00000.png': frame(999)})
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == [
        *('.cadica.journal', 'cadica', 'cadica.csv', 'cadica.json', 'cadica_frangi'),
    ]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / 'out').rglob('*')}
    assert prepare('cadica', archive, tmp_path / 'out', '--all-videos') == 0
    assert 'prepared from cadica.zip already' in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / 'out').rglob('*')} == before


def test_folders_of_images_keep_series_together_and_names_apart(tmp_path):
    source = tmp_path / 'syntax'
    places = ('p 1/a/1.png', 'p 1/a/2.png', 'p 1/a_1.png', 'p2/1.jpg', 'p2/masks/1.png', 'masks/1.png')
    for k, place in enumerate(places):
        write_png(source / place, np.full((SIZE, SIZE), 20, np.uint8) + 40 * (k % 3) + frame(k) // 9)
    assert prepare('syntax', source, tmp_path / 'out', '--leave-out', '*/masks/*') == 0
    rows = rows_of(tmp_path / 'out', 'syntax')
    origins = {row['origin']: row for row in rows}
    assert set(origins) == {'p 1/a/1.png', 'p 1/a/2.png', 'p 1/a_1.png', 'p2/1.jpg'}
    assert origins['p 1/a/2.png']['file'] == 'p_1_a_2.png'
    twins = {origins['p 1/a/1.png']['file'], origins['p 1/a_1.png']['file']}  # Both would be p_1_a_1.png.
    assert len(twins) == 2 and all(name.endswith('_p_1_a_1.png') for name in twins)
    assert {row['patient'] for row in rows} == {'p 1/a', 'p 1', 'p2'}
    for origin, row in origins.items():
        assert np.array_equal(read_grey(tmp_path / 'out' / 'syntax' / row['file']), read_grey(source / origin))
    assert prepare('xcad', source, tmp_path / 'b', '--leave-out', '*/masks/*', '--group', r'^p ?(\d)') == 0
    assert [row['patient'] for row in rows_of(tmp_path / 'b', 'xcad')].count('1') == 3


DAMAGE = {
    'empty.png': lambda whole: b'',
    'text.png': lambda whole: b'404 not found',
    'cut.png': lambda whole: whole[: len(whole) // 2],
    'flipped.png': lambda whole: whole[:60] + bytes([whole[60] ^ 0xFF]) + whole[61:],
}


@pytest.mark.parametrize(
    ('kind', 'folders'),
    [
        ('syntax', ('Patient 1', 'Patient 2/LCA')),
        ('xcad', ('train/images', 'test/images')),
        ('folder', ('', 'deep/er')),
        ('arcade', ('syntax/train/images', 'stenosis/val/images')),
    ],
)
def test_images_with_damaged_files_among_them(tmp_path, capsys, kind, folders):
    source, expected = tmp_path / 'source', []
    for k, folder in enumerate(folders):
        for name in ('1.png', '2.png'):
            write_png(source / folder / name, frame(10 * k + int(name[0])))
            expected.append(frame(10 * k + int(name[0])))
    whole = (source / folders[0] / '1.png').read_bytes()
    for name, harm in DAMAGE.items():
        (source / folders[1] / name).write_bytes(harm(whole))
    write_png(source / folders[1] / 'mask.png', np.where(frame(1) > 128, 255, 0).astype(np.uint8))
    assert prepare(kind, source, tmp_path / 'out', *(('--name', 'folder') if kind == 'folder' else ())) == 1
    out = tmp_path / 'out'
    written = [read_grey(path) for path in (out / kind).iterdir()]
    assert len(written) == len(expected)
    assert all(any(np.array_equal(pixels, other) for other in written) for pixels in expected)
    assert {path.name for path in (out / f'{kind}_frangi').glob('*.png')} == {p.name for p in (out / kind).iterdir()}
    damaged = {Path(place).name for place, _ in report_of(out, kind)['damaged']}
    assert damaged == {*DAMAGE, 'mask.png'}
    printed = capsys.readouterr()
    assert all(name in printed.out + printed.err for name in damaged)


def write_study(path: Path, frames: np.ndarray, compressed: bool = True, **others: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save = np.savez_compressed if compressed else np.savez
    save(path, seriesid=np.array('s'), studyid=np.array('t'), primary_angle=3.5, **{'pixel_array': frames} | others)


def test_coronarydominance_with_damaged_studies(tmp_path, capsys):
    source = tmp_path / 'source'
    cines = {name: np.stack([frame(10 * k + i) for i in range(3)]) for k, name in enumerate(('rca', 'lca', 'nan'))}
    write_study(source / 'Left_Dominance' / 's1' / 'RCA' / 'a.npz', cines['rca'].astype(np.float64))
    write_study(source / 'Right_Dominance' / 's1' / 'LCA' / 'a.npz', cines['lca'] + np.float32(0.25), compressed=False)
    spoiled = cines['nan'].astype(np.float32)
    spoiled[1, 5, 5] = np.nan
    write_study(source / 'Right_Dominance' / 's2' / 'LCA' / 'nan.npz', spoiled)
    write_study(source / 'Right_Dominance' / 's2' / 'LCA' / 'deep.npz', np.full((1, 8, 8), 900.0))
    np.savez(source / 'Right_Dominance' / 's2' / 'LCA' / 'other.npz', pixels=np.zeros(3))
    cut = source / 'Left_Dominance' / 's1' / 'RCA' / 'cut.npz'
    cut.write_bytes((source / 'Left_Dominance' / 's1' / 'RCA' / 'a.npz').read_bytes()[:900])
    flipped = source / 'Left_Dominance' / 's1' / 'RCA' / 'flip.npz'
    data = bytearray((source / 'Right_Dominance' / 's1' / 'LCA' / 'a.npz').read_bytes())
    data[len(data) // 2] ^= 0xFF  # Found by the archive's checksum, at its end.
    flipped.write_bytes(data)
    assert prepare('coronarydominance', source, tmp_path / 'out') == 1
    expected = {f'left_s1_RCA_a_{k:05d}.png': pixels for k, pixels in enumerate(cines['rca'])}
    expected |= {f'right_s1_LCA_a_{k:05d}.png': pixels for k, pixels in enumerate(cines['lca'])}
    expected |= {f'right_s2_LCA_nan_{k:05d}.png': cines['nan'][k] for k in (0, 2)}
    written = files(tmp_path / 'out' / 'coronarydominance')
    assert {name for name in written if '_flip_' not in name} == set(expected)
    for name, pixels in expected.items():
        assert np.array_equal(read_grey(tmp_path / 'out' / 'coronarydominance' / name), pixels)
    damaged = report_of(tmp_path / 'out', 'coronarydominance')['damaged']
    assert sorted(place.rpartition('/')[2] for place, _ in damaged) == [
        *('cut.npz', 'deep.npz', 'flip.npz', 'nan.npz', 'other.npz'),
    ]
    assert {row['patient'] for row in rows_of(tmp_path / 'out', 'coronarydominance')} == {
        *('left_s1', 'right_s1', 'right_s2'),
    }
    assert '3 studies (published: 1574)' in capsys.readouterr().out


def test_7z_archives_name_the_line_that_unpacks_them(tmp_path, capsys):
    archive = tmp_path / 'source' / 'Left.7z'
    archive.parent.mkdir()
    archive.write_bytes(b"7z\xbc\xaf'\x1c")
    for source in (archive, archive.parent):
        assert prepare('coronarydominance', source, tmp_path / 'out') == 2
        assert '`7z x Left.7z -oFOLDER`' in capsys.readouterr().err


def test_arcade_published_and_prepared_give_the_same_frames(tmp_path):
    arcade = write_arcade(tmp_path / 'arcade')
    assert main('prepare', ['downstream', 'arcade', str(arcade), str(tmp_path / 'sets')]) == 0
    assert prepare('arcade', arcade, tmp_path / 'a') == 0
    assert prepare('arcade', tmp_path / 'sets', tmp_path / 'b') == 0
    assert files(tmp_path / 'a' / 'arcade') == files(tmp_path / 'b' / 'arcade')
    names = {path.stem for path in (tmp_path / 'a' / 'arcade').iterdir()}
    assert names == {
        f'{task}_{split}_{k}' for task in ('syntax', 'stenosis') for split in ('train', 'val') for k in (1, 2)
    }


def test_dicom_files_lose_names_and_patients(tmp_path):
    source, stored = tmp_path / 'dicom', np.stack([frame(k) for k in range(4)])
    write_dicom(source / 'Doe' / 'IM1', stored, StudyInstanceUID='1.2.3')
    write_dicom(source / 'Doe' / 'IM2', 255 - stored[:1], rle=True, PhotometricInterpretation='MONOCHROME1')
    write_dicom(source / 'Roe' / 'IM1.dcm', stored[2:3], PatientID='MRN-9', PatientName='Roe^Jim')
    cut = write_dicom(source / 'Roe' / 'IM2.dcm', stored, PatientID='MRN-9')
    cut.write_bytes(cut.read_bytes()[: -SIZE * SIZE - 10])  # Two of the four frames are whole.
    (source / 'DICOMDIR.txt').write_text('no DICOM')
    assert prepare('dicom', source, tmp_path / 'out', '--name', 'ours') == 1
    expected = {f'p00001_c00001_{k:05d}.png': stored[k] for k in range(4)} | {'p00001_c00002_00000.png': stored[0]}
    expected |= {'p00002_c00001_00000.png': stored[2]}
    expected |= {f'p00002_c00002_{k:05d}.png': stored[k] for k in range(2)}
    check_pool(tmp_path / 'out', 'ours', expected)
    report = report_of(tmp_path / 'out', 'ours')
    assert [place for place, _ in report.pop('damaged')] == ['Roe/IM2.dcm']
    assert report['patients'] == 2
    secrets = [*PATIENT.values(), 'Doe', 'Roe', 'MRN', '1.2.3']
    (tmp_path / 'out' / '.ours.journal').unlink()  # It names the damaged file, as the report does.
    (tmp_path / 'out' / 'ours.json').write_text(json.dumps(report))
    content = b'\n'.join([*files(tmp_path / 'out').values(), *map(str.encode, files(tmp_path / 'out'))])
    assert not any(secret.encode() in content for secret in secrets)


def test_objects_without_an_image_are_no_damage(tmp_path, capsys):
    source = tmp_path / 'medium'
    write_dicom(source / 'IM1', frame(1)[None])
    for name, kind in (('DICOMDIR', MediaStorageDirectoryStorage), ('SR1', BasicTextSRStorage)):
        write_dicom(source / name, None, SOPClassUID=kind)
    assert prepare('dicom', source, tmp_path / 'out', '--name', 'x') == 0
    check_pool(tmp_path / 'out', 'x', {'p00001_c00001_00000.png': frame(1)})
    report = report_of(tmp_path / 'out', 'x')
    assert report['damaged'] == [] and report['not_images'] == ['SR1']
    printed = capsys.readouterr().out
    assert '1 DICOM file is no image, and left out: SR1' in printed and 'DICOMDIR' not in printed
    write_dicom(source / 'ZCUT', None, PatientID='MRN-1')  # An angiogram by its class, whose pixels are gone.
    assert prepare('dicom', source, tmp_path / 'out', '--name', 'x') == 1
    assert [place for place, _ in report_of(tmp_path / 'out', 'x')['damaged']] == ['ZCUT']
    (source / 'IM1').unlink()
    (source / 'ZCUT').unlink()
    assert prepare('dicom', source, tmp_path / 'none', '--name', 'x') == 2
    assert '1 DICOM files, none of which is an image.' in capsys.readouterr().err


def test_dicom_files_that_are_damaged_or_have_no_preamble_do_not_vanish(tmp_path, capsys):
    source, stored = tmp_path / 'medium', np.stack([frame(k) for k in range(3)])
    write_dicom(source / 'IM1', stored[:1])
    strip_preamble(write_dicom(source / 'IM2', stored, NumberOfFrames=None))  # Nor says it how many frames it has.
    (source / 'empty.dcm').write_bytes(b'')
    (source / 'short.dcm').write_bytes((source / 'IM1').read_bytes()[:100])
    write_dicom(source / 'seg', stored, SOPClassUID=SegmentationStorage)
    assert prepare('dicom', source, tmp_path / 'out', '--name', 'x') == 1
    expected = {'p00001_c00001_00000.png': stored[0]} | {f'p00001_c00002_{k:05d}.png': stored[k] for k in range(3)}
    check_pool(tmp_path / 'out', 'x', expected)
    report = report_of(tmp_path / 'out', 'x')
    assert [place for place, _ in report['damaged']] == ['empty.dcm', 'short.dcm'] and report['not_images'] == ['seg']
    printed = capsys.readouterr().out
    assert all(name in printed for name in ('empty.dcm', 'short.dcm', 'left out: seg'))


def test_a_file_that_could_not_be_read_is_tried_again(tmp_path):
    """As after the installation of its decoder: nothing of the file changes but whether it can be read."""
    source = tmp_path / 'medium'
    write_dicom(source / 'IM1', frame(1)[None])
    path = write_dicom(source / 'IM2', frame(2)[None])
    sound = path.read_bytes()
    assert sound.count(b'MONOCHROME2') == 1
    path.write_bytes(sound.replace(b'MONOCHROME2', b'MONOCHROMEX'))
    assert prepare('dicom', source, tmp_path / 'out', '--name', 'x') == 1
    path.write_bytes(sound)
    assert prepare('dicom', source, tmp_path / 'out', '--name', 'x') == 0
    check_pool(tmp_path / 'out', 'x', {f'p00001_c0000{k}_00000.png': frame(k) for k in (1, 2)})


def test_an_archive_is_not_prepared_already_when_the_test_frames_to_leave_out_are_others(tmp_path, capsys):
    pairs = tmp_path / 'pairs'
    for k in range(10):
        write_png(pairs / 'images' / f'p{k}_1.png', smooth(k))
        write_png(pairs / 'masks' / f'p{k}_1.png', np.where(smooth(k) > 99, 255, 0).astype(np.uint8))
    archive = tmp_path / 'own.zip'
    with zipfile.ZipFile(archive, 'w') as packed:
        for path in (pairs / 'images').iterdir():
            packed.write(path, path.name)

    def again(seed: int) -> int:
        shutil.rmtree(tmp_path / 'set', ignore_errors=True)
        assert main('prepare', ['downstream', 'folder', str(pairs), str(tmp_path / 'set'), '--seed', str(seed)]) == 0
        return prepare('folder', archive, tmp_path / 'out', '--name', 'own', '--without', tmp_path / 'set')

    assert again(0) == 0
    capsys.readouterr()
    assert again(0) == 0 and 'already' in capsys.readouterr().out
    assert again(1) == 2
    assert 'with other options' in capsys.readouterr().err


def smooth(seed: int) -> np.ndarray:
    """A frame whose small copy is far from that of another seed, and near to that of itself with noise."""
    return cv2.resize(np.random.default_rng(seed).integers(0, 256, (6, 6), dtype=np.uint8), (96, 96))


def noisy(pixels: np.ndarray, seed: int) -> np.ndarray:
    return np.clip(pixels + np.random.default_rng(seed).normal(0, 3, pixels.shape), 0, 255).astype(np.uint8)


def test_near_duplicates_and_frames_like_a_test_frame_stay_out(tmp_path, capsys):
    pairs = tmp_path / 'pairs'
    for split, seed in (('train', 70), ('val', 71), ('test', 72)):
        write_png(pairs / 'images' / f'{split}_1.png', smooth(seed))
        write_png(pairs / 'masks' / f'{split}_1.png', np.where(smooth(seed) > 99, 255, 0).astype(np.uint8))
        (pairs / f'{split}.txt').write_text(f'{split}_1\n')
    assert main('prepare', ['downstream', 'folder', str(pairs), str(tmp_path / 'set')]) == 0
    source = tmp_path / 'source'
    cine = {  # Series a: 0, 1 alike; 2 other; 3 like 0 again, but not like its neighbour; 4 the test frame.
        'a_00000': smooth(1),
        'a_00001': noisy(smooth(1), 1),
        'a_00002': smooth(2),
        'a_00003': noisy(smooth(1), 2),
        'a_00004': noisy(smooth(72), 3),
        'a_00005': smooth(70),  # A training frame may stay.
        'b_00000': smooth(70),  # Another series.
    }
    for name, pixels in cine.items():
        write_png(source / f'{name}.png', pixels)
    options = ('--name', 'own', '--drop-similar', '--without', tmp_path / 'set')
    assert prepare('folder', source, tmp_path / 'out', *options) == 0
    kept = {path.stem for path in (tmp_path / 'out' / 'own').iterdir()}
    copies = {name: cv2.resize(pixels, (64, 64), interpolation=cv2.INTER_AREA).ravel() for name, pixels in cine.items()}
    assert (
        np.corrcoef(copies['a_00000'], copies['a_00001'])[0, 1]
        > 0.97
        > np.corrcoef(copies['a_00000'], copies['a_00002'])[0, 1]
    )
    assert kept == {'a_00000', 'a_00002', 'a_00003', 'a_00005', 'b_00000'}
    report = report_of(tmp_path / 'out', 'own')
    assert report['left_out_as_similar'] == 1
    assert report['left_out_like_a_test_frame'] == ['a_00004.png']
    assert report['frames'] == 7
    assert main('check', [str(tmp_path / 'set'), '--against', str(tmp_path / 'out')]) == 0
    capsys.readouterr()
    assert prepare('folder', source, tmp_path / 'out', '--name', 'own') == 2
    assert 'with other options' in capsys.readouterr().err


def test_in_arcade_every_kept_frame_is_compared(tmp_path):
    root = tmp_path / 'arcade'
    for task in ('syntax', 'stenosis'):
        for split, seed in (('train', 1), ('val', 2)):
            write_png(root / task / split / 'images' / '1.png', smooth(seed))
            write_png(root / task / split / 'images' / '2.png', smooth(seed + 10 + 20 * (task == 'syntax')))
    assert prepare('arcade', root, tmp_path / 'out', '--drop-similar') == 0
    assert {path.stem for path in (tmp_path / 'out' / 'arcade').iterdir()} == {
        *('syntax_train_1', 'syntax_train_2', 'syntax_val_1', 'syntax_val_2', 'stenosis_train_2', 'stenosis_val_2'),
    }


@pytest.mark.slow
def test_a_run_killed_in_the_middle_continues_to_the_same_bytes(tmp_path):
    source = tmp_path / 'source'
    for cine in range(24):
        write_study(
            source / 'Left_Dominance' / f's{cine:02d}' / 'RCA' / 'a.npz', np.stack([frame(cine, 160)] * 4) * 1.0
        )
    assert prepare('coronarydominance', source, tmp_path / 'whole') == 0
    out = tmp_path / 'out'
    words = ['-m', 'vasomim', 'prepare', 'pretrain', 'coronarydominance', str(source), str(out), '--jobs', '2']
    for folder, least in (('coronarydominance', 5), ('coronarydominance_frangi', 5)):  # Once in either phase.
        process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while len(list((out / folder).glob('*.png'))) < least and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (out / 'coronarydominance.csv').exists()
        time.sleep(0.5)  # Its workers notice.
    (out / 'coronarydominance' / 'left_s00_RCA_a_00000.png.part').write_bytes(b'half')
    with (out / '.coronarydominance.journal').open('a') as journal:
        journal.write('[23, [[1, 2')  # A line cut by the kill.
    there = {path: path.stat().st_mtime_ns for path in (out / 'coronarydominance').glob('*.png')}
    assert prepare('coronarydominance', source, out) == 0
    assert sum(path.stat().st_mtime_ns == was for path, was in there.items()) >= len(there) - 8  # Two jobs' at most.
    a, b = files(tmp_path / 'whole'), files(out)
    journals = [sorted(content.pop('.coronarydominance.journal').splitlines()) for content in (a, b)]
    assert journals[0] == journals[1]  # In the order in which jobs were done.
    assert a == b


def test_a_file_that_was_replaced_is_read_again_and_one_that_is_gone_leaves(tmp_path):
    source, out = tmp_path / 'source', tmp_path / 'out'
    for study in range(4):
        write_study(source / 'Left_Dominance' / f's{study}' / 'RCA' / 'a.npz', np.stack([frame(study)] * 2) * 1.0)
    cut = source / 'Left_Dominance' / 's1' / 'RCA' / 'a.npz'
    whole = cut.read_bytes()
    cut.write_bytes(whole[:500])
    assert prepare('coronarydominance', source, out) == 1
    other = source / 'Left_Dominance' / 's2' / 'RCA' / 'a.npz'
    write_study(other, np.stack([frame(50)] * 3) * 1.0)
    cut.write_bytes(whole)
    (source / 'Left_Dominance' / 's3' / 'RCA' / 'a.npz').unlink()
    untouched = out / 'coronarydominance' / 'left_s0_RCA_a_00001.png'
    was = untouched.stat().st_mtime_ns
    assert prepare('coronarydominance', source, out) == 0
    expected = {f'left_s{study}_RCA_a_{k:05d}.png': frame(study) for study in (0, 1) for k in range(2)}
    expected |= {f'left_s2_RCA_a_{k:05d}.png': frame(50) for k in range(3)}
    check_pool(out, 'coronarydominance', expected)
    assert untouched.stat().st_mtime_ns == was
    anatomy = read_mask(out / 'coronarydominance_frangi' / 'left_s2_RCA_a_00000.png')
    assert np.array_equal(anatomy, extract_anatomy(frame(50)))


def test_an_archive_with_a_damaged_file_is_unpacked_again_and_nothing_else(tmp_path):
    write_cadica(tmp_path / 'cadica')
    (tmp_path / 'cadica/selectedVideos/p1/v1/input/p1_v1_00000.png').write_bytes(b'no image')
    archive = tmp_path / 'cadica.zip'
    with zipfile.ZipFile(archive, 'w') as packed:
        for path in (tmp_path / 'cadica').rglob('*'):
            packed.write(path, path.relative_to(tmp_path))
    assert prepare('cadica', archive, tmp_path / 'out') == 1
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / 'out').rglob('*.png')}
    assert prepare('cadica', archive, tmp_path / 'out') == 1
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / 'out').rglob('*.png')} == before


def test_another_source_of_the_same_name_is_refused(tmp_path, capsys):
    for place, seed in (('a', 1), ('b', 2)):
        write_png(tmp_path / place / f'{place}_1.png', frame(seed))
    assert prepare('folder', tmp_path / 'a', tmp_path / 'out', '--name', 'x') == 0
    before = files(tmp_path / 'out')
    assert prepare('folder', tmp_path / 'b', tmp_path / 'out', '--name', 'x') == 2
    assert 'prepared from other data' in capsys.readouterr().err
    assert files(tmp_path / 'out') == before


def test_a_destination_in_its_source_is_refused(tmp_path, capsys):
    write_png(tmp_path / 'src' / 'a_1.png', frame(1))
    for destination in ('src', 'src/prep', 'src/../src/prep'):
        assert prepare('folder', tmp_path / 'src', tmp_path / destination, '--name', 'x') == 2
        assert f'DST: {tmp_path / destination} lies in SRC.' in capsys.readouterr().err
    assert prepare('folder', tmp_path / 'src', tmp_path / 'src_prep', '--name', 'x') == 0


@pytest.fixture
def pool(tmp_path) -> Path:
    write_cadica(tmp_path / 'cadica')
    assert prepare('cadica', tmp_path / 'cadica', tmp_path / 'out', '--held-out', '0.3') == 0
    return tmp_path / 'out'


def check(capsys, *words: object) -> tuple[int, str]:
    capsys.readouterr()
    status = main('check', [*map(str, words), '--jobs', '1'])
    return status, capsys.readouterr().out


def test_check_needs_a_labelled_set_to_compare_with(pool, tmp_path, capsys):
    for words in (('--against', tmp_path), ('--write-exclusions', tmp_path / 'out.json')):
        assert main('check', [str(pool), *map(str, words), '--jobs', '1']) == 2
        assert f'{words[0]}: there is no labelled set among DST to compare with.' in capsys.readouterr().err


def test_check_measures_grey_levels(pool, capsys):
    status, out = check(capsys, pool, '--deep')
    assert status == 0, out
    pixels = np.stack([read_grey(path) for path in (pool / 'cadica').iterdir()]).astype(float)
    assert f'mean {pixels.mean():.3f}, std {pixels.std():.3f}' in out
    assert f'mean {pixels.mean() / 255:.4f}, std {pixels.std() / 255:.4f}' in out
    assert 'published are 6594' in out and 'published are' not in check(capsys, pool, '--partial')[1]


FIRST = 'p1_v1_00000.png'


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (lambda root: (root / 'cadica' / FIRST).unlink(), f'frames are missing, 1: {FIRST}'),
        (lambda root: (root / 'cadica' / FIRST).write_bytes(b'\x89PNG'), f'frames cannot be read, 1: {FIRST}'),
        (lambda root: write_png(root / 'cadica' / 'new.png', frame(1)), 'does not list, 1: new.png'),
        (lambda root: (root / 'cadica_frangi' / FIRST).unlink(), f'maps are missing, 1: {FIRST}'),
        (lambda root: write_png(root / 'cadica_frangi' / FIRST, frame(1)), f'maps cannot be read, 1: {FIRST}'),
        (lambda root: write_png(root / 'cadica_frangi' / FIRST, np.full((9, 9), 255, np.uint8)), 'have another size'),
        (lambda root: (root / 'cadica.csv').unlink(), 'its preparation did not finish'),
        (lambda root: (root / 'cadica.json').unlink(), 'its preparation did not finish'),
        (lambda root: (root / 'cadica.json').write_text('{'), 'no valid JSON'),
        (lambda root: (root / 'cadica.csv').write_text('a,b\n1,2\n'), 'its columns are not'),
        (lambda root: (root / 'splits' / 'cadica_held_out.txt').write_text(f'cadica/{FIRST}\n'), 'in both lists'),
    ],
)
def test_check_finds_what_is_wrong(pool, capsys, spoil, message):
    spoil(pool)
    status, out = check(capsys, pool, '--partial')
    assert status == 1
    assert any(line.startswith('ERROR: ') and message in line for line in out.splitlines()), out


def test_only_a_deep_check_compares_contents(pool, capsys):
    write_png(pool / 'cadica' / FIRST, 255 - read_grey(pool / 'cadica' / FIRST))
    assert check(capsys, pool)[0] == 0
    status, out = check(capsys, pool, '--deep')
    assert status == 1 and f'not those of the manifest, 1: {FIRST}' in out


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (('folder', '--name', 'x_frangi'), 'cannot name a source'),
        (('folder', '--name', '../x'), 'cannot name a source'),
        (('folder', '--name', 'x', '--threshold', '2'), 'no correlation'),
        (('folder', '--name', 'x', '--held-out', '1'), 'nothing to train on'),
        (('folder', '--name', 'x', '--group', '('), 'no regular expression'),
        (('folder', '--name', 'x', '--group', 'zzz'), 'matches no part'),
        (('folder', '--name', 'x', '--leave-out', '*'), 'no frame is left'),
        (('cadica',), "not the layout of 'cadica'"),
        (('arcade',), "not the layout of 'arcade'"),
        (('coronarydominance',), "not the layout of 'coronarydominance'"),
        (('dicom', '--name', 'x'), 'no DICOM file'),
    ],
)
def test_wrong_sources_and_options_are_errors(tmp_path, capsys, words, message):
    write_png(tmp_path / 'source' / 'a_1.png', frame(1))
    kind, *options = words
    assert prepare(kind, tmp_path / 'source', tmp_path / 'out', *options) == 2
    error = capsys.readouterr().err
    assert message in error and 'Traceback' not in error


def test_a_folder_with_other_things_is_left_alone(tmp_path, capsys):
    write_png(tmp_path / 'source' / 'a_1.png', frame(1))
    write_png(tmp_path / 'out' / 'x' / 'mine.png', frame(2))
    before = files(tmp_path / 'out')
    assert prepare('folder', tmp_path / 'source', tmp_path / 'out', '--name', 'x') == 2
    assert 'is no prepared source' in capsys.readouterr().err
    assert files(tmp_path / 'out') == before


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write anywhere')
def test_a_destination_that_cannot_be_written_is_an_error(tmp_path, capsys):
    write_png(tmp_path / 'source' / 'a_1.png', frame(1))
    (tmp_path / 'out').mkdir(mode=0o500)
    assert prepare('folder', tmp_path / 'source', tmp_path / 'out', '--name', 'x') == 2
    assert 'cannot be written' in capsys.readouterr().err
