"""Pictures while training: when, of what, and without a trace in the training."""

from __future__ import annotations

from contextlib import nullcontext

import cv2
import numpy as np
import pytest
import torch
from mmengine.hooks import Hook

from vasomim.engine import PretrainRunner
from vasomim.engine.figures import ReconstructionFigureHook, own_randomness


def test_pictures_every_few_epochs_and_after_the_last(toy, tmp_path):
    hooks = {'figures': {'type': 'ReconstructionFigureHook', 'interval': 2, 'num': 3}}
    config = toy.config(
        tmp_path,
        epochs=5,
        hooks=hooks,
        visualizer={'type': 'Visualizer', 'vis_backends': [{'type': 'LocalVisBackend'}]},
    )
    PretrainRunner(**config).train()
    assert sorted(path.name for path in (tmp_path / 'figures').iterdir()) == [
        'epoch_2.png',
        'epoch_4.png',
        'epoch_5.png',
    ]
    picture = cv2.imread(str(tmp_path / 'figures' / 'epoch_5.png'))[..., ::-1]
    assert picture.shape == (26 + 3 * 230, 6 + 3 * 230, 3)  # three frames, no guidance column
    # The backend got the same picture.
    backend = cv2.imread(str(next(tmp_path.rglob('reconstruction_5.png'))))[..., ::-1]
    np.testing.assert_array_equal(backend, picture)


def test_the_training_is_not_disturbed(toy, tmp_path):
    class DrawAfterFigure(Hook):
        priority = 'LOWEST'
        drawn: tuple = ()

        def after_train_epoch(self, runner, metrics=None):
            self.drawn = (float(torch.rand(1)), float(np.random.rand()), runner.model.training)

    draws = []
    for interval in (1, 100):
        hook = DrawAfterFigure()
        figures = {'figures': {'type': 'ReconstructionFigureHook', 'interval': interval}}
        runner = PretrainRunner(**toy.config(tmp_path / str(interval), epochs=3, hooks=figures, custom_hooks=[hook]))
        runner.train()
        draws.append((hook.drawn, runner.model.backbone.weight.detach().clone()))
    assert draws[0][0] == draws[1][0] and draws[0][0][2]
    assert torch.equal(draws[0][1], draws[1][1])


def test_own_randomness_repeats_and_restores():
    torch.manual_seed(1)
    np.random.seed(1)
    expected = [torch.rand(1).item(), np.random.rand()]
    torch.manual_seed(1)
    np.random.seed(1)
    inside = []
    for _ in range(2):
        with own_randomness(5):
            inside.append((torch.rand(1).item(), np.random.rand()))
    assert inside[0] == inside[1] != tuple(expected)
    assert [torch.rand(1).item(), np.random.rand()] == expected


@pytest.mark.parametrize(('gpus', 'asked'), [(0, []), (4, [2])])
def test_own_randomness_leaves_the_gpus_of_other_processes_alone(monkeypatch, gpus, asked):
    found = []
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, 'current_device', lambda: 2)
    monkeypatch.setattr(torch.random, 'fork_rng', lambda devices=None: found.append(devices) or nullcontext())
    with own_randomness(5):
        pass
    assert found == [asked]


def test_a_picture_that_fails_is_a_warning(toy, tmp_path, capsys):
    class Broken(toy.Model):
        def reconstruct(self, frames, samples):
            raise RuntimeError('no picture today')

    (tmp_path / 'figures').touch()  # Where the folder should be.
    figures = {'figures': {'type': 'ReconstructionFigureHook', 'interval': 1}}
    for model in (toy.Model(), Broken()):
        runner = PretrainRunner(**toy.config(tmp_path, epochs=1, hooks=figures, model=model))
        runner.train()
        assert runner.epoch == 1 and runner.model.training
    assert capsys.readouterr().out.count('the picture of epoch 1 failed') == 2


def test_a_model_that_reconstructs_nothing_trains_without_pictures(toy, tmp_path, capsys):
    class Plain(toy.Model):
        reconstruct = property()  # hasattr() is False.

    figures = {'figures': {'type': 'ReconstructionFigureHook', 'interval': 1}}
    runner = PretrainRunner(**toy.config(tmp_path, epochs=2, hooks=figures, model=Plain()))
    runner.train()
    assert runner.epoch == 2 and not (tmp_path / 'figures').exists()
    assert capsys.readouterr().out.count('no figures') == 1


@pytest.mark.parametrize('options', [{'interval': 0}, {'num': 0}])
def test_nonsense_is_refused(options):
    with pytest.raises(ValueError, match='must be positive'):
        ReconstructionFigureHook(**options)
