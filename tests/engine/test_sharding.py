"""Two real processes that divide a model among them, beside two that copy it and one alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vasomim.engine import PretrainRunner, ShardedRunner
from vasomim.errors import ConfigError
from vasomim.masking import MaskPlan
from vasomim.tensorfiles import read_file

ROOT = Path(__file__).parents[2]

PROGRAM = """
import json, os, sys, torch
from conftest import random_batch, sharding_config
from vasomim.engine import PretrainRunner, ShardedRunner
from torch.distributed.tensor import DTensor

root = sys.argv[1]


def train(runner_class, name, **changes):
    runner = runner_class(**sharding_config(f'{root}/{name}', launcher='pytorch', **changes))
    runner.train()
    return runner


train(PretrainRunner, 'copied')
runner = train(ShardedRunner, 'sharded')
trained = [p for p in runner.model.parameters() if p.requires_grad]
kept = [s['exp_avg'] for s in runner.optim_wrapper.optimizer.state.values()]
numbers = {
    'parameters': sum(p.numel() for p in trained),
    'own': sum(p.to_local().numel() for p in trained),
    'averages': sum(a.to_local().numel() for a in kept),
    'masked': runner.message_hub.get_scalar('train/vessel_masked')._log_history[0].tolist(),
}
with open(f'{root}/rank{runner.rank}.json', 'w') as file:
    json.dump(numbers, file)
train(ShardedRunner, 'resumed', resume=True, load_from=f'{root}/sharded/epoch_1.pth')

# A gradient of copies, with all that it depends on.
copies = PretrainRunner(**sharding_config(f'{root}/gradient', launcher='pytorch')).model
model = copies.module
model.progress = 1.0
plans = []
draw = model.draw
model.draw = lambda *arguments: plans.append(draw(*arguments)) or plans[-1]
torch.manual_seed(runner.rank)
frames, samples = random_batch(3)
losses = copies(frames, samples, mode='loss')
(losses['loss_rec'] + losses['loss_cons']).backward()
anatomy = [sample.anatomy for sample in samples]
gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.requires_grad}
content = (frames, anatomy, vars(plans[0]), model.state_dict(), gradients)
torch.save(content, f'{root}/gradient{runner.rank}.pt')
"""


@pytest.fixture(scope='module')
def trained(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('sharded')
    program = root / 'program.py'
    program.write_text(PROGRAM)
    command = [sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node=2', '--standalone', program, root]
    paths = os.pathsep.join([str(ROOT), str(ROOT / 'tests' / 'engine')])
    environment = {**os.environ, 'PYTHONPATH': paths, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-8000:]
    return root


def checkpoint(path: Path) -> dict:
    return read_file(path)


def assert_same(found: dict, expected: dict, tolerance: float) -> None:
    """Weights, and what the optimizer keeps of each of them."""
    assert list(found['state_dict']) == list(expected['state_dict'])
    for name, tensor in expected['state_dict'].items():
        torch.testing.assert_close(found['state_dict'][name], tensor, rtol=0, atol=tolerance, msg=name)
    groups = [[group['params'] for group in state['optimizer']['param_groups']] for state in (found, expected)]
    assert groups[0] == groups[1]
    assert found['optimizer']['state'].keys() == expected['optimizer']['state'].keys()
    for index, state in expected['optimizer']['state'].items():
        for key in ('step', 'exp_avg', 'exp_avg_sq'):
            torch.testing.assert_close(found['optimizer']['state'][index][key], state[key], rtol=0, atol=tolerance)


@pytest.mark.slow
def test_shares_train_to_the_weights_of_copies_and_resume(trained, tmp_path, toy):
    sharded = checkpoint(trained / 'sharded' / 'epoch_2.pth')
    assert_same(sharded, checkpoint(trained / 'copied' / 'epoch_2.pth'), 1e-6)
    assert_same(checkpoint(trained / 'resumed' / 'epoch_2.pth'), sharded, 0)

    numbers = [json.loads((trained / f'rank{rank}.json').read_text()) for rank in (0, 1)]
    total = numbers[0]['parameters']
    assert sum(number['own'] for number in numbers) == sum(number['averages'] for number in numbers) == total
    assert all(abs(number['own'] / total - 0.5) < 0.05 for number in numbers)
    assert numbers[0]['masked'] != numbers[1]['masked']  # Each process draws its own masks.
    assert (trained / 'sharded' / 'figures' / 'epoch_2.png').is_file()

    # A sharded run goes on in one process.
    alone = PretrainRunner(
        **toy.sharding(tmp_path, resume=True, load_from=str(trained / 'sharded' / 'epoch_1.pth'), epochs=2)
    )
    alone.train()
    assert alone.iter == 4 + 4  # Two iterations of two processes count as an epoch of one.


@pytest.mark.slow
def test_two_processes_give_the_gradient_of_the_joined_batch(trained, toy, tmp_path):
    first, second = (torch.load(trained / f'gradient{rank}.pt', weights_only=True) for rank in (0, 1))
    frames, anatomy, plan = torch.cat((first[0], second[0])), first[1] + second[1], {}
    for name in first[2]:
        plan[name] = torch.cat((first[2][name], second[2][name]))
    assert not torch.equal(first[0], second[0])
    assert not torch.equal(first[2]['mask'], second[2]['mask'])

    model = toy.sharding(tmp_path)['model']
    model.load_state_dict(first[3])
    model.draw = lambda *_: MaskPlan(**plan)
    losses = model(frames, toy.samples(anatomy), mode='loss')
    (losses['loss_rec'] + losses['loss_cons']).backward()
    for name, gradient in first[4].items():
        assert torch.equal(gradient, second[4][name])
        torch.testing.assert_close(model.get_parameter(name).grad, gradient, rtol=1e-4, atol=1e-7, msg=name)
    assert max(gradient.abs().max() for gradient in first[4].values()) > 1e-2


def test_one_process_has_nothing_to_divide(toy, tmp_path):
    with pytest.raises(ConfigError, match='there is one process, and nothing to divide'):
        ShardedRunner(**toy.config(tmp_path))


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'default_scope': 'mmseg'}, 'it is for pre-training'),
        ({'model_wrapper_cfg': {'type': 'MMDistributedDataParallel'}}, 'ShardedRunner divides the model itself'),
    ],
)
def test_what_cannot_be_divided_is_an_error(toy, tmp_path, monkeypatch, changes, message):
    monkeypatch.setattr(ShardedRunner, 'distributed', True)
    runner = ShardedRunner.__new__(ShardedRunner)
    runner.cfg = changes
    with pytest.raises(ConfigError, match=message):
        runner.wrap_model(changes.get('model_wrapper_cfg'), toy.Model())
