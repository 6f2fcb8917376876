"""When a run saves and leaves, and what it keeps; killed in processes of its own it is in test_faults.py."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
from types import SimpleNamespace

import pytest
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook, LoggerHook

from vasomim.engine import PretrainRunner
from vasomim.engine.saving import STOPPED, SafeCheckpointHook
from vasomim.errors import CheckpointError


class EndedAtOnce(Exception):
    """What the handler raises that was there before the training."""


class Terminate(Hook):
    """Sends SIGTERM to itself in the second iteration, and again after some seconds by a clock of its own."""

    def __init__(self, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds, self.now = seconds, 100.0
        monkeypatch.setattr('vasomim.engine.saving.time', SimpleNamespace(monotonic=lambda: self.now))

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 1:
            os.kill(os.getpid(), signal.SIGTERM)
            self.now += self.seconds
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def handler():
    """A handler that was there before, as an interactive session might have one."""

    def end(number, frame):
        raise EndedAtOnce

    before = signal.signal(signal.SIGTERM, end)
    yield end
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(('seconds', 'ending'), [(0.0, SystemExit), (9.0, SystemExit), (11.0, EndedAtOnce)])
def test_a_repeated_signal_is_the_same_one_and_a_later_one_ends_at_once(
    toy, tmp_path, handler, monkeypatch, seconds, ending
):
    config = toy.config(tmp_path, custom_hooks=[Terminate(seconds, monkeypatch)])
    with pytest.raises(ending) as caught:
        PretrainRunner(**config).train()
    saved = [path.name for path in tmp_path.glob('*.pth')]
    if ending is SystemExit:
        assert caught.value.code == STOPPED and saved == ['iter_2.pth']
    else:
        assert not saved
    assert signal.getsignal(signal.SIGTERM) is handler


def test_a_loop_that_cannot_save_anywhere_leaves_the_signal_alone(toy, tmp_path, handler, capsys):
    class Once(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            os.kill(os.getpid(), signal.SIGTERM)

    config = toy.config(tmp_path, custom_hooks=[Once()])
    config['train_cfg'] = {'type': 'IterBasedTrainLoop', 'max_iters': 4}
    with pytest.raises(EndedAtOnce):
        PretrainRunner(**config).train()
    assert 'IterBasedTrainLoop saves nothing at SIGTERM' in capsys.readouterr().out
    assert signal.getsignal(signal.SIGTERM) is handler


@pytest.mark.parametrize('processes', [1, 2])
@pytest.mark.parametrize('accumulation', [1, 2, 3, 10, 16])
def test_every_epoch_has_places_to_save_at(tmp_path, monkeypatch, processes, accumulation):
    """Whatever the length of an epoch, which an odd one shifts against the steps of the optimizer."""
    length, places = 653, []
    hook = SafeCheckpointHook()
    monkeypatch.setattr('vasomim.engine.saving.get_world_size', lambda: processes)
    monkeypatch.setattr(hook, 'act', lambda runner, epoch, iteration: places.append((epoch, iteration)))
    runner = SimpleNamespace(
        hooks=[LoggerHook(interval=10)],
        optim_wrapper=SimpleNamespace(_accumulative_counts=accumulation),
        train_dataloader=range(length),
    )
    for iteration in range(4 * length):
        runner.iter, runner.epoch = iteration, iteration // length
        hook.after_train_iter(runner, iteration % length)
    assert all(iteration % accumulation == 0 for _, iteration in places)
    for epoch in range(4):
        own = [iteration for number, iteration in places if number == epoch]
        gaps = [after - before for before, after in itertools.pairwise(own)]
        assert max(gaps) <= (accumulation if processes == 1 else max(10, accumulation))
        assert own[0] - epoch * length <= max(gaps) and (epoch + 1) * length - own[-1] <= max(gaps)


class Rising(BaseMetric):
    """Two scores, one that rises with each validation and one that does so once."""

    validations = 0

    def process(self, data_batch, data_samples):
        self.results.append(None)

    def compute_metrics(self, results):
        self.validations += 1
        return {'score': self.validations, 'other': min(self.validations, 2)}


class Look(Hook):
    """Writes down the best checkpoints that lie in a folder while another checkpoint is saved."""

    def __init__(self, folder):
        self.folder, self.found = folder, []

    def before_save_checkpoint(self, runner, checkpoint):
        self.found.append({path.name for path in self.folder.glob('best_*')})


def with_validation(toy, tmp_path, save_best, **changes):
    hook = {'type': 'SafeCheckpointHook', 'interval': 1, 'save_best': save_best, 'rule': 'greater'}
    config = toy.config(tmp_path, hooks={'checkpoint': hook}, **changes)
    loader = {'dataset': toy.Frames(4), 'batch_size': 2, 'sampler': {'type': 'DefaultSampler'}}
    return {**config, 'val_dataloader': loader, 'val_cfg': {}, 'val_evaluator': [Rising()]}


@pytest.mark.parametrize('save_best', ['score', 'auto', ['score', 'other']])
def test_the_best_checkpoint_is_there_until_a_better_one_is(toy, tmp_path, save_best):
    look = Look(tmp_path)
    PretrainRunner(**with_validation(toy, tmp_path, save_best, epochs=3, custom_hooks=[look])).train()
    metrics = ['score', 'other'] if isinstance(save_best, list) else ['score']
    for metric in metrics:
        there = [any(name.startswith(f'best_{metric}_') for name in found) for found in look.found]
        assert there == sorted(there) and there[-1]  # Once it is there it does not go.
    last = {'score': 3, 'other': 2}
    files = {path.name for path in tmp_path.glob('best_*')}
    assert files == {f'best_{name}_epoch_{last[name]}.pth' for name in metrics}


@pytest.mark.parametrize('save_best', ['score', ['score', 'other']])
def test_a_disk_that_fills_leaves_the_best_checkpoint(toy, tmp_path, monkeypatch, save_best):
    import mmengine.runner.runner as module

    save = module.save_checkpoint

    def fill(checkpoint, filename, **kwargs):
        if 'best_score_epoch_2' in filename:
            raise OSError(28, 'No space left on device')
        save(checkpoint, filename, **kwargs)

    monkeypatch.setattr(module, 'save_checkpoint', fill)
    with pytest.raises(CheckpointError, match=r'best_score_epoch_2.* cannot be written: No space left'):
        PretrainRunner(**with_validation(toy, tmp_path, save_best, epochs=3)).train()
    assert 'best_score_epoch_1.pth' in {path.name for path in tmp_path.glob('*.pth')}


def test_a_copied_run_deletes_its_own_best_checkpoint(toy, tmp_path):
    PretrainRunner(**with_validation(toy, tmp_path / 'run', 'score', epochs=2)).train()
    shutil.copytree(tmp_path / 'run', tmp_path / 'copy')
    config = with_validation(toy, tmp_path / 'copy', 'score', epochs=4)
    config['val_evaluator'][0].validations = 2
    PretrainRunner(**config, resume=True, load_from=str(tmp_path / 'copy' / 'epoch_2.pth')).train()
    assert [path.name for path in (tmp_path / 'run').glob('best_*')] == ['best_score_epoch_2.pth']
    assert [path.name for path in (tmp_path / 'copy').glob('best_*')] == ['best_score_epoch_4.pth']


@pytest.mark.parametrize(('keep', 'left'), [(0, {1, 2, 3}), (-1, {1, 2, 3}), (2, {2, 3})])
def test_as_many_checkpoints_are_kept_as_asked_for(toy, tmp_path, keep, left):
    hook = {'checkpoint': {'type': 'SafeCheckpointHook', 'interval': 1, 'max_keep_ckpts': keep}}
    PretrainRunner(**toy.config(tmp_path, epochs=3, hooks=hook)).train()
    assert {path.name for path in tmp_path.glob('*.pth')} == {f'epoch_{epoch}.pth' for epoch in left}
