"""What the terminal shows, and what only the log file holds."""

from __future__ import annotations

import io
import logging
import re

import pytest
import rich
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from rich.console import Console

from vasomim.engine import PretrainRunner, ProgressHook
from vasomim.engine.terminal import TerminalHandler, count, duration, millions, tell
from vasomim.errors import TrainingError


class HeldOutLoss(BaseMetric):
    default_prefix = 'reconstruction'

    def process(self, data_batch, data_samples):
        self.results.extend(float(sample['loss_rec']) for sample in data_samples)

    def compute_metrics(self, results):
        return {'loss_rec': sum(results) / len(results)}


class RefreshHook(Hook):
    """Draws the bar at every step; left alone it is drawn four times a second."""

    priority = 'LOWEST'

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        next(hook for hook in runner.hooks if isinstance(hook, ProgressHook)).bar.refresh()


def with_validation(toy, config: dict, **interval: int) -> dict:
    config['train_cfg'].update(interval)
    loader = {'dataset': toy.Frames(4), 'batch_size': 2, 'num_workers': 0, 'sampler': {'type': 'DefaultSampler'}}
    return {**config, 'val_dataloader': loader, 'val_cfg': {}, 'val_evaluator': Evaluator(HeldOutLoss())}


def test_a_line_per_epoch_and_no_configuration_dump(toy, tmp_path, capsys):
    runner = PretrainRunner(**with_validation(toy, toy.config(tmp_path), val_interval=2))
    runner.train()
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    lines = lines[next(index for index, line in enumerate(lines) if line.startswith('learning rate')) :]
    assert lines[1:3] == [
        'ToyModel: 4.2 k of 4.2 k parameters trained on cpu',
        f'12 frames, 4 held out; 2 epochs of 3 iterations; results in {tmp_path}',
    ]
    losses = r'loss 0\.\d{4} \(rec 0\.\d{4}, cons 0\.\d{4}\)  vessel_masked 0\.\d{3}'
    assert re.fullmatch(rf'epoch 1/2  {losses}  lr 1\.0e-01  data \d+%  0:00', lines[3])
    assert re.fullmatch(rf'epoch 2/2  {losses}  lr 8\.5e-02  data \d+%  0:00  held-out loss_rec 0\.\d{{4}}', lines[4])
    assert lines[5] == f'done in 0:00: {tmp_path}/epoch_2.pth'
    assert len(lines) == 6

    log = next(tmp_path.rglob('*.log')).read_text()
    assert 'System environment' in log and 'Epoch(train)' in log and lines[4] in log
    hub = runner.message_hub
    assert f'loss {hub.get_scalar("train/loss").mean(3):.4f}' in lines[4]  # of the second epoch's three steps
    assert f'held-out loss_rec {hub.get_scalar("val/reconstruction/loss_rec").current():.4f}' in lines[4]


def test_a_bar_on_a_terminal(toy, tmp_path, monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(rich, '_console', Console(file=screen, force_terminal=True, width=120, color_system=None))
    runner = PretrainRunner(**with_validation(toy, toy.config(tmp_path, batch=1)))
    runner.register_hook(RefreshHook())
    runner.train()
    shown = screen.getvalue()
    assert re.search(r'epoch 2/2 ━+ +\d+/12 loss 0\.\d{4}  [\d,.]+ frames/s  0:0\d left', shown)
    assert shown.count('held-out loss_rec') == 2
    assert shown.rindex('\x1b[?25h') > shown.rindex('\x1b[?25l')  # the cursor that the bar hid is shown again


def test_the_bar_goes_when_the_training_fails(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(rich, '_console', Console(file=io.StringIO(), force_terminal=True, width=120))
    runner = PretrainRunner(**toy.config(tmp_path, model=toy.Model(broken_frame='frames/001.png')))
    hook = next(hook for hook in runner.hooks if isinstance(hook, ProgressHook))
    with pytest.raises(TrainingError):
        runner.train()
    assert hook.bar is None


def test_short_lines_within_an_epoch_without_a_terminal(toy, tmp_path, capsys):
    hooks = {'progress': {'type': 'ProgressHook', 'interval': 1e-9}}
    PretrainRunner(**toy.config(tmp_path, epochs=1, batch=3, hooks=hooks)).train()
    lines = [line for line in capsys.readouterr().out.splitlines() if 'frames/s' in line]
    assert [re.sub(r'[\d,.]+ frames', 'N frames', line.split('loss')[0]) for line in lines] == [
        'epoch 1/1  1/4  N frames/s  0:00 left',
        'epoch 1/1  2/4  ',
        'epoch 1/1  3/4  ',
    ]
    # The loss shown is the last one read back: that of iteration 2, at 2 and at 3.
    assert lines[1].split('  ')[2] == lines[2].split('  ')[2]


def test_a_training_counted_in_iterations(toy, tmp_path, capsys):
    config = with_validation(toy, toy.config(tmp_path), val_interval=3)
    config['train_cfg'] = {'type': 'IterBasedTrainLoop', 'max_iters': 6, 'val_interval': 3}
    config['param_scheduler'] = None
    config['train_dataloader']['sampler'] = {'type': 'InfiniteSampler'}
    PretrainRunner(**config).train()
    lines = [line for line in capsys.readouterr().out.splitlines() if 'held-out' in line]
    assert [line.split('  ')[0] for line in lines] == ['iteration 3/6', 'iteration 6/6']


def test_the_terminal_shows_warnings_once_and_told_lines():
    screen = io.StringIO()
    logger = logging.Logger('some')
    logger.addHandler(TerminalHandler())
    previous, rich._console = rich._console, Console(file=screen, width=60)
    try:
        logger.info('in the file only')
        tell(logger, 'a line with [brackets] that is longer than the terminal is wide, and stays one line')
        logger.warning('careful')
        logger.warning('careful')
        logger.warning('"FileClient" will be deprecated in future')
        logger.error('wrong')
    finally:
        rich._console = previous
    assert screen.getvalue().splitlines() == [
        'a line with [brackets] that is longer than the terminal is wide, and stays one line',
        'Warning: careful',
        'Error: wrong',
    ]


def test_words():
    assert [count(1, 'process'), count(2, 'process'), count(1200, 'frame')] == [
        '1 process',
        '2 processes',
        '1,200 frames',
    ]
    assert [duration(seconds) for seconds in (7.4, 59.6, 750, 11100)] == ['0:07', '1:00', '12:30', '3:05:00']
    assert [millions(number) for number in (85_800_000, 99_999, 100_000)] == ['85.8 M', '100.0 k', '0.1 M']
