"""When a run saves and leaves, and what it keeps; killed in processes of its own it is in test_faults.py."""

from __future__ import annotations

import itertools
import os
import signal
from types import SimpleNamespace

import pytest
from mmengine.hooks import Hook, LoggerHook

from vasomim.engine import PretrainRunner
from vasomim.engine.saving import STOPPED, SafeCheckpointHook


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
