"""One table from made-up results: what is missing stays missing, and what is tied is tied."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.benchmark.filled import ENTRIES, IMAGES, PROTOCOL, fill, pretraining_of
from vasomim.benchmark.reporting.markdown import crossed_rows, main_rows
from vasomim.benchmark.reporting.table import Leaderboard, add_comparisons, build
from vasomim.benchmark.results.records import StoreError, name_of
from vasomim.benchmark.results.store import Store
from vasomim.benchmark.statistics.paired import Paired
from vasomim.benchmark.study.jobs import weights_input
from vasomim.benchmark.study.selection import select

METHODS = [{'name': name} for name in ('mae', 'better')]


@pytest.fixture(scope='module')
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return fill(tmp_path_factory.mktemp('store'))


@pytest.fixture(scope='module')
def table(store: Store) -> Leaderboard:
    return build(store, PROTOCOL, ENTRIES)


def test_means_are_those_of_the_cells(store: Store, table: Leaderboard) -> None:
    wanted = [
        c.scores['DSC'] for c in store.cells() if (c.task, c.method, c.label_fraction) == ('arcade_v', 'mae', 1.0)
    ]
    row = table.result('arcade_v', 'mae')
    figures = row['metrics']['DSC']
    assert figures['mean'] == pytest.approx(np.mean(wanted))
    assert figures['deviation'] == pytest.approx(np.std(wanted, ddof=1))
    assert figures['low'] < figures['mean'] < figures['high']
    assert row['hours'] == pytest.approx(0.3)
    assert row['command'].endswith('--protocol study --only task=arcade_v method=mae label_fraction=1.0')


def test_a_pretraining_that_all_seeds_share_is_counted_once_and_told(table: Leaderboard) -> None:
    hours = {method: table.result('arcade_v', method)['pretraining_hours'] for method in ('vasomim', 'mae', 'scratch')}
    assert hours == {'vasomim': pytest.approx(0.2), 'mae': pytest.approx(3 * 0.2), 'scratch': None}
    (note,) = (note for note in table.notes if 'one encoder' in note)
    assert note.startswith('All seeds of VASOMIM start')
    curves = {row['method']: row['curve'] for row in table.convergence if row['kind'] == 'pre-training'}
    assert list(curves) == ['mae', 'vasomim'] and curves['mae'][0]['loss_rec'] == 1.0


def test_encoders_of_other_pretrainings_in_some_tasks_are_told(tmp_path) -> None:
    store = fill(tmp_path)
    assert not [note for note in build(store, PROTOCOL, ENTRIES).notes if 'again' in note]
    for cell in store.cells():
        if cell.task == 'xcav' and cell.method in ('vasomim', 'mae'):
            inputs = cell.inputs | {'weights': weights_input({**pretraining_of(cell.method, cell.seed), 'data': 'new'})}
            table = {'': store.scores(cell)}
            store.write_cell(replace(cell, cell=name_of(inputs), inputs=inputs, tables={}), table)
            store.write_study(PROTOCOL.name, {cell.place: name_of(inputs)})
    (note,) = (note for note in build(store, PROTOCOL, ENTRIES).notes if 'again' in note)
    assert note.startswith('VASOMIM, MAE: pre-trained again for xcav.')


def test_missing_and_failed_cells_have_no_mean_and_no_rank(table: Leaderboard) -> None:
    failed, missing = table.result('xcav', 'scratch'), table.result('stenosis', 'vasomim')
    assert (failed['status'], failed['seeds']) == ('failed', 2)
    assert 'OutOfMemory' in failed['errors'][0]
    assert (missing['status'], missing['seeds']) == ('incomplete', 2)
    assert np.isnan(failed['metrics']['DSC']['mean'])
    assert np.isnan(missing['metrics']['mAP']['mean'])
    ranks = {row['method']: row for row in table.ranks}
    assert all(np.isnan([row['rank'], row['high'], row['borda']]).all() for row in table.ranks)  # Else mae would gain.
    assert {method: row['missing'] for method, row in ranks.items() if row['missing']} == {
        'vasomim': ['stenosis'],
        'scratch': ['xcav'],
    }


def test_ranks_of_a_complete_study(store: Store) -> None:
    table = build(store, replace(PROTOCOL, tasks=('arcade_v',)), ENTRIES)
    assert {row['method']: row['rank'] for row in table.ranks} == {
        'vasomim': 1.0,
        'mae': 2.5,
        'mae_again': 2.5,
        'scratch': 4.0,
    }
    assert all(row['low'] <= row['rank'] <= row['high'] for row in table.ranks)


def test_mae_under_another_name_ties_with_mae_and_a_large_shift_is_found(table: Leaderboard) -> None:
    for ties in table.ties:
        assert any({'mae', 'mae_again'} <= set(group) for group in ties['groups'])
    groups = next(ties['groups'] for ties in table.ties if ties['task'] == 'arcade_v')
    assert groups == [('vasomim',), ('mae', 'mae_again'), ('scratch',)]
    rows = {row['method']: row for row in table.comparisons if (row['task'], row['fraction']) == ('arcade_v', 1.0)}
    assert rows['mae_again']['p_holm'] == 1.0
    assert not rows['mae_again']['significant']
    assert rows['vasomim']['significant']
    assert rows['vasomim']['difference'] > rows['vasomim']['detectable'] > 0
    assert rows['vasomim']['low'] < rows['vasomim']['difference'] < rows['vasomim']['high']
    assert rows['mae_again']['low'] == rows['mae_again']['high'] == 0.0
    assert rows['vasomim']['images'] == IMAGES


def test_few_labels_are_compared_as_well(table: Leaderboard, store: Store) -> None:
    row = next(
        row
        for row in table.comparisons
        if (row['task'], row['fraction'], row['method']) == ('arcade_v', 0.1, 'vasomim')
    )
    means = [table.result('arcade_v', method, 0.1)['metrics']['DSC']['mean'] for method in ('vasomim', 'mae')]
    assert row['difference'] == pytest.approx(means[0] - means[1])


def test_what_the_study_leaves_out_is_neither_missing_nor_ranked_nor_in_a_family(store: Store) -> None:
    study = replace(PROTOCOL, tasks=('arcade_v', 'xcav'), methods=('vasomim', 'mae', 'mae_again'))
    parts = ({'task': ['xcav'], 'method': ['mae_again']}, {'label_fraction': [0.1], 'method': ['vasomim']})
    whole, table = build(store, study, ENTRIES), build(store, replace(study, left_out=parts), ENTRIES)
    assert len(table.results) == len(whole.results) - 2 - 2
    with pytest.raises(KeyError):
        table.result('xcav', 'mae_again')
    assert [task['planned'] for task in table.tasks] == [2, 1]
    assert [row['method'] for row in table.ranks] == ['vasomim', 'mae']
    ranks = {row['method']: row for row in table.ranks}
    assert ranks['mae']['rank'] == 2  # mae_again, which ties with it, takes no place on ARCADE-V either.
    rows = {
        board: next(row for row in board_table.comparisons if (row['task'], row['method']) == ('xcav', 'vasomim'))
        for board, board_table in (('whole', whole), ('part', table))
    }
    assert rows['part']['p'] == pytest.approx(rows['whole']['p'])
    assert rows['part']['detectable'] < rows['whole']['detectable']  # A smaller family has more power.
    header, lines = main_rows(table.as_dict())
    again = next(line for line in lines if line[0] == 'MAE_AGAIN')
    assert again[header.index('XCAV DSC')] == again[header.index('Mean rank')] == 'left out'
    assert again[header.index('ARCADE-V DSC')].startswith('5')
    header, lines = crossed_rows(table.as_dict(), 'subgroups')
    shown = {(line[0], line[2], line[4]): line[header.index('MAE_AGAIN')] for line in lines}
    assert shown['XCAV', 'thin', 'DSC'] == 'left out'
    assert shown['ARCADE-V', 'thin', 'DSC'].startswith('50') and shown['ARCADE-V', 'thin', 'clDice'] == 'missing'


def test_a_score_of_the_whole_set_is_compared_by_what_exists_per_image(table: Leaderboard) -> None:
    assert next(task for task in table.tasks if task['name'] == 'stenosis')['compared'] == 'F1'


def test_it_holds_all_parts_and_json_can_hold_it(table: Leaderboard) -> None:
    content = json.loads(json.dumps(table.as_dict(), allow_nan=False))
    assert len(content['results']) == 3 * 4 * 2
    for part in ('subgroups', 'cross', 'convergence', 'notes'):
        assert content[part], part
    assert next(row for row in content['subgroups'] if row['group'] == 'wide')['mean'] is None
    assert {row['kind'] for row in content['convergence']} == {'pre-training', 'fine-tuning'}


def test_results_of_another_protocol_are_not_taken(store: Store) -> None:
    other = build(store, replace(PROTOCOL, name='another'), ENTRIES)
    assert {row['status'] for row in other.results} == {'missing'}


def test_cells_of_other_settings_are_not_mixed_in(tmp_path: Path) -> None:
    store = fill(tmp_path)
    place = ('arcade_v', 'mae', 1.0, 1)
    store.write_study(PROTOCOL.name, {place: '0123456789abcdef'})  # As a run plans it after a change.
    table = build(store, PROTOCOL, ENTRIES)
    assert (table.result('arcade_v', 'mae')['status'], table.result('arcade_v', 'mae')['seeds']) == ('incomplete', 2)
    assert table.result('arcade_v', 'mae', 0.1)['status'] == 'finished'
    assert not [row for row in table.comparisons if (row['task'], row['fraction']) == ('arcade_v', 1.0)]
    path = tmp_path / 'studies' / 'study.json'
    path.write_text(path.read_text().replace('0123456789abcdef', 'f' * 16))
    with pytest.raises(StoreError, match='checksum'):
        build(store, PROTOCOL, ENTRIES)


def test_a_difference_is_significant_only_if_other_seeds_would_not_undo_it() -> None:
    rng = np.random.default_rng(3)
    mae = rng.uniform(0.4, 0.6, (3, 200))
    found = {}
    for name, gains in {'of one seed': (0.0, 0.0, 0.06), 'of all seeds': (0.02, 0.02, 0.02)}.items():
        table = Leaderboard('', '', False, {'baseline': 'mae', 'alpha': 0.05}, METHODS, [], [0, 1, 2], [1.0])
        better = mae + np.array(gains)[:, None] + rng.normal(0, 0.01, mae.shape)
        add_comparisons(table, ENTRIES.task('xcav'), 1.0, 'DSC', {'mae': mae, 'better': better}, size=1)
        (row,) = table.comparisons
        assert row['wilcoxon_holm'] < 0.001 and row['difference'] == pytest.approx(0.02, abs=0.002)
        found[name] = row['significant'], [len(group) for group in table.ties[0]['groups']]
    assert found == {'of one seed': (False, [2]), 'of all seeds': (True, [1, 1])}


def test_different_data_are_not_compared(tmp_path: Path, store: Store) -> None:
    from vasomim.benchmark.results.records import name_of

    mixed = Store(tmp_path)
    for cell in store.cells():
        inputs = {**cell.inputs, 'data': 'other' if cell.method == 'mae' else 'd'}
        scores = store.scores(cell)
        mixed.write_cell(replace(cell, cell=name_of(inputs), inputs=inputs, tables={}), {'': scores})
    mixed.write_study(PROTOCOL.name, {cell.place: cell.cell for cell in mixed.cells()})
    table = build(mixed, PROTOCOL, ENTRIES)
    assert not table.comparisons
    assert any('different versions of the data' in note for note in table.notes)


def test_statistics_and_pages_need_neither_torch_nor_openmmlab() -> None:
    code = (
        'import sys, vasomim.benchmark.statistics.comparisons, vasomim.benchmark.reporting.table\n'
        'import vasomim.benchmark.reporting.pages\n'
        "found = {m.split('.')[0] for m in sys.modules} & {'torch', 'mmengine', 'mmcv', 'mmseg', 'mmdet'}\n"
        'sys.exit(", ".join(found) or 0)'
    )
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_a_shift_is_found_as_often_as_the_minimum_detectable_difference_says() -> None:
    """Through the table itself: MAE, exactly MAE under another name, and a method that is better by a known amount."""
    repeats, images, noise = 150, 40, 0.05
    family = {'baseline': 'mae', 'alpha': 0.05}
    task = ENTRIES.task('xcav')
    methods = [{'name': name} for name in ('mae', 'mae_again', 'shifted')]
    detectable = Paired(0.0, noise / np.sqrt(images), 0.0, images, 1).detectable(0.05 / 2)
    rng = np.random.default_rng(11)
    found = {}
    for factor in (0.0, 1.0, 2.0):
        table = Leaderboard('', '', False, family, methods, [], [0], [1.0])
        for _ in range(repeats):
            mae = rng.uniform(0.3, 0.7, (1, images))
            shifted = mae + factor * detectable + rng.normal(0.0, noise, (1, images))
            add_comparisons(table, task, 1.0, 'DSC', {'mae': mae, 'mae_again': mae, 'shifted': shifted}, size=2)
        rows = [row for row in table.comparisons if row['method'] == 'shifted']
        assert np.mean([row['detectable'] for row in rows]) == pytest.approx(detectable, rel=0.05)
        found[factor] = np.mean([row['significant'] for row in rows])
        assert all(row['p_holm'] == 1.0 for row in table.comparisons if row['method'] == 'mae_again')
        for ties in table.ties:
            group = next(group for group in ties['groups'] if 'mae' in group)
            assert 'mae_again' in group
    assert found[0.0] <= 0.05 and found[1.0] == pytest.approx(0.8, abs=0.08) and found[2.0] > 0.99


def test_what_is_selected_to_be_shown_changes_no_comparison(store: Store) -> None:
    whole = build(store, PROTOCOL, ENTRIES)
    part = build(store, select(PROTOCOL, ['task=arcade_v', 'method=vasomim,mae'], None, None), ENTRIES)

    def row(table: Leaderboard) -> dict:
        place = ('arcade_v', 1.0, 'vasomim', 'DSC')
        return next(r for r in table.comparisons if (r['task'], r['fraction'], r['method'], r['metric']) == place)

    for key in ('p', 'difference', 'detectable'):
        assert row(part)[key] == pytest.approx(row(whole)[key]), key
    assert len(whole.methods) > 2 and [task['planned'] for task in part.tasks] == [len(whole.methods) - 1]
    assert row(part)['p_holm'] >= row(part)['p'] * (len(whole.methods) - 1) * 0.999 or row(part)['p_holm'] == 1
    assert 'A part of the study' in part.notes[0] and 'A part' not in whole.notes[0]


def test_cells_outside_the_shown_part_are_not_looked_at(store: Store) -> None:
    """A method that has no cell on the selected task, and seeds that are no longer of the study."""
    study = replace(PROTOCOL, left_out=({'task': ['arcade_v'], 'method': ['vasomim']},))
    table = build(store, select(study, ['task=arcade_v', 'seed=0'], None, None), ENTRIES)
    assert {row['method'] for row in table.results} == {'mae', 'mae_again', 'scratch'}
    assert {row['seeds'] for row in table.results if row['fraction'] == 1.0} == {1}


def test_a_detectors_validation_is_drawn_under_the_name_of_its_measure() -> None:
    board = json.loads((Path(__file__).parents[3] / 'benchmark/leaderboard/leaderboard.json').read_text('utf-8'))
    curves = [item['curve'] for item in board['convergence'] if item['task'] == 'arcade_s_boxes']
    assert curves and all(curve[-1]['mAP'] is not None for curve in curves)
