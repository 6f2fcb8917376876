"""The runner: learning rate, continuation, workers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from vasomim.checkpoints.runs import last_checkpoint
from vasomim.engine import PretrainRunner
from vasomim.engine.runner import ScaledRate
from vasomim.errors import CheckpointError, ConfigError


class StopHook(Hook):
    """Interrupts the training at the start of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def before_train_epoch(self, runner: Runner) -> None:
        if runner.epoch == self.epoch:
            raise KeyboardInterrupt


OTHER = (
    r'epoch_2\.pth: it is of another architecture than this ToyModel: 2 tensors differ '
    r'\(backbone.weight, backbone.bias\)\.\n  Pass the config'
)


def weights(runner: Runner) -> torch.Tensor:
    return torch.cat([value.flatten() for value in runner.model.state_dict().values()])


def test_the_learning_rate_counts_batch_processes_and_accumulation():
    rate = ScaledRate(base=1.5e-4, reference=256, batch=32, processes=2, accumulation=1)
    assert str(rate) == ('learning rate 1.5e-04 x 64/256 = 3.75e-05 (batch 32 x 2 processes x 1 accumulation step)')
    assert rate.factor == 0.25
    assert ScaledRate(1.0, 8, 2, 1, 3).factor == 0.75


def test_the_optimizer_gets_the_scaled_rate_and_the_terminal_says_so(toy, tmp_path, capsys):
    config = toy.config(tmp_path, auto_scale_lr={'enable': True, 'base_batch_size': 16}, param_scheduler=None)
    config['optim_wrapper']['accumulative_counts'] = 3
    runner = PretrainRunner(**config)
    runner.train()
    # 0.1 x (4 frames x 1 process x 3 iterations) / 16
    assert [group['lr'] for group in runner.optim_wrapper.optimizer.param_groups] == pytest.approx([0.075, 0.075])
    assert runner.message_hub.get_scalar('train/base_lr').current() == pytest.approx(0.075)
    assert (
        'learning rate 1.0e-01 x 12/16 = 7.50e-02 (batch 4 x 1 process x 3 accumulation steps)'
        in capsys.readouterr().out
    )


def test_scaling_without_a_reference_batch_is_an_error(toy, tmp_path):
    runner = PretrainRunner(**toy.config(tmp_path, auto_scale_lr={'enable': True}))
    with pytest.raises(ConfigError, match='base_batch_size'):
        runner.train()


@pytest.mark.parametrize('workers', [0, 2])
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(toy, tmp_path, workers):
    def config(work_dir: object, **changes: object) -> dict:
        config = toy.config(work_dir, epochs=4, **changes)
        config['train_dataloader']['num_workers'] = workers
        return config

    straight = PretrainRunner(**config(tmp_path / 'straight'))
    straight.train()
    with pytest.raises(KeyboardInterrupt):
        PretrainRunner(**config(tmp_path / 'resumed', custom_hooks=[StopHook(epoch=2)])).train()
    # Another seed in the config: the checkpoint's is the one that counts.
    resumed = PretrainRunner(**config(tmp_path / 'resumed', resume=True, randomness={'seed': 7}))
    assert not torch.equal(weights(resumed), weights(straight))
    resumed.train()
    assert resumed.epoch == straight.epoch == 4
    assert torch.equal(weights(resumed), weights(straight))


def test_the_same_frame_is_augmented_differently_in_each_epoch(toy, tmp_path):
    """mmengine's own seeding repeats the numbers of a worker in every epoch."""
    brightness: dict[int, list[float]] = {0: [], 1: []}

    class Watch(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            drawn = [float(frame.float().mean()) for frame in data_batch['inputs']]
            brightness[runner.epoch].extend(drawn)

    config = toy.config(tmp_path, custom_hooks=[Watch()])
    config['train_dataloader'].update(num_workers=1, sampler={'type': 'DefaultSampler', 'shuffle': False})
    PretrainRunner(**config).train()
    assert len(brightness[0]) == 12
    assert brightness[0] != brightness[1]


def test_the_rate_of_a_resumed_run_wins_over_the_config(toy, tmp_path, capsys):
    scaled = {'enable': True, 'base_batch_size': 8}
    PretrainRunner(**toy.config(tmp_path, epochs=1, batch=4, auto_scale_lr=scaled)).train()
    resumed = PretrainRunner(**toy.config(tmp_path, epochs=2, batch=2, auto_scale_lr=scaled, resume=True))
    rates: list[float] = []
    resumed.register_hook(RecordRate(rates))
    resumed.train()
    # Half of 0.1 after one of the schedule's four epochs, 0.05 (1 + cos(pi / 4)) / 2; not a quarter of it.
    assert rates[0] == pytest.approx(0.05 * (1 + 2**-0.5) / 2)
    assert 'the learning rate of the resumed run is kept: 5.00e-02' in capsys.readouterr().out


SCHEDULES = {
    'ours': [{'type': 'WarmupCosineLR', 'warmup': 0.25}],
    'cosine': [
        {'type': 'LinearLR', 'start_factor': 0.1, 'end': 2},
        {'type': 'CosineAnnealingLR', 'begin': 2, 'end': 4},
    ],
    'steps': [{'type': 'MultiStepLR', 'milestones': [1, 3]}],
}


@pytest.mark.parametrize('batch', [2, 6, 12])
@pytest.mark.parametrize('schedule', SCHEDULES)
@pytest.mark.parametrize('accumulation', [1, 2])
def test_after_an_epoch_a_run_goes_on_in_epochs_of_another_length(toy, tmp_path, schedule, batch, accumulation):
    """Batches of 4 make three iterations; the rates are those of a run that had the other batch from the start."""

    def train(work_dir: Path, batch: int, **changes: object) -> tuple[list[float], PretrainRunner]:
        rates: list[float] = []
        each = [{'convert_to_iter_based': True, 'by_epoch': True, **item} for item in SCHEDULES[schedule]]
        config = toy.config(work_dir, epochs=4, batch=batch, param_scheduler=each, **changes)
        config['optim_wrapper'] = {**config['optim_wrapper'], 'accumulative_counts': accumulation}
        config['custom_hooks'] = [*config.get('custom_hooks', []), RecordRate(rates)]
        runner = PretrainRunner(**config)
        if 'custom_hooks' in changes:
            with pytest.raises(KeyboardInterrupt):
                runner.train()
        else:
            runner.train()
        return rates, runner

    expected, straight = train(tmp_path / 'straight', batch)
    train(tmp_path / 'run', 4, custom_hooks=[StopHook(epoch=2)])
    found, resumed = train(tmp_path / 'run', batch, resume=True)
    assert resumed.iter == straight.iter == resumed.max_iters
    half = len(expected) // 2
    assert len(found) == half
    assert found == pytest.approx(expected[half:], rel=1e-6)


class RecordRate(Hook):
    def __init__(self, rates: list[float]) -> None:
        self.rates = rates

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.rates.append(runner.optim_wrapper.get_lr()['lr'][0])


def test_a_finished_run_says_so(toy, tmp_path, capsys):
    PretrainRunner(**toy.config(tmp_path)).train()
    capsys.readouterr()
    runner = PretrainRunner(**toy.config(tmp_path, resume=True))
    runner.train()
    assert 'this run is finished: 2 of 2 epochs. Its schedule has ended' in capsys.readouterr().out
    assert isinstance(runner.train_loop, EpochBasedTrainLoop)


def test_a_checkpoint_of_another_model_is_refused(toy, tmp_path):
    runner = PretrainRunner(**toy.config(tmp_path))
    runner.train()
    other = toy.Model()
    other.backbone = torch.nn.Linear(64, 32)
    resumed = PretrainRunner(**toy.config(tmp_path, model=other, resume=True))
    with pytest.raises(CheckpointError, match=OTHER):
        resumed.train()


def test_a_disk_that_fills_leaves_earlier_checkpoints_whole(toy, tmp_path):
    """A limit on the size of files stands for the disk, in a process of its own, as it cannot be lifted again."""
    code = f"""
import resource, signal, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.engine.conftest import runner_config
from mmengine.hooks import Hook
from vasomim.engine import PretrainRunner
from vasomim.errors import CheckpointError
class Fill(Hook):
    def before_train_epoch(self, runner):
        if runner.epoch == 1:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (15000, resource.RLIM_INFINITY))
try:
    PretrainRunner(**runner_config({str(tmp_path)!r}, epochs=3, custom_hooks=[Fill()])).train()
except CheckpointError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=120, check=False)
    assert 'epoch_2.pth: it cannot be written: File too large.' in done.stdout, done.stdout + done.stderr
    assert [path.name for path in tmp_path.glob('epoch_*')] == ['epoch_1.pth']
    assert last_checkpoint(tmp_path) == tmp_path / 'epoch_1.pth'
    resumed = PretrainRunner(**toy.config(tmp_path, epochs=3, resume=True))
    resumed.train()
    assert resumed.epoch == 3


@pytest.mark.parametrize('rank', [0, 1])
def test_the_first_process_alone_writes_checkpoints(toy, tmp_path, monkeypatch, rank):
    runner = PretrainRunner(**toy.config(tmp_path, epochs=1))
    runner.train()
    cut_off = tmp_path / '.epoch_1.pth.17.0.part'
    cut_off.write_bytes(b'cut off')
    before = (tmp_path / 'epoch_1.pth').read_bytes()
    monkeypatch.setattr('mmengine.dist.utils.get_rank', lambda group=None: rank)
    runner.save_checkpoint(str(tmp_path), 'epoch_1.pth')
    assert last_checkpoint(tmp_path) == tmp_path / 'epoch_1.pth'
    # The first process has written it anew, another one has touched nothing.
    assert ((tmp_path / 'epoch_1.pth').read_bytes() == before) == (rank == 1)
    assert cut_off.is_file() == (rank == 1)


def test_the_old_checkpoint_is_there_until_the_new_one_is(toy, tmp_path):
    found: list[list[str]] = []

    class Look(Hook):
        def before_save_checkpoint(self, runner, checkpoint):
            found.append(sorted(path.name for path in tmp_path.glob('*.pth')))

    hook = {'checkpoint': {'type': 'SafeCheckpointHook', 'interval': 1, 'max_keep_ckpts': 1}}
    PretrainRunner(**toy.config(tmp_path, epochs=3, hooks=hook, custom_hooks=[Look()])).train()
    assert found == [[], ['epoch_1.pth'], ['epoch_2.pth']]
    assert [path.name for path in tmp_path.glob('*.pth')] == ['epoch_3.pth']
    PretrainRunner(**toy.config(tmp_path, epochs=5, hooks=hook, resume=True)).train()
    assert [path.name for path in tmp_path.glob('*.pth')] == ['epoch_5.pth']


def test_workers_do_not_outnumber_the_cores(toy, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr('vasomim.engine.runner.cores', lambda: 2)
    config = toy.config(tmp_path)
    config['train_dataloader']['num_workers'] = 8
    assert PretrainRunner(**config).build_dataloader(config['train_dataloader']).num_workers == 2
    assert '2 loader workers instead of 8' in capsys.readouterr().out
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '4')
    assert PretrainRunner.build_dataloader(config['train_dataloader']).num_workers == 1


def test_a_damaged_checkpoint_is_refused(toy, tmp_path):
    PretrainRunner(**toy.config(tmp_path)).train()
    path = tmp_path / 'epoch_2.pth'
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(CheckpointError, match=r'epoch_2\.pth'):
        PretrainRunner(**toy.config(tmp_path, resume=True)).train()


def test_an_optimizer_of_other_groups_is_refused(toy, tmp_path):
    PretrainRunner(**toy.config(tmp_path)).train()
    config = toy.config(tmp_path, epochs=3, resume=True)
    del config['optim_wrapper']['constructor']
    with pytest.raises(CheckpointError, match='the state of its optimizer does not fit'):
        PretrainRunner(**config).train()


def test_frames_that_fill_no_batch_are_an_error(toy, tmp_path):
    config = toy.config(tmp_path, batch=16)
    config['train_dataloader']['drop_last'] = True
    with pytest.raises(
        ConfigError, match=r'12 frames do not fill one batch of 16 in each of 1 process.*\n.*batch_size'
    ):
        PretrainRunner(**config).train()
