"""Skipped frames are counted and listed."""

from __future__ import annotations

import os
import signal

import pytest
from mmengine.hooks import Hook

from vasomim.engine import PretrainRunner


def test_skipped_frames_are_listed_once_and_across_a_resumed_run(toy, tmp_path, capsys):
    def train(epochs: int, skipped: dict, **changes: object) -> str:
        config = toy.config(tmp_path, epochs=epochs, hooks={'skipped': {'type': 'SkippedFramesHook'}}, **changes)
        config['train_dataloader']['dataset'] = toy.Frames(12, skipped)
        PretrainRunner(**config).train()
        return capsys.readouterr().out

    listed = tmp_path / 'skipped_frames.txt'
    assert 'corrupt' not in train(1, {})
    assert not listed.exists()

    out = train(2, {3: ['b.png', 'a.png'], 7: ['a.png']})
    assert listed.read_text() == 'a.png\nb.png\n'
    assert out.count(f'2 corrupt frames skipped so far: {listed}') == 1  # and not again in the second epoch

    out = train(3, {5: ['c.png']}, resume=True)
    assert listed.read_text() == 'a.png\nb.png\nc.png\n'
    assert '3 corrupt frames skipped so far' in out

    train(1, {1: ['z.png']})  # a new run starts a new list
    assert listed.read_text() == 'z.png\n'


def test_a_run_that_ends_within_an_epoch_loses_none(toy, tmp_path, capsys):
    class Stop(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            if runner.iter == 1:
                os.kill(os.getpid(), signal.SIGTERM)

    def runner(**changes: object) -> PretrainRunner:
        config = toy.config(tmp_path, epochs=1, hooks={'skipped': {'type': 'SkippedFramesHook'}}, **changes)
        config['train_dataloader'].update(
            dataset=toy.Frames(12, {1: ['b.png'], 10: ['a.png']}), sampler={'type': 'DefaultSampler', 'shuffle': False}
        )
        return PretrainRunner(**config)

    listed = tmp_path / 'skipped_frames.txt'
    with pytest.raises(SystemExit):
        runner(custom_hooks=[Stop()]).train()
    assert listed.read_text() == 'b.png\n'
    runner(resume=True).train()
    assert listed.read_text() == 'a.png\nb.png\n'
    assert '2 corrupt frames skipped so far' in capsys.readouterr().out
