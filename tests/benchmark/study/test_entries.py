"""Entries are data: strict, by name, from any file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from vasomim.benchmark.study.entries import load_entries
from vasomim.benchmark.study.plan import select
from vasomim.errors import ConfigError

PROTOCOL = 'protocols:\n  - {name: p, title: P, tasks: [xcav], methods: [mae, scratch],'
TASK = 'tasks:\n  - {name: t, title: T, dataset: d, task: segmentation, config: c.py, data: d,'
METHOD = 'methods:\n  - {name: mine, title: Mine, kind: checkpoint, checkpoint: mine.pth}\n'


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_the_projects_own_entries_fit_together() -> None:
    entries = load_entries()
    assert set(entries.tasks) == {
        'arcade_v',
        'arcade_vs',
        'arcade_s',
        'arcade_s_boxes',
        'xcav',
        'caxf',
        'stenosis',
        'dca1',
    }
    for name in entries.protocols:
        assert entries.protocol(name).family['baseline'] == 'mae'
    smoke = entries.protocol('smoke')
    assert len(smoke.tasks) * len(smoke.methods) * len(smoke.seeds) == 6 * 4 * 2
    assert smoke.pretraining['options']['mae'] == smoke.pretraining['options']['vasomim']


def test_a_users_file_adds_a_method(tmp_path) -> None:
    entries = load_entries([write(tmp_path / 'mine.yaml', METHOD)])
    assert entries.method('mine').checkpoint == 'mine.pth'
    assert 'mae' in entries.methods


def test_an_installed_package_adds_its_entries(tmp_path, monkeypatch) -> None:
    write(tmp_path / 'entries.yaml', METHOD)
    write(tmp_path / 'their_package.py', f'ENTRIES = [{str(tmp_path / "entries.yaml")!r}]')
    info = tmp_path / 'their_package-1.0.dist-info'
    info.mkdir()
    write(info / 'METADATA', 'Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n')
    write(info / 'entry_points.txt', '[vasomim.benchmark]\ntheirs = their_package:ENTRIES\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load_entries().method('mine').origin == str(tmp_path / 'entries.yaml')
    with pytest.raises(ConfigError, match=r"'mine' is in .*entries.yaml already"):
        load_entries([write(tmp_path / 'own.yaml', METHOD)])


@pytest.mark.parametrize(
    ('text', 'what'),
    [
        ('methods:\n  - {name: mine, title: M, kind: scratch, referense: x}\n', "Did you mean 'reference'"),
        ('methods:\n  - {name: mine, title: M, kind: scrach}\n', "Did you mean 'scratch'"),
        ('methods:\n  - {name: mine, title: M, kind: pretrain}\n', 'needs config'),
        ('method:\n  - {name: mine, title: M, kind: scratch}\n', "Did you mean 'methods'"),
        ('methods:\n  - {title: M, kind: scratch}\n', 'lacks name'),
        ('methods:\n  - {name: a/b, title: M, kind: scratch}\n', 'file names'),
        ('methods:\n  - {name: m, title: M, kind: scratch, kind: scratch}\n', 'stands twice'),
        ('methods:\n  - {name: m, title: [M], kind: scratch}\n', 'not what belongs here'),
        ('methods: [', 'cannot be read as YAML'),
        ('methods:\n  - {name: mae, title: M, kind: scratch}\n', "'mae' is in .* already"),
        ('tasks:\n  - {name: t, title: T, dataset: d, task: segmentaton}\n', "Did you mean 'segmentation'"),
        (f'{TASK} metrics: [DSC, cldice]}}\n', "Did you mean 'clDice'"),
        (f'{TASK} subgroups: [widht]}}\n', "Did you mean 'width'"),
        (f'{TASK.replace("segmentation", "detection")} metrics: [mAP_50]}}\n', "Did you mean 'mAP50'"),
        (f'{PROTOCOL} family: {{alpha: 5}}}}\n', 'no level of a test'),
        ("tasks:\n  - {name: t, title: T, dataset: d, task: 'a:b', primary: IoU}\n", 'not among the metrics'),
        ('protocols:\n  - {name: p, title: P, tasks: [], methods: [mae]}\n', 'no cells'),
        ('protocols:\n  - {name: p, title: P, tasks: [xcav], methods: [mae], label_fractions: [2.0]}\n', 'no part'),
        (f'{PROTOCOL} left_out: [{{taks: [xcav]}}]}}\n', "Did you mean 'task'"),
        (f'{PROTOCOL} left_out: [{{task: [caxf]}}]}}\n', "'caxf' is not in a list of those"),
        (f'{PROTOCOL} left_out: [{{task: xcav}}]}}\n', "'xcav' is not in a list"),
        (f'{PROTOCOL} left_out: [{{method: [mae]}}, {{method: [scratch]}}]}}\n', 'nothing remains'),
        (f'{PROTOCOL} left_out: [xcav]}}\n', 'not what belongs here'),
        (f'{PROTOCOL} finetuning: {{few_labels: {{0.1: {{}}}}}}}}\n', '0.1. is none of them'),
        (f'{PROTOCOL} finetuning: {{few_labels: {{1.0: 5}}}}}}\n', 'few_labels.1.0: 5 are no options'),
        (f'{PROTOCOL} finetuning: {{options: {{all: [lr]}}}}}}\n', 'options.all: .* are no options'),
        (f'{PROTOCOL} pretraining: {{options: 3}}}}\n', '3 is not what belongs here'),
        (f'{PROTOCOL} pretraining: {{options: {{maee: {{}}}}}}}}\n', "Did you mean 'mae'"),
    ],
)
def test_a_wrong_entry_says_what_is_wrong(tmp_path, text, what) -> None:
    with pytest.raises(ConfigError, match=what):
        load_entries([write(tmp_path / 'mine.yaml', text)])


def test_an_unknown_task_or_method_gets_a_suggestion(tmp_path) -> None:
    text = 'protocols:\n  - {name: p, title: P, tasks: [arcade_w], methods: [mae]}\n'
    with pytest.raises(ConfigError, match="Did you mean 'arcade_v"):
        load_entries([write(tmp_path / 'mine.yaml', text)]).protocol('p')
    with pytest.raises(ConfigError, match="Did you mean 'simmim'"):
        load_entries().method('simmin')
    text = f'{TASK} also_test: [xcavv]}}\nprotocols:\n  - {{name: p, title: P, tasks: [t], methods: [mae]}}\n'
    with pytest.raises(ConfigError, match="Did you mean 'xcav"):
        load_entries([write(tmp_path / 'also.yaml', text)]).protocol('p')
    with pytest.raises(ConfigError, match="also_test: 'stenosis' is detection, and 't' segmentation"):
        load_entries([write(tmp_path / 'kind.yaml', text.replace('xcavv', 'stenosis'))]).protocol('p')


def test_cells_are_selected() -> None:
    protocol = load_entries().protocol('main')
    chosen = select(protocol, ['task=xcav,caxf', 'method=mae', 'seed=1'], 3, '0.1,1')
    assert (chosen.tasks, chosen.methods, chosen.seeds, chosen.label_fractions) == (
        ('xcav', 'caxf'),
        ('mae',),
        (1,),
        (0.1, 1.0),
    )
    for wrong in (['taks=xcav'], ['task=xcaf'], ['seed=x'], ['seed=9']):
        with pytest.raises(ConfigError, match='--only'):
            select(protocol, wrong, None, None)
    with pytest.raises(ConfigError, match='no part'):
        select(protocol, [], None, '0,1')
    part = replace(protocol, left_out=({'task': ['xcav'], 'method': ['mae', 'simmim']},))
    assert not part.plans('xcav', 'mae', 1.0)
    assert part.plans('xcav', 'scratch', 1.0) and part.plans('caxf', 'mae', 1.0)
    with pytest.raises(ConfigError, match='leaves all of this out'):
        select(part, ['task=xcav', 'method=mae'], None, None)
