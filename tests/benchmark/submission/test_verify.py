"""A submission whose hashes and checksums are all right passes only if it is the whole study and its scores are so."""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.benchmark.submission.made import Forgery, Made
from vasomim.benchmark.results.records import Cell, StoreError
from vasomim.benchmark.scoring.measures import BOXES, OPERATING_POINT
from vasomim.benchmark.study.jobs import SCRATCH, weights_input
from vasomim.benchmark.study.selection import select
from vasomim.benchmark.submission.verify import CLAIMED, VERIFIED
from vasomim.cli import main


def test_a_true_submission_passes_and_every_field_is_verified_or_only_claimed(made: Made) -> None:
    found = made.verify(made.zip)
    assert found.passed and found.differences == [] and found.cells == 4
    # 2 x (DSC, HD95, and of 2 sides and 3 widths; 3 images; on others 2 and 3 images), and 2 x (mAP, F1, 3 images).
    images, others = 3 * 2, 2 + 3 * 2
    assert found.figures == 2 * (2 + 2 * 3 + 3 * 2 + images + others) + 2 * (2 + 3)
    assert VERIFIED.keys() | CLAIMED.keys() == {item.name for item in fields(Cell)}
    assert VERIFIED.keys() & CLAIMED.keys() == {'inputs'}


def png(mask: np.ndarray) -> bytes:
    return cv2.imencode('.png', mask)[1].tobytes()


def of_record(change: Callable[[dict], object], task: str = 'vessels', method: str = 'mae') -> Callable:
    return lambda forged: forged.edit(forged.cell(task, method), change)


def swapped(forged: Forgery) -> None:
    """MAE's result under the name of the other method, and the other way round."""
    mae, scratch = forged.cell('vessels', 'mae'), forged.cell('vessels', 'scratch')
    forged.edit(mae, lambda record: record['inputs'].update(method='scratch'))
    forged.edit(scratch, lambda record: record['inputs'].update(method='mae'))


def twice(forged: Forgery) -> None:
    forged.manifest['cells'].append(forged.cell('vessels', 'mae'))


def without_further_tests(forged: Forgery) -> None:
    for method in ('mae', 'scratch'):
        cell = forged.cell('vessels', method)
        forged.edit(cell, lambda record: (record['also'].clear(), record['tables'].pop('others')))
        forged.members = {
            name: content
            for name, content in forged.members.items()
            if f'{cell}/also_' not in name and f'{cell}.others' not in name
        }


def another_pretraining(forged: Forgery) -> None:
    """The encoder of another method, with records that fit each other."""
    inputs = forged.edit_pretraining(lambda record: record['inputs'].update(method='vasomim'))
    for task in ('vessels', 'lesions'):
        forged.edit(forged.cell(task, 'mae'), lambda record: record['inputs'].update(weights=weights_input(inputs)))


def another_encoder(forged: Forgery) -> None:
    forged.edit_pretraining(lambda record: record['weights'].update(file_sha256='f' * 64))


def without_pretraining(forged: Forgery) -> None:
    forged.members = {name: content for name, content in forged.members.items() if 'pretraining' not in name}
    forged.manifest['pretrainings'] = []


def an_unused_pretraining(forged: Forgery) -> None:
    forged.edit_pretraining(lambda record: record['inputs'].update(seed=5))


def another_mask(forged: Forgery) -> None:
    forged.members[f'predictions/{forged.cell("vessels", "mae")}/test/e.png'] = png(np.zeros((64, 64), np.uint8))


def without_a_mask(forged: Forgery) -> None:
    del forged.members[f'predictions/{forged.cell("vessels", "mae")}/test/e.png']


def an_extra_member(forged: Forgery) -> None:
    forged.members['results/note.txt'] = b'x'


def an_extra_column(forged: Forgery) -> None:
    def change(text: str) -> str:
        head, *rows = text.splitlines()
        return '\n'.join([f'{head},AUC', *(f'{row},1.0' for row in rows)]) + '\n'

    forged.edit_table(forged.cell('vessels', 'mae'), change)


def other_groups(forged: Forgery) -> None:
    forged.edit_table(forged.cell('vessels', 'mae'), lambda text: text.replace(',left', ',right'))


def reordered(forged: Forgery) -> None:
    def change(text: str) -> str:
        head, *rows = text.splitlines()
        return '\n'.join([head, *rows[::-1]]) + '\n'

    forged.edit_table(forged.cell('vessels', 'mae'), change)


def better_table(forged: Forgery) -> None:
    """A table and its mean, edited together."""
    cell = forged.cell('vessels', 'mae')
    rows = 'e,1.0,0.0,left\nf,1.0,0.0,right\ng,1.0,0.0,left\n'
    forged.edit_table(cell, lambda text: f'{text.splitlines()[0]}\n{rows}')
    forged.edit(cell, lambda record: record['scores'].update(DSC=1.0))


def tuned_on_test(forged: Forgery) -> None:
    """The operating point that is best on the test images, with the F1 that it gives."""
    cell = forged.cell('lesions', 'mae')
    name = f'predictions/{cell}/test/{OPERATING_POINT}'
    point = json.loads(forged.members[name])
    forged.members[name] = json.dumps({**point, 'score': 0.96}).encode()
    forged.edit(cell, lambda record: record.update(score_threshold=0.96))


def without_validation(forged: Forgery) -> None:
    del forged.members[f'predictions/{forged.cell("lesions", "mae")}/validation/{BOXES}']


def crowded(forged: Forgery) -> None:
    """All wrong boxes are out of COCO's range of areas, so that none of them counts, for a reader that believes it."""
    cell = forged.cell('lesions', 'mae')
    name = f'predictions/{cell}/test/{BOXES}'
    boxes = json.loads(forged.members[name])
    for box in boxes:
        box['caption'], box['iscrowd'] = '', 0
        box['area'] = 1e12 if box['score'] == 0.95 else 150.0
    forged.members[name] = json.dumps(boxes).encode()
    forged.edit(cell, lambda record: record['scores'].update(mAP=1.0))


@pytest.mark.parametrize(
    ('forge', 'said'),
    [
        (of_record(lambda record: record['scores'].update(DSC=0.99)), 'scores/DSC'),
        (of_record(lambda record: record['scores'].update(DSC=None)), 'scores/DSC'),
        (of_record(lambda record: record['scores'].update(AUC=0.99)), 'scores/AUC'),
        (of_record(lambda record: record['subgroups']['width']['thin'].update(DSC=0.99)), 'subgroups/width/thin'),
        (of_record(lambda record: record['subgroups'].clear()), 'subgroups/'),
        (of_record(lambda record: record.update(cases=30)), 'cases'),
        (of_record(lambda record: record['also']['others']['scores'].update(DSC=0.99)), 'on others'),
        (of_record(lambda record: record['also']['others'].update(data='d' * 64)), 'on others: data'),
        (of_record(lambda record: record.update(status='failed')), 'not finished'),
        (of_record(lambda record: record.update(smoke=True)), 'smoke'),
        (of_record(lambda record: record.update(score_threshold=0.3)), 'score_threshold'),
        (of_record(lambda record: record['inputs'].update(data='d' * 64)), 'inputs.data'),
        (of_record(lambda record: record['inputs'].update(config='c' * 64)), 'inputs.config'),
        (of_record(lambda record: record['inputs'].update(metrics=['DSC'])), 'inputs.metrics'),
        (of_record(lambda record: record['inputs'].update(note='mine')), 'inputs.note'),
        (of_record(lambda record: record['inputs'].update(code='9.9')), 'inputs.code'),
        (of_record(lambda record: record['inputs'].update(seed='0')), 'inputs.seed'),
        (of_record(lambda record: record['inputs'].update(seed=7)), 'seed 7'),
        (of_record(lambda record: record['inputs'].update(label_fraction=0.5)), '50%'),
        (of_record(lambda record: record['inputs'].update(label_fraction=1)), 'inputs.label_fraction'),
        (of_record(lambda record: record['inputs'].update(method='best')), 'best'),
        (of_record(lambda record: record['inputs'].update(task='lesions'), method='scratch'), 'lesions, scratch'),
        (of_record(lambda record: record['inputs'].update(weights=SCRATCH)), 'pre-training is missing'),
        (
            of_record(lambda record: record.update(weights={'file_sha256': 'f' * 64}), method='scratch'),
            'from scratch',
        ),
        (of_record(lambda record: record['weights'].update(file_sha256='f' * 64)), 'its encoder'),
        (of_record(lambda record: record.update(curve=[{'epoch': 1, 'DSC': 'best'}, 3])), 'curve.0'),
        (of_record(lambda record: record.update(cost={'seconds': 'none'})), 'cost.seconds'),
        (of_record(lambda record: record.update(mine=1)), 'mine'),
        (lambda forged: forged.drop(forged.cell('vessels', 'scratch')), 'the submission lacks it'),
        (lambda forged: [forged.drop(name) for name in list(forged.manifest['cells'])], 'no score'),
        (lambda forged: forged.manifest.update(study='smoke'), "'smoke'"),
        (lambda forged: forged.manifest.update(vasomim='9.9'), '9.9'),
        (swapped, 'from scratch'),
        (twice, 'twice'),
        (without_further_tests, 'its tests'),
        (another_pretraining, 'one of vasomim'),
        (another_encoder, 'its encoder'),
        (without_pretraining, 'pre-training is missing'),
        (an_unused_pretraining, 'starts from this'),
        (another_mask, 'DSC of e'),
        (without_a_mask, 'missing'),
        (an_extra_member, 'note.txt'),
        (an_extra_column, 'columns'),
        (other_groups, 'groups'),
        (reordered, 'order'),
        (better_table, 'DSC of e'),
        (tuned_on_test, 'operating point'),
        (without_validation, 'validation'),
        (crowded, 'scores/mAP'),
    ],
)
def test_what_is_forged_is_found(made: Made, tmp_path: Path, forge: Callable[[Forgery], object], said: str) -> None:
    forged = Forgery(made.zip)
    forge(forged)
    found = made.verify(forged.save(tmp_path / 'forged.zip'))
    assert not found.passed
    assert any(said in line for line in found.differences), found.differences


def test_a_member_that_stands_twice_hides_nothing(made: Made, tmp_path: Path) -> None:
    forged = Forgery(made.zip)
    name = f'results/{forged.cell("vessels", "mae")}.json'
    honest = forged.members[name]
    forged.edit(forged.cell('vessels', 'mae'), lambda record: record['scores'].update(DSC=0.99))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # Of zipfile.
        path = forged.save(tmp_path / 'forged.zip', (name, honest))
    with pytest.raises(StoreError, match='twice'):
        made.verify(path)


def test_a_file_that_was_changed_afterwards_is_named(made: Made, tmp_path: Path) -> None:
    forged = Forgery(made.zip)
    name = f'predictions/{forged.cell("vessels", "mae")}/test/e.png'
    path = forged.save(tmp_path / 'one.zip')
    content = png(np.zeros((64, 64), np.uint8))
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / 'two.zip', 'w') as new:
        for member in old.namelist():
            new.writestr(member, content if member == name else old.read(member))
    found = made.verify(tmp_path / 'two.zip')
    assert f'{name}: it is not the file that was packed' in found.differences


def test_a_part_passes_only_where_it_was_asked_for(made: Made, tmp_path: Path) -> None:
    part = replace(made, protocol=select(made.protocol, ['method=scratch'], None, None))
    forged = Forgery(made.zip)
    for task in ('vessels', 'lesions'):
        forged.drop(forged.cell(task, 'mae'))
    without_pretraining(forged)
    path = forged.save(tmp_path / 'part.zip')
    assert part.verify(path).passed
    assert not made.verify(path).passed
    assert not part.verify(made.zip).passed  # More than was asked for is named too.


def test_data_that_lack_here_are_named_and_nothing_passes(made: Made, tmp_path: Path) -> None:
    found = made.verify(made.zip, str(tmp_path / 'nowhere'))
    assert not found.passed and found.figures == 0
    assert {line.split(':')[0] for line in found.differences[:-1]} == {'vessels', 'others', 'lesions'}
    assert all('data lack here' in line for line in found.differences[:-1])


def test_the_command_says_what_is_verified_and_what_is_only_claimed(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    command = ['verify', '--entries', str(made.folder / 'entries.yaml'), '--data', str(made.folder / 'data')]
    assert main('benchmark', [*command, str(made.zip)]) == 0
    printed = capsys.readouterr().out
    assert '0 differences' in printed and printed.index('verified:') < printed.index('only claimed:')
    forged = Forgery(made.zip)
    another_mask(forged)
    assert main('benchmark', [*command, str(forged.save(tmp_path / 'forged.zip'))]) == 1
    assert 'only claimed' not in capsys.readouterr().out
    assert main('benchmark', [*command, '--tolerance', 'nan', str(made.zip)]) == 2
