"""Entries are data: strict, by name, from any file."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from vasomim.benchmark.study.loading import load_entries
from vasomim.benchmark.study.selection import select
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
        ('methods:\n  - {name: m, title: [M], kind: scratch}\n', 'title: a list of 1'),
        ('methods: [', 'cannot be read as YAML'),
        ('methods:\n  - {name: mae, title: M, kind: scratch}\n', "'mae' is in .* already"),
        ('tasks:\n  - {name: t, title: T, dataset: d, task: segmentaton}\n', "Did you mean 'segmentation'"),
        (f'{TASK} metrics: [DSC, cldice]}}\n', "Did you mean 'clDice'"),
        (f'{TASK} subgroups: [widht]}}\n', "Did you mean 'width'"),
        (f'{TASK.replace("segmentation", "detection")} metrics: [mAP_50]}}\n', "Did you mean 'mAP50'"),
        (f'{PROTOCOL} family: {{alpha: 5}}}}\n', 'family.alpha'),
        ("tasks:\n  - {name: t, title: T, dataset: d, task: 'a:b', primary: IoU}\n", 'not among the metrics'),
        ('protocols:\n  - {name: p, title: P, tasks: [], methods: [mae]}\n', 'no cells'),
        ('protocols:\n  - {name: p, title: P, tasks: [xcav], methods: [mae], label_fractions: [2.0]}\n', 'no part'),
        (f'{PROTOCOL} left_out: [{{taks: [xcav]}}]}}\n', "Did you mean 'task'"),
        (f'{PROTOCOL} left_out: [{{task: [caxf]}}]}}\n', "left_out.task: 'caxf'"),
        (f'{PROTOCOL} left_out: [{{task: xcav}}]}}\n', "left_out.0.task: 'xcav'"),
        (f'{PROTOCOL} left_out: [{{method: [mae]}}, {{method: [scratch]}}]}}\n', 'nothing remains'),
        (f'{PROTOCOL} left_out: [xcav]}}\n', 'left_out.0'),
        (f'{PROTOCOL} finetuning: {{few_labels: {{0.1: {{}}}}}}}}\n', '0.1. is none of them'),
        (f'{PROTOCOL} finetuning: {{few_labels: {{1.0: 5}}}}}}\n', 'few_labels.1.0'),
        (f'{PROTOCOL} finetuning: {{options: {{all: [lr]}}}}}}\n', 'options.all'),
        (f'{PROTOCOL} pretraining: {{options: 3}}}}\n', 'pretraining.options: 3'),
        (f'{PROTOCOL} pretraining: {{options: {{maee: {{}}}}}}}}\n', "Did you mean 'mae'"),
        (f'{PROTOCOL} pretraining: {{option: {{}}}}}}\n', "pretraining: .*Did you mean 'options'"),
        (f'{PROTOCOL} finetuning: {{few_label: {{}}}}}}\n', "finetuning: .*Did you mean 'few_labels'"),
        (f'{PROTOCOL} family: {{basline: mae}}}}\n', "family: .*Did you mean 'baseline'"),
        (f'{PROTOCOL} pretraining: {{options: {{all: {{lr: 2026-01-01}}}}}}}}\n', 'pretraining.options.all.lr'),
        (f'{PROTOCOL} smoke: "yes"}}\n', 'smoke'),
        (f'{PROTOCOL} seeds: 0}}\n', 'seeds'),
        (f'{PROTOCOL} seeds: 1000000000}}\n', 'seeds'),
        (f'{PROTOCOL} seeds: {"9" * 5000}}}\n', 'YAML'),
        (f'{PROTOCOL} seeds: -1}}\n', 'seeds'),
        (f'{PROTOCOL} seeds: [-1]}}\n', 'seeds.0'),
        (f'{PROTOCOL} seeds: [4294967296]}}\n', 'seeds.0'),
        (f'{PROTOCOL} seeds: [1, 1]}}\n', 'seeds.* twice'),
        (f'{PROTOCOL} seeds: [true]}}\n', 'seeds.0'),
        (f'{PROTOCOL} seeds: "3"}}\n', 'seeds'),
        (f'{PROTOCOL} label_fractions: [.nan]}}\n', 'label_fractions.0'),
        (f'{PROTOCOL} seeds: 1000, label_fractions: [{", ".join(f"0.{n:04}" for n in range(1, 400))}]}}\n', 'cells'),
        ('', 'no entries'),
        ('null\n', 'no entries'),
        ('[1, 2]\n', 'no entries'),
        ('methods: null\n', 'no list'),
        ('methods: {name: mine}\n', 'no list'),
        ('methods: [null]\n', 'no list'),
        ('a: &a [*a]\n', 'refers to itself'),
        ('methods: [{? [1] : 2}]\n', 'no text or number'),
        ('methods: [{name: 2026-99-99}]\n', 'YAML'),
        ('methods: [!!python/object/apply:os.system [ls]]\n', 'YAML'),
        ('methods: [{name: m, title: "\\ud800", kind: scratch}]\n', 'surrogate'),
        ('methods: ' + '[' * 5000 + '\n', 'YAML'),
        ('methods: ' + '[' * 60 + ']' * 60 + '\n', 'deeply'),
        ('a0: &a0 [x]\n' + ''.join(f'a{n}: &a{n} [*a{n - 1}]\n' for n in range(1, 300)), 'deeply'),
        ('a0: &a0 x\n' + ''.join(f'a{n}: &a{n} [{", ".join([f"*a{n - 1}"] * 9)}]\n' for n in range(1, 30)), 'items'),
        ('a: &a ' + 'x' * 100_000 + '\nb: [' + '*a, ' * 200 + '1]\n', 'items'),
        ('#' * (1 << 20) + '\n', 'bytes'),
    ],
)
def test_a_wrong_entry_says_what_is_wrong(tmp_path, text, what) -> None:
    with pytest.raises(ConfigError, match=what):
        load_entries([write(tmp_path / 'mine.yaml', text)])


def test_a_file_that_is_no_text_or_never_ends_is_an_error(tmp_path) -> None:
    (tmp_path / 'binary.yaml').write_bytes(b'\xff\xfe\x00')
    os.mkfifo(tmp_path / 'pipe.yaml')
    for name in ('binary.yaml', 'pipe.yaml'):
        with pytest.raises(ConfigError, match=name):
            load_entries([tmp_path / name])


def test_values_stay_what_yaml_says(tmp_path) -> None:
    text = (
        'protocols:\n  - {name: p, title: P, tasks: [xcav], methods: [mae], seeds: 2, label_fractions: [1, 0.1],'
        ' finetuning: {few_labels: {0.1: {train_cfg.max_epochs: 3, a.b: [1, 2.0, null, {c: true}]}}}}\n'
    )
    found = load_entries([write(tmp_path / 'mine.yaml', text)]).protocol('p')
    assert found.seeds == (0, 1) and repr(found.label_fractions) == '(1.0, 0.1)'
    options = found.finetuning['few_labels'][0.1]
    assert repr(options) == "{'train_cfg.max_epochs': 3, 'a.b': [1, 2.0, None, {'c': True}]}"


def test_two_methods_of_one_title_could_not_be_told_apart(tmp_path) -> None:
    text = METHOD.replace('Mine', 'MAE') + PROTOCOL.replace('[mae, scratch],', '[mae, mine]}\n')
    entries = load_entries([write(tmp_path / 'mine.yaml', text)])
    with pytest.raises(ConfigError, match=r'methods: .*MAE'):
        entries.protocol('p')


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
    for seeds in (0, -1, 1001, 10**9):
        with pytest.raises(ConfigError, match='--seeds'):
            select(protocol, [], seeds, None)
    for fractions in ('nan', '1e-3,2', 'x', '0.5,0.5'):
        with pytest.raises(ConfigError, match='--label-fraction'):
            select(protocol, [], None, fractions)
    part = replace(protocol, left_out=({'task': ['xcav'], 'method': ['mae', 'simmim']},))
    assert not part.plans('xcav', 'mae', 1.0)
    assert part.plans('xcav', 'scratch', 1.0) and part.plans('caxf', 'mae', 1.0)
    with pytest.raises(ConfigError, match='leaves all of this out'):
        select(part, ['task=xcav', 'method=mae'], None, None)
