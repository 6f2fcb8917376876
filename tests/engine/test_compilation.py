"""``compile`` in a config."""

from __future__ import annotations

import sysconfig

import pytest
import torch
from mmcv.cnn.bricks import DropPath
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from torch import nn

from vasomim.engine import PretrainRunner
from vasomim.engine.compilation import SharedDropPath, check_compiler, compile_parts
from vasomim.errors import ConfigError, StackError
from vasomim.tensorfiles import read_file


def compiler_is_missing() -> str:
    try:
        check_compiler()
    except StackError as error:
        return str(error)
    return ''


@pytest.mark.slow
def test_compiled_parts_train_to_the_same_weights(toy, tmp_path, capsys):
    weights = {}
    for name in ('eager', 'compiled'):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        config = toy.sharding(tmp_path / name, epochs=1)
        # Traced and differentiated as by default, but run by PyTorch's own kernels, which spares minutes of g++.
        config['cfg'] = {**config['cfg'], 'compile': name == 'compiled' and {'backend': 'aot_eager'}}
        PretrainRunner(**config).train()
        weights[name] = read_file(tmp_path / name / 'epoch_1.pth')['state_dict']
    assert torch._dynamo.utils.counters['frames']['ok'] > 0  # It did compile.
    assert list(weights['compiled']) == list(weights['eager'])
    for name, tensor in weights['eager'].items():
        torch.testing.assert_close(weights['compiled'][name], tensor, rtol=0, atol=1e-5, msg=name)
    # Two layers of the encoder, one of the decoder, the segmentor.
    assert '4 parts of the model compiled; the first steps take long' in capsys.readouterr().out


def test_layers_compile_without_a_break_and_share_what_was_compiled():
    from vasomim.models.plain_vit import PlainViT

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    arch = {'embed_dims': 24, 'num_layers': 12, 'num_heads': 3, 'feedforward_channels': 48}
    model = PlainViT(arch, img_size=64, drop_path_rate=0.1)
    names = list(model.state_dict())
    assert compile_parts(model, {'backend': 'eager'}) == 12
    model.train()
    model(torch.randn(2, 3, 64, 64))
    counters = torch._dynamo.utils.counters
    assert not counters['graph_break'] and not counters['unimplemented']
    # One without dropped paths, the first, and one for the other eleven.
    assert counters['stats']['unique_graphs'] == 2
    assert list(model.state_dict()) == names


@pytest.mark.parametrize('kind', ['RotaryViT', 'windows'])
def test_layers_with_a_forward_pass_of_ours_compile_as_well(kind):
    from vasomim.models.plain_vit import PlainViT
    from vasomim.models.rotary_vit import RotaryViT

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    torch.manual_seed(0)
    arch = {'embed_dims': 24, 'num_layers': 4, 'num_heads': 3, 'feedforward_channels': 48}
    if kind == 'RotaryViT':
        model = RotaryViT(arch=arch, img_size=64)
    else:
        model = PlainViT(arch, img_size=64, window_size=2, global_layers=[3])
    model.eval()
    frames = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = model(frames)
        assert compile_parts(model, {'backend': 'eager'}) == 4
        found = model(frames)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    counters = torch._dynamo.utils.counters
    assert not counters['graph_break']
    # The global layer is one for itself.
    assert counters['stats']['unique_graphs'] == (1 if kind == 'RotaryViT' else 2)


def test_shared_paths_are_dropped_as_mmcv_drops_them():
    rows = torch.ones(20_000, 2, 3)
    drop = SharedDropPath(0.3)
    for module in (drop, DropPath(0.3)):
        torch.manual_seed(0)
        values = module.train()(rows)
        assert torch.equal(values, values[:, :1, :1].expand_as(values))  # Whole rows.
        assert sorted(values.unique().tolist()) == pytest.approx([0, 1 / 0.7])
        assert values.mean().item() == pytest.approx(1, abs=0.02)
    assert torch.equal(drop.eval()(rows), rows)


@pytest.mark.slow
@pytest.mark.skipif(bool(compiler_is_missing()), reason=compiler_is_missing())
def test_a_compiler_s_layer_computes_the_same():
    torch._dynamo.reset()
    layer = TransformerEncoderLayer(24, 3, 48).eval()
    tokens = torch.randn(2, 5, 24)
    with torch.no_grad():
        expected = layer(tokens)
        assert compile_parts(layer, True) == 1
        assert layer._compiled_call_impl is not None
        torch.testing.assert_close(layer(tokens), expected, rtol=0, atol=1e-5)


def test_without_a_compiler_the_error_says_what_to_install(monkeypatch, toy, tmp_path):
    monkeypatch.setenv('PATH', '')
    monkeypatch.delenv('CXX', raising=False)
    config = toy.config(tmp_path)
    config['cfg']['compile'] = True
    with pytest.raises(StackError, match=r'there is no .*\+\+.\n  Install one .*, or leave out compile'):
        PretrainRunner(**config).train()


def test_without_python_s_headers_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr('shutil.which', lambda name: f'/usr/bin/{name}')
    monkeypatch.setattr(sysconfig, 'get_path', lambda name: str(tmp_path))
    with pytest.raises(StackError, match=r'no Python\.h'):
        check_compiler()


@pytest.mark.parametrize('options', [None, False])
def test_off_is_off(options):
    model = nn.Linear(2, 2)
    assert compile_parts(model, options) == 0
    assert model._compiled_call_impl is None


def test_wrong_options_and_models_are_errors(monkeypatch):
    monkeypatch.setattr('vasomim.engine.compilation.check_compiler', lambda: None)
    with pytest.raises(ConfigError, match="'max' is neither True, False nor a dict"):
        compile_parts(nn.Linear(2, 2), 'max')
    with pytest.raises(ConfigError, match='Linear has no layers of a ViT and no UNeXt'):
        compile_parts(nn.Linear(2, 2), True)
