"""The speed benchmark: its references compute the same, and its rows say what was measured."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import speed
import torch
from mmpretrain.structures import DataSample
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms import RandomResizedCrop

from vasomim.anatomy import extract_anatomy
from vasomim.data.transforms import resize
from vasomim.frames.images import read_grey, read_mask
from vasomim.models import MaskedImageModeling
from vasomim.synthetic import simulate_frame


def test_the_reference_extracts_the_same_anatomy():
    frame = simulate_frame(3).image
    ours, reference = extract_anatomy(frame), speed.slow_anatomy(frame)
    assert np.logical_and(ours, reference).sum() / np.logical_or(ours, reference).sum() > 0.995


def test_anatomy_is_measured_beside_its_reference():
    one_core, all_cores = speed.measure_anatomy(frames=1, files=3)
    assert one_core.ratio == one_core.reference / one_core.ours
    assert one_core.ours > 0
    assert all_cores.ours > 0


def test_the_reference_makes_the_same_samples_as_the_loader(tmp_path, monkeypatch):
    ((frame, anatomy),) = speed.write_source(tmp_path, 1)
    monkeypatch.setattr(RandomResizedCrop, 'get_params', lambda *_: (30, 41, 300, 350))
    monkeypatch.setattr(np.random, 'random', lambda: 1.0)
    found, mask = speed.slow_sample(frame, anatomy, 'RGB')
    window = slice(30, 330), slice(41, 391)
    expected = resize(read_grey(frame)[window], (224, 224), smooth=True)
    assert found.shape == (3, 224, 224)
    assert np.abs(255 * found.numpy() - expected).max() <= 2
    assert np.mean(mask[0].numpy() != resize(read_mask(anatomy)[window], (224, 224), smooth=False)) < 0.01


def test_the_loader_is_measured_beside_pillow():
    rgb, grey, files = speed.measure_loader(frames=2, rounds=2)
    for row in (rgb, grey, files):
        assert row.ratio == pytest.approx(row.ours / row.reference)
    assert rgb.ours == grey.ours > files.ours
    assert rgb.ratio > 4  # 10 and more on a quiet machine.


def test_a_clock_decides_how_long_something_takes():
    ticks = iter([10.0, 12.5])
    done = []
    assert speed.seconds(lambda: next(ticks), done.append, 7) == 2.5
    assert done == [7]


def test_steps_are_measured_beside_mae():
    rows = speed.measure_steps(arch='tiny', batch=1, rounds=1, side=64)
    assert [row.name.split(',')[1].strip() for row in rows] == ['simmim', 'simmim', 'vasomim', 'vasomim']
    for row in rows:
        assert row.ours > 0
        assert row.reference > 0
        assert row.ratio == pytest.approx(row.ours / row.reference)


def transformer(tokens: int, width: int, layers: int) -> int:
    """Multiplications of a forward pass: projections, attention's two products, and a hidden layer of four widths."""
    return layers * (12 * tokens * width**2 + 2 * tokens**2 * width)


def test_operations_are_those_counted_by_hand():
    patches, width, decoder = (224 // 16) ** 2, 192, 512
    visible = patches // 2 + 1
    by_hand = patches * 16 * 16 * 3 * width + transformer(visible, width, 12) + visible * width * decoder
    by_hand += transformer(patches + 1, decoder, 8) + (patches + 1) * decoder * 16 * 16 * 3
    # Two operations each; backwards twice as many as forwards, but for the gradient of the frames, which nobody wants.
    wanted = 6 * by_hand - 2 * patches * 16 * 16 * 3 * width
    assert speed.count_operations('mae', 'tiny') == pytest.approx(wanted, rel=0.01)


def test_throughput_is_measured_beside_the_peak():
    rows = speed.measure_throughput(arch='tiny', batch=2, rounds=1, side=64)
    assert [row.unit for row in rows] == 2 * ['frames/s', 'TFLOP/s', 'GB']
    for rate, operations, memory in (rows[:3], rows[3:]):
        method = rate.name.split(',')[0]
        assert operations.ours == pytest.approx(rate.ours * speed.count_operations(method, 'tiny', 64) / 1e12)
        assert 0 < operations.ratio == pytest.approx(operations.ours / operations.reference)
        assert operations.ratio < 1 and memory.ours > 0


def test_options_are_measured_beside_a_step_without_them():
    time, memory = speed.measure_options(arch='tiny', batch=1, rounds=1, side=64, names=['bfloat16 autocast'])
    assert time.name == 'bfloat16 autocast, tiny, batch 1, cpu'
    assert memory.name == 'peak memory, bfloat16 autocast'
    for row in (time, memory):
        assert row.ours > 0
        assert row.ratio == pytest.approx(row.ours / row.reference)


@pytest.mark.parametrize('change', ['attention by hand', 'channels first', 'checkpointing'])
def test_a_changed_step_has_the_same_gradients(change):
    gradients = []
    for each in (None, change):
        cells = [cell.cell_contents for cell in speed.build_step('vasomim', 'tiny', 2, 64, 'cpu', each).__closure__]
        model = next(cell for cell in cells if isinstance(cell, MaskedImageModeling))
        samples = [DataSample(), DataSample()]
        for sample in samples:
            sample.set_field(torch.ones(1, 64, 64, dtype=torch.uint8), 'anatomy', field_type='data')
        torch.manual_seed(3)
        sum(model(torch.randn(2, 3, 64, 64), samples, mode='loss').values()).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-3, atol=1e-6, msg=name)
    assert gradients[0]['backbone.layers.0.attn.qkv.weight'].abs().max() > 1e-4


def test_each_option_changes_what_it_names():
    def model_of(change):
        cells = [cell.cell_contents for cell in speed.build_step('vasomim', 'tiny', 2, 64, 'cpu', change).__closure__]
        return next(cell for cell in cells if isinstance(cell, MaskedImageModeling))

    default = model_of(None)
    calls = []
    for each in ('fused', 'by hand'):
        model = default if each == 'fused' else model_of('attention by hand')
        with CountAttention() as counted:
            model.neck.decoder_blocks[0](torch.randn(1, 5, 512))
        calls.append(counted.calls)
    assert calls == [1, 0]
    weight = 'encoder.0.conv.weight'
    assert default.segmentor.get_parameter(weight).is_contiguous(memory_format=torch.channels_last)
    first = model_of('channels first').segmentor
    assert first.get_parameter(weight).is_contiguous()
    assert not default.backbone.checkpointing
    assert model_of('checkpointing').backbone.checkpointing


def test_the_size_of_a_step_is_an_option(monkeypatch, capsys):
    asked = []
    row = speed.Row('step', 'ms/frame', 1.0)
    monkeypatch.setattr(
        speed, 'SECTIONS', {name: lambda **sizes: asked.append(sizes) or [row] for name in speed.SECTIONS}
    )
    monkeypatch.setattr(sys, 'argv', ['speed.py', '--only', 'anatomy', 'step', '--arch', 'base', '--batch', '4'])
    speed.main()
    assert asked == [{}, {'arch': 'base', 'batch': 4}]
    assert 'ms/frame' in capsys.readouterr().out


class CountAttention(TorchDispatchMode):
    """Counts PyTorch's fused attention."""

    calls = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        self.calls += 'scaled_dot_product' in str(function)
        return function(*arguments, **(options or {}))


def test_the_peak_of_a_process_is_its_own_and_not_its_parents():
    held = np.ones(400_000_000, np.uint8)
    code = 'import speed; print(speed.peak_of_process())'
    environment = {**os.environ, 'PYTHONPATH': str(Path(speed.__file__).parent)}
    done = subprocess.run([sys.executable, '-c', code], env=environment, capture_output=True, text=True, check=True)
    assert 0.02 < float(done.stdout) < 0.4 < speed.peak_of_process()
    assert held.all()
