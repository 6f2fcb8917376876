"""``vasomim check``: what is an error, what a warning, and near-duplicates against a slow correlation."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.prepare.trees import SIZE, frame, write_arcade, write_pairs, write_png, write_voc
from vasomim.cli import main
from vasomim.data.prepared_split import excluded_names
from vasomim.frames.images import read_grey
from vasomim.prepare.prepared import read_split, split_text
from vasomim.prepare.similarity import describe_frames, similar_pairs


def check(*words: object) -> int:
    return main('check', [*map(str, words)])


def split_of_one(root: Path, split: str) -> str:
    return read_split(root, split)[0]


@pytest.fixture
def pairs(tmp_path) -> Path:
    source = write_pairs(tmp_path / 'published', [f'p{k}_1' for k in range(10)])
    assert main('prepare', ['downstream', 'folder', str(source), str(tmp_path / 'set')]) == 0
    return tmp_path / 'set'


@pytest.fixture
def arcade(tmp_path) -> Path:
    source = write_arcade(tmp_path / 'arcade')
    assert main('prepare', ['downstream', 'arcade', str(source), str(tmp_path / 'sets')]) == 0
    return tmp_path / 'sets'


def test_a_sound_set_passes(pairs, capsys):
    capsys.readouterr()
    assert check(pairs) == 0
    assert capsys.readouterr().out == '0 errors, 0 warnings in 1 set.\n'


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (lambda root, name: (root / 'masks' / f'{name}.png').unlink(), 'files are missing, 1:'),
        (lambda root, name: (root / 'images' / f'{name}.png').write_bytes(b'\x89PNG'), 'files cannot be read, 1:'),
        (lambda root, name: write_png(root / f'masks/{name}.png', np.zeros((4, 4), np.uint8)), 'another size'),
        (lambda root, name: write_png(root / f'masks/{name}.png', np.full((SIZE, SIZE), 255, np.uint8)), 'holds 255'),
        (lambda root, name: (root / 'splits' / 'test.txt').write_text('# sha256:0\n'), 'edited or cut short'),
        (lambda root, name: (root / 'splits' / 'val.txt').write_text(split_text([name])), 'in both train and val, 1:'),
        (lambda root, name: (root / 'splits' / 'train.txt').write_text(split_text([name])), 'train lists 1 frames'),
        (lambda root, name: (root / 'dataset.json').write_text('{'), 'no valid JSON'),
        (lambda root, name: (root / 'dataset.json').unlink(), 'its preparation did not finish'),
    ],
)
def test_errors_set_the_exit_status(pairs, capsys, spoil, message):
    spoil(pairs, split_of_one(pairs, 'train'))
    assert check(pairs) == 1
    out = capsys.readouterr().out
    assert any(line.startswith('ERROR: ') and message in line for line in out.splitlines()), out


def test_warnings_are_listed_and_leave_the_status_at_zero(pairs, capsys):
    name = split_of_one(pairs, 'train')
    write_png(pairs / 'masks' / f'{name}.png', np.zeros((SIZE, SIZE), np.uint8))
    assert check(pairs) == 0
    assert f'warning: {pairs}: masks without foreground, 1: {name}' in capsys.readouterr().out
    write_png(pairs / 'masks' / f'{name}.png', np.ones((SIZE, SIZE), np.uint8))
    assert check(pairs) == 0
    assert 'more foreground than background (inverted?), 1: ' + name in capsys.readouterr().out


def test_series_on_two_sides_are_listed(tmp_path, capsys):
    source = write_pairs(tmp_path / 'caxf', [f'p{patient}_{k}' for patient in range(3) for k in range(2)])
    (source / 'train.txt').write_text('p0_0\np0_1\np1_0\n')
    (source / 'val.txt').write_text('p2_0\np2_1\n')
    (source / 'test.txt').write_text('p1_1\n')
    assert main('prepare', ['downstream', 'caxf', str(source), str(tmp_path / 'set')]) == 0
    assert check(tmp_path / 'set', '--partial') == 0
    assert 'series of frames in more than one split, 1: p1_\n' in capsys.readouterr().out


def test_counts_are_compared_with_the_published_ones(arcade, capsys):
    assert check(arcade / 'arcade_s') == 1
    out = capsys.readouterr().out
    assert '2 frames in train; published are 1000' in out
    assert '3 objects in test; published are 386' in out
    assert check(arcade, '--partial') == 0
    assert '0 errors' in capsys.readouterr().out


def test_boxes_are_compared_with_their_list_and_images(tmp_path, capsys):
    source = write_voc(tmp_path / 'published', [f'{patient}_1_1_1' for patient in range(10)])
    assert main('prepare', ['downstream', 'stenosis', str(source), str(tmp_path / 'set')]) == 0
    path = tmp_path / 'set' / 'train.json'
    sound = path.read_text()
    for change, message in (
        (lambda content: content['images'].pop(), 'not in both, 1:'),
        (lambda content: content['categories'][0].update(name='lesion'), "its categories are ['lesion']"),
        (lambda content: content['annotations'][0].update(bbox=[30, 2, 10, 5]), 'outside their image'),
        (lambda content: content['annotations'][0].update(bbox=[3, 2, 0, 5]), 'boxes without size'),
        (lambda content: content['annotations'][0].update(category_id=9), 'category id 9'),
    ):
        content = json.loads(sound)
        change(content)
        path.write_text(json.dumps(content))
        assert check(tmp_path / 'set', '--partial') == 1
        assert message in capsys.readouterr().out


@pytest.mark.parametrize('kind', ['caxf', 'folder'])
def test_frames_of_the_same_name_in_two_sets_are_all_compared_and_left_out_by_their_name(pairs, tmp_path, capsys, kind):
    source = write_pairs(tmp_path / 'other', [f'p{k}_1' for k in range(10)])
    for k in range(10):
        write_png(source / 'images' / f'p{k}_1.png', frame(50 + k))
    if kind == 'caxf':
        for split, numbers in (('train', range(6)), ('val', (6, 7)), ('test', (8, 9))):
            (source / f'{split}.txt').write_text(''.join(f'p{k}_1\n' for k in numbers))
    assert main('prepare', ['downstream', kind, str(source), str(tmp_path / 'own')]) == 0
    capsys.readouterr()
    assert check(pairs, tmp_path / 'own', '--partial') == 0
    train, val = split_of_one(tmp_path / 'own', 'train'), split_of_one(tmp_path / 'own', 'val')
    plant(tmp_path / 'own', train, val)
    assert check(pairs, tmp_path / 'own', '--partial', '--write-exclusions', tmp_path / 'list.json') == 0
    assert 'identical frames in train and val, 1:' in capsys.readouterr().out
    assert excluded_names(tmp_path / 'list.json') == {train}


def plant(root: Path, source: str, target: str, noise: float = 0.0) -> None:
    """Make one frame of a set a copy of another, with noise."""
    pixels = read_grey(root / 'images' / f'{source}.png').astype(float)
    pixels += np.random.default_rng(0).normal(0, noise, pixels.shape) if noise else 0
    write_png(root / 'images' / f'{target}.png', np.clip(pixels, 0, 255).astype(np.uint8))


@pytest.mark.parametrize(('noise', 'word'), [(0.0, 'identical'), (5.0, 'nearly identical')])
def test_a_test_frame_in_training_is_an_error_and_one_of_validation_a_warning(pairs, tmp_path, capsys, noise, word):
    first, second = read_split(pairs, 'train')[:2]
    test, val = split_of_one(pairs, 'test'), split_of_one(pairs, 'val')
    plant(pairs, second, val, noise)
    assert check(pairs, '--write-exclusions', tmp_path / 'list.json') == 0
    assert f'warning: {word} frames in train and val, 1:' in capsys.readouterr().out
    assert excluded_names(tmp_path / 'list.json') == {second}
    plant(pairs, first, test, noise)
    assert check(pairs) == 1
    assert f'ERROR: {word} frames in train and test, 1:' in capsys.readouterr().out


def test_a_corpus_that_holds_a_test_frame_is_an_error(pairs, tmp_path, capsys):
    test, train = split_of_one(pairs, 'test'), split_of_one(pairs, 'train')
    corpus = tmp_path / 'corpus'
    write_png(corpus / 'p1' / 'a.png', frame(99))
    write_png(corpus / 'p1' / 'b.png', read_grey(pairs / 'images' / f'{train}.png'))  # Allowed.
    assert check(pairs, '--against', corpus) == 0
    write_png(corpus / 'p1' / 'c.png', read_grey(pairs / 'images' / f'{test}.png'))
    noisy = read_grey(pairs / 'images' / f'{test}.png').astype(int) + 3
    write_png(corpus / 'p2' / 'd.png', np.clip(noisy, 0, 255).astype(np.uint8))
    (corpus / 'p2' / 'e.png').write_bytes(b'')
    capsys.readouterr()
    assert check(pairs, '--against', corpus) == 1
    out = capsys.readouterr().out
    assert f'test frames to pre-train on, 1: p1/c.png = {test}' in out
    assert f'nearly are test frames, 1: p2/d.png ~ {test}' in out
    assert 'files cannot be read, 1: p2/e.png' in out


def test_similar_pairs_are_those_of_a_slow_correlation(tmp_path, monkeypatch):
    monkeypatch.setattr('vasomim.prepare.similarity.BLOCK', 3)  # Several blocks in each direction.
    rng = np.random.default_rng(0)
    base = cv2.GaussianBlur(rng.normal(128, 60, (80, 96)), (0, 0), 3)
    for k in range(8):
        write_png(tmp_path / f'{k}.png', np.clip(base + rng.normal(0, 0.4 * k, base.shape), 0, 255).astype(np.uint8))
    write_png(tmp_path / '8.png', np.full((80, 96), 7, np.uint8))
    paths = sorted(tmp_path.iterdir())
    _, copies = describe_frames(paths)
    found = {(row, column): value for row, column, value in similar_pairs(copies, copies, 0.97)}
    small = [cv2.resize(read_grey(path), (64, 64), interpolation=cv2.INTER_AREA).ravel() for path in paths[:8]]
    slow = {}
    for i in range(8):
        for j in range(8):
            value = np.corrcoef(small[i], small[j])[0, 1]
            if value > 0.97:
                slow[i, j] = value
    assert found == pytest.approx(slow, abs=1e-4)
    assert 8 < len(slow) < 64


def test_the_list_of_the_package_is_that_of_arcades_training_frames():
    names = excluded_names('arcade')
    assert len(names) == 103
    assert {name.rsplit('_', 1)[0] for name in names} == {'syntax_train', 'stenosis_train'}


@pytest.mark.slow
def test_real_arcade_has_the_near_duplicates_that_are_known(data_root):
    """Compares the frames as they are stored, without unpacking; takes those of training and validation."""
    import gzip

    index = json.loads(gzip.decompress((data_root / 'arcade' / 'frames.json.gz').read_bytes()))
    stored = {'_'.join((*name.split('/')[:2], Path(name).stem)): digest for name, digest in index.items()}
    names = sorted(name for name in stored if '_test_' not in name)
    _, copies = describe_frames([data_root / 'arcade' / 'frames' / f'{stored[name]}.webp' for name in names])
    found = {
        tuple(sorted((names[row], names[column])))
        for row, column, _ in similar_pairs(copies, copies)
        if row < column and names[row].rsplit('_', 1)[0] != names[column].rsplit('_', 1)[0]
    }
    known = json.loads((data_root / 'arcade' / 'near_duplicates.json').read_text())
    across = {tuple(sorted(pair[:2])) for pair in known if pair[0].rsplit('_', 1)[0] != pair[1].rsplit('_', 1)[0]}
    assert len(across) == 249 + 74 + 21 + 4
    assert across <= found
    assert len(found - across) == 10  # Copies of listed frames, and correlations of 0.971 to 0.975.
    evaluated = {name for pair in found for name in pair if '_train_' in name and any('_val_' in each for each in pair)}
    assert evaluated == excluded_names('arcade')
