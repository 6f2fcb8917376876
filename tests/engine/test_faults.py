"""Killed and stopped at chosen places, a training ends with the losses and weights of one that was left alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.engine.faults import BATCH, EPOCHS, FRAMES, PER_EPOCH, SCENARIOS

ROOT = Path(__file__).parents[2]
STOPPED = 128 + signal.SIGTERM
pytestmark = pytest.mark.slow
INTERRUPTED = [name for name, scenario in SCENARIOS.items() if scenario.kills]


@pytest.fixture(scope='module')
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('faults')
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'CUDA_VISIBLE_DEVICES': '', 'OMP_NUM_THREADS': '1'}
    command = [sys.executable, '-m', 'tests.engine.faults', str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def undisturbed(name: str) -> str:
    return 'ranks' if name.startswith('ranks') else 'accumulated' if name.startswith('accumulated') else 'straight'


def losses(folder: Path) -> dict[int, str]:
    """The loss of each iteration, bit by bit; the last one where it was repeated."""
    return {int(line.split()[0]): line.split()[1] for line in (folder / 'losses').read_text().splitlines()}


def checkpoint(folder: Path, name: str) -> dict:
    return torch.load(folder / 'run' / name, weights_only=False)


def read(folder: Path, start: int) -> list[int]:
    return [int(line) for line in (folder / f'read_{start}').read_text().split()]


def log(folder: Path) -> str:
    return ''.join(path.read_text() for path in sorted(folder.glob('log_*')))


def test_each_process_ended_as_it_was_told_to(ended):
    for name, scenario in SCENARIOS.items():
        statuses = json.loads((ended / name / 'statuses.json').read_text())
        for (_, _, number), found in zip(scenario.kills, statuses, strict=False):
            if number == signal.SIGKILL:  # The others are killed too, unless they see first that one is gone.
                assert found[-1] == -signal.SIGKILL and set(found) <= {-signal.SIGKILL, 1}, (name, log(ended / name))
            else:
                assert found == [STOPPED] * scenario.ranks, (name, log(ended / name))
        assert statuses[-1] == [0] * scenario.ranks, (name, log(ended / name))


@pytest.mark.parametrize('name', INTERRUPTED)
def test_the_losses_are_those_of_an_undisturbed_run(ended, name):
    expected = losses(ended / undisturbed(name))
    assert len(expected) == EPOCHS * PER_EPOCH
    assert losses(ended / name) == expected


@pytest.mark.parametrize('name', INTERRUPTED)
def test_the_last_and_the_best_weights_are_those_of_an_undisturbed_run(ended, name):
    by_iteration = SCENARIOS[name].checkpoint.get('by_epoch') is False
    for kind in ('last', 'best'):
        found = []
        for each in (undisturbed(name), name):
            pattern = 'best_*.pth' if kind == 'best' else f'*_{EPOCHS * PER_EPOCH}.pth'
            if kind == 'last' and not (each == name and by_iteration):
                pattern = f'epoch_{EPOCHS}.pth'
            files = list((ended / each / 'run').glob(pattern))
            assert len(files) == 1, files
            found.append(checkpoint(ended / each, files[0].name))
        one, other = found
        assert one['state_dict'].keys() == other['state_dict'].keys()
        for key, value in one['state_dict'].items():
            assert torch.equal(value, other['state_dict'][key]), key
        assert one['message_hub']['runtime_info']['best_score'] == other['message_hub']['runtime_info']['best_score']
        if kind == 'last':
            states = [each['optimizer']['state'] for each in found]
            for key, state in states[0].items():
                for part, value in state.items():
                    assert torch.equal(torch.as_tensor(value), torch.as_tensor(states[1][key][part])), part


def test_the_first_epoch_is_the_best(ended):
    """Else a validation that was skipped would not be missed."""
    assert [path.name for path in (ended / 'straight' / 'run').glob('best_*')] == ['best_held_out_loss_rec_epoch_1.pth']


@pytest.mark.parametrize('workers', [0, 2, 4])
def test_batches_before_the_place_are_not_read_again(ended, workers):
    straight = read(ended / 'straight', 0)
    folder = ended / f'killed_{workers}'
    # Saved at 5, 15 and 20; the last epoch is read to its end. Workers write in any order, an epoch at a time.
    for start, first in ((1, 5), (2, 15), (3, 20)):
        end = -(-first // PER_EPOCH) * FRAMES
        expected = straight[first * BATCH : end]
        assert sorted(read(folder, start)[: len(expected)]) == sorted(expected)
    assert len(read(folder, 3)) == (EPOCHS * PER_EPOCH - 20) * BATCH


def test_a_stop_saves_where_it_is_and_the_next_checkpoint_replaces_that(ended):
    files = [(ended / 'stopped' / f'files_{start}').read_text().split() for start in range(3)]
    assert files[0] == ['iter_5.pth']
    assert 'epoch_1.pth' in files[1] and 'iter_5.pth' not in files[1]
    assert not any(name.startswith('iter_') for name in files[2])
    text = log(ended / 'stopped')
    assert 'stopped (SIGTERM) in epoch 1, after iteration 5 of 36: --resume goes on there' in text
    assert f'continuing in epoch 1 of 3, after iteration 5 of {PER_EPOCH}' in text
    assert 'stopped (SIGTERM) after epoch 1' in text


def test_a_stop_while_gradients_accumulate_waits_for_the_step(ended):
    assert (ended / 'accumulated_stopped' / 'files_0').read_text() == 'iter_6.pth'


def test_a_stop_in_one_process_stops_all_at_a_logged_iteration(ended):
    assert (ended / 'ranks_stopped' / 'files_0').read_text() == 'iter_4.pth'


def test_a_checkpoint_within_an_epoch_of_another_length_is_refused(ended, tmp_path):
    from tests.engine.conftest import ToyFrames, runner_config
    from vasomim.engine import PretrainRunner
    from vasomim.errors import CheckpointError

    source = ended / 'killed_0' / 'run' / 'iter_35.pth'
    config = runner_config(tmp_path, epochs=EPOCHS, batch=4, resume=True, load_from=str(source))
    config['train_dataloader']['dataset'] = ToyFrames(FRAMES)
    config['optim_wrapper']['optimizer'] = {'type': 'AdamW', 'lr': 0.01}
    with pytest.raises(
        CheckpointError, match=r'iter_35\.pth: it lies 11 iterations into an epoch of 12, but .* of 6\.'
    ):
        PretrainRunner(**config).train()
