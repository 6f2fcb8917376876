"""Checkpoints of timm, mmpretrain and transformers: the same features as there, the same bits after a round trip."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.models.builders import build, vasomim_config
from vasomim import compat
from vasomim.checkpoints.converting import convert_checkpoint
from vasomim.checkpoints.families import prefix_of, resize_positions
from vasomim.checkpoints.loading import LoadReport
from vasomim.checkpoints.naming import detect_family
from vasomim.checkpoints.reading import read_checkpoint
from vasomim.checkpoints.writing import save_weights
from vasomim.cli import main
from vasomim.engine import load_encoder
from vasomim.errors import CheckpointError, StorageError
from vasomim.models.plain_vit import PlainViT

compat.prepare()

from mmpretrain.models.backbones import VisionTransformer  # noqa: E402
from mmpretrain.models.utils import resize_pos_embed  # noqa: E402

WIDTH, DEPTH, HEADS, HIDDEN = 24, 3, 3, 48
ARCH = dict(embed_dims=WIDTH, num_layers=DEPTH, num_heads=HEADS, feedforward_channels=HIDDEN)
HF_SIZES = dict(hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS)


def shaken(model: nn.Module, seed: int = 0) -> nn.Module:
    """Weights that no initialization gives: norms, biases, tokens and scales that all show in the features."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.2)
    return model.eval()


def timm_vit(side: int = 64, **options) -> nn.Module:
    timm = pytest.importorskip('timm', reason='timm is not installed; requirements/dev.txt pins it.')
    sizes = dict(embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS, mlp_ratio=HIDDEN / WIDTH, num_classes=5)
    return shaken(timm.models.VisionTransformer(img_size=side, **{**sizes, **options}))


def hf(name: str, side: int = 64, seed: int = 0, **options) -> nn.Module:
    reason = 'transformers is not installed; requirements/dev.txt pins it.'
    transformers = pytest.importorskip('transformers', reason=reason)
    base = name.removesuffix('Model').removesuffix('ForPreTraining').removesuffix('ForImageClassification')
    hidden = {'mlp_ratio': HIDDEN // WIDTH} if base.startswith('Dinov2') else {'intermediate_size': HIDDEN}
    config = getattr(transformers, f'{base}Config')(**{'image_size': side, **HF_SIZES, **hidden, **options})
    return shaken(getattr(transformers, name)(config), seed)


def frames(side: int = 64, width: int | None = None) -> Tensor:
    return torch.randn(2, 3, side, width or side, generator=torch.Generator().manual_seed(1))


def our_encoder(path: Path, side: int = 64, patch: int = 16) -> tuple[nn.Module, LoadReport]:
    encoder = PlainViT(arch=ARCH, patch_size=patch, img_size=side)
    report = load_encoder(encoder, path)
    encoder.out_type = 'raw'
    encoder.eval()
    return encoder, report


def tokens(path: Path, inputs: Tensor, patch: int = 16) -> Tensor:
    """All tokens of our encoder behind its last norm, from a file whose every encoder tensor has to match."""
    encoder, report = our_encoder(path, inputs.shape[-1], patch)
    assert report.share == 1 and not report.resized
    with torch.no_grad():
        return encoder(inputs)[-1]


def assert_close(ours: Tensor, theirs: Tensor, atol: float = 1e-4) -> None:
    assert theirs.std() > 0.1  # There is something to compare.
    torch.testing.assert_close(ours, theirs, rtol=0, atol=atol)


def stored(model: nn.Module, path: Path) -> Path:
    """A file with the names that the model has in memory."""
    save_weights(model.state_dict(), path)
    return path


def published(model: nn.Module, folder: Path) -> Path:
    """A file with the names that transformers writes, which are those on the Hub."""
    model.save_pretrained(folder)
    return folder / 'model.safetensors'


@pytest.fixture(scope='module')
def ours() -> dict[str, Tensor]:
    """Encoder, decoder and segmentor of a whole VasoMIM."""
    return {name: tensor.clone() for name, tensor in shaken(build(vasomim_config())).state_dict().items()}


@pytest.mark.parametrize(
    'options', [{}, {'no_embed_class': True}, {'qkv_bias': False}, {'init_values': 0.3}], ids=lambda o: '-'.join(o)
)
def test_features_agree_with_timm(options: dict, tmp_path: Path) -> None:
    model = timm_vit(**options)
    with torch.no_grad():
        theirs = model.forward_features(frames())
    assert_close(tokens(stored(model, tmp_path / 'timm.safetensors'), frames()), theirs)
    torch.save({'model': model.state_dict()}, tmp_path / 'timm.pth')
    convert_checkpoint(tmp_path / 'timm.pth', tmp_path / 'ours.safetensors')
    assert_close(tokens(tmp_path / 'ours.safetensors', frames()), theirs)


@pytest.mark.parametrize('file', [stored, published])
@pytest.mark.parametrize('name', ['ViTModel', 'ViTMAEModel', 'Dinov2Model', 'Dinov2ForImageClassification'])
@pytest.mark.parametrize('eps', [1e-6, 1e-12])
def test_features_agree_with_transformers(eps: float, name: str, file: Callable, tmp_path: Path) -> None:
    patch = 14 if 'Dinov2' in name else 16
    side = 4 * patch
    options = {'mask_ratio': 0.0} if 'MAE' in name else {}
    model = hf(name, side, patch_size=patch, layer_norm_eps=eps, **options)
    base = getattr(model, 'dinov2', model)
    with torch.no_grad():
        if 'MAE' in name:  # It shuffles the patches, which its noise decides.
            theirs = base(frames(side), noise=torch.arange(16.0).expand(2, -1)).last_hidden_state
        else:
            theirs = base(frames(side)).last_hidden_state
    path = file(model, tmp_path / ('model.safetensors' if file is stored else 'folder'))
    assert_close(tokens(path, frames(side), patch), theirs)
    convert_checkpoint(path, tmp_path / 'ours.safetensors')
    assert_close(tokens(tmp_path / 'ours.safetensors', frames(side), patch), theirs)


def test_dinov2_of_its_own_repository_is_timm_with_a_mask_token(tmp_path: Path) -> None:
    model = timm_vit(init_values=0.3)
    tensors = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith('head')}
    torch.save({**tensors, 'mask_token': torch.zeros(1, WIDTH)}, tmp_path / 'dinov2.pth')
    done = convert_checkpoint(tmp_path / 'dinov2.pth', tmp_path / 'ours.safetensors')
    assert done.report.unexpected == ['mask_token'] and not done.report.missing
    assert done.notes == ('LayerScale was multiplied into the projections before it (6 times)',)
    with torch.no_grad():
        assert_close(tokens(tmp_path / 'ours.safetensors', frames()), model.forward_features(frames()))


@pytest.mark.parametrize('to', ['mmpretrain', 'timm', 'mae', 'hf'])
def test_a_round_trip_keeps_every_bit(to: str, ours: dict[str, Tensor], tmp_path: Path) -> None:
    save_weights(ours, tmp_path / 'ours.safetensors')
    there = convert_checkpoint(tmp_path / 'ours.safetensors', tmp_path / f'{to}.safetensors', to)
    back = convert_checkpoint(tmp_path / f'{to}.safetensors', tmp_path / 'back.safetensors')
    assert back.family == ('vasomim' if to == 'mmpretrain' else to)
    kept = {name for name in ours if name.startswith('backbone.' if to == 'timm' else ('backbone.', 'neck.'))}
    assert set(there.report.unexpected) == ours.keys() - kept
    found = load_file(tmp_path / 'back.safetensors')
    assert found.keys() == kept and len(kept) >= 28
    assert all(torch.equal(found[name], ours[name]) and found[name].dtype == ours[name].dtype for name in kept)


def test_a_round_trip_of_others_keeps_every_bit(tmp_path: Path) -> None:
    for to, model in (('timm', timm_vit()), ('hf', hf('ViTModel')), ('hf', hf('ViTMAEForPreTraining', **DECODER))):
        path = published(model, tmp_path / 'there') if to == 'hf' else stored(model, tmp_path / 'there.safetensors')
        convert_checkpoint(path, tmp_path / 'ours.safetensors')
        convert_checkpoint(tmp_path / 'ours.safetensors', tmp_path / 'back.safetensors', to)
        there, back = load_file(path), load_file(tmp_path / 'back.safetensors')
        there = {
            name.replace('decoder.decoder_encoder.layer.', 'decoder.decoder_layers.'): there[name] for name in there
        }
        left = {name for name in there if name.startswith(('head.', 'pooler.'))}
        assert back.keys() == there.keys() - left and len(left) == (0 if 'decoder.mask_token' in there else 2)
        assert all(torch.equal(there[name], tensor) for name, tensor in back.items())


DECODER = dict(
    decoder_num_hidden_layers=1, decoder_hidden_size=16, decoder_intermediate_size=64, decoder_num_attention_heads=2
)


def test_transformers_and_timm_take_what_is_written_for_them(ours: dict[str, Tensor], tmp_path: Path) -> None:
    """As their users load it: the whole names of the file fit the model, and it gives our features."""
    timm_model = timm_vit(depth=2, num_classes=0)
    hf_model = hf('ViTMAEForPreTraining', seed=1, num_hidden_layers=2, layer_norm_eps=1e-6, **DECODER)
    save_weights(ours, tmp_path / 'ours.safetensors')
    encoder = VisionTransformer({**ARCH, 'num_layers': 2}, img_size=64, out_type='raw')
    encoder.eval()  # mmpretrain's returns nothing.
    encoder.load_state_dict({name[9:]: tensor for name, tensor in ours.items() if name.startswith('backbone.')})
    with torch.no_grad():
        expected = encoder(frames())[-1]

        convert_checkpoint(tmp_path / 'ours.safetensors', tmp_path / 'timm.safetensors', 'timm')
        timm_model.load_state_dict(load_file(tmp_path / 'timm.safetensors'))
        assert_close(timm_model.forward_features(frames()), expected)

        convert_checkpoint(tmp_path / 'ours.safetensors', tmp_path / 'hf' / 'model.safetensors', 'hf')
        hf_model.config.save_pretrained(tmp_path / 'hf')
        loaded, info = type(hf_model).from_pretrained(tmp_path / 'hf', output_loading_info=True)
        assert not any(info[kind] for kind in ('missing_keys', 'unexpected_keys', 'mismatched_keys'))
        loaded.eval().vit.config.mask_ratio = 0.0
        loaded.vit.embeddings.config.mask_ratio = 0.0
        given = loaded.vit(frames(), noise=torch.arange(16.0).expand(2, -1)).last_hidden_state
        assert_close(given, expected)
        assert torch.equal(
            loaded.decoder.decoder_layers[0].mlp.fc2.bias, ours['neck.decoder_blocks.0.ffn.layers.1.bias']
        )


def test_the_example_of_the_documentation_gives_our_features(project_root: Path, tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip('transformers', reason='transformers is not installed; requirements/dev.txt pins it.')
    encoder = VisionTransformer('deit-small', img_size=224, out_type='raw')
    shaken(encoder)
    save_weights(encoder.state_dict(), tmp_path / 'ours.safetensors')
    convert_checkpoint(tmp_path / 'ours.safetensors', tmp_path / 'vasomim_vit' / 'model.safetensors', 'hf')
    page = (project_root / 'docs' / 'checkpoints.md').read_text(encoding='utf-8')
    names: dict = {}
    monkeypatch.chdir(tmp_path)
    exec(page.split('```python')[1].split('```')[0], names)
    with torch.no_grad():
        assert_close(names['model'].eval()(frames(224)).last_hidden_state, encoder(frames(224))[-1])


def test_mmpretrain_loads_what_is_written_for_it(ours: dict[str, Tensor], tmp_path: Path) -> None:
    from mmengine.runner import load_checkpoint

    save_weights(ours, tmp_path / 'ours.safetensors')
    convert_checkpoint(tmp_path / 'ours.safetensors', tmp_path / 'mmpretrain.pth', 'mmpretrain')
    model = nn.ModuleDict({'backbone': VisionTransformer({**ARCH, 'num_layers': 2}, img_size=64)})
    load_checkpoint(model, str(tmp_path / 'mmpretrain.pth'))
    assert all(torch.equal(tensor, ours[name]) for name, tensor in model.state_dict().items())
    bare = stored(model['backbone'], tmp_path / 'bare.safetensors')
    assert detect_family(load_file(bare)) == 'mmpretrain'
    assert read_checkpoint(bare).tensors.keys() == model.state_dict().keys()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_survives(dtype: torch.dtype, tmp_path: Path) -> None:
    model = timm_vit().to(dtype)
    stored(model, tmp_path / 'timm.safetensors')
    convert_checkpoint(tmp_path / 'timm.safetensors', tmp_path / 'hf.safetensors', 'hf')
    convert_checkpoint(tmp_path / 'hf.safetensors', tmp_path / 'back.safetensors', 'timm')
    own = model.state_dict()
    back = load_file(tmp_path / 'back.safetensors')
    assert len(back) == len(own) - 2 and all(torch.equal(own[name], tensor) for name, tensor in back.items())


def test_layer_scale_is_folded_to_the_last_bit_of_the_product(tmp_path: Path) -> None:
    model = hf('Dinov2Model', 56, patch_size=14)
    theirs = model.state_dict()
    tensors = read_checkpoint(stored(model, tmp_path / 'dinov2.safetensors')).tensors
    for layer in range(DEPTH):
        gamma = theirs[f'encoder.layer.{layer}.layer_scale1.lambda1'].numpy().astype(np.float64)
        weight = theirs[f'encoder.layer.{layer}.attention.o_proj.weight'].numpy().astype(np.float64)
        product = np.stack([gamma[row] * weight[row] for row in range(WIDTH)]).astype(np.float32)
        np.testing.assert_array_equal(tensors[f'backbone.layers.{layer}.attn.proj.weight'].numpy(), product)
    assert not any('gamma' in name or 'scale' in name for name in tensors)


def test_patches_of_another_size_are_an_error_though_almost_all_tensors_fit(tmp_path: Path) -> None:
    path = stored(hf('Dinov2Model', 56, patch_size=14), tmp_path / 'dinov2.safetensors')
    encoder = PlainViT(arch=ARCH, patch_size=16, img_size=64)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    message = r'patch_embed\.projection\.weight is of shape \[24, 3, 14, 14\], where the model has \[24, 3, 16, 16\]'
    with pytest.raises(CheckpointError, match=message):
        load_encoder(encoder, path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


def test_registers_are_an_error_until_they_are_dropped(tmp_path: Path, capsys) -> None:
    path = stored(hf('Dinov2WithRegistersModel', 56, patch_size=14), tmp_path / 'registers.safetensors')
    with pytest.raises(CheckpointError, match=r'cannot hold embeddings\.register_tokens(.|\n)*--drop register_tokens'):
        load_encoder(PlainViT(arch=ARCH, patch_size=14, img_size=56), path)
    target = tmp_path / 'ours.safetensors'
    assert main('convert', [str(path), str(target)]) == 2 and not target.exists()
    assert main('convert', [str(path), str(target), '--drop', 'register_tokens']) == 0
    said = capsys.readouterr().out
    assert 'left out: embeddings.mask_token, embeddings.register_tokens' in said
    assert our_encoder(target, 56, 14)[1].share == 1
    with pytest.raises(CheckpointError, match=r"no 'regster_tokens' to drop\. Did you mean 'register_tokens'"):
        convert_checkpoint(path, target, drop=['regster_tokens'])


def test_positions_of_registers_go_with_them(tmp_path: Path) -> None:
    model = timm_vit(reg_tokens=4)
    own = model.state_dict()
    assert own['pos_embed'].shape[1] == 1 + 4 + 16
    tensors = read_checkpoint(stored(model, tmp_path / 'timm.safetensors'), drop=['reg_token']).tensors
    assert torch.equal(tensors['backbone.pos_embed'], own['pos_embed'][:, [0, *range(5, 21)]])


def test_what_a_plain_vit_cannot_give_is_refused_with_the_reason(tmp_path: Path) -> None:
    cases = {
        'rotary positions': hf('DINOv3ViTModel', num_register_tokens=2),
        'gate_proj|down_proj': hf('Dinov2Model', use_swiglu_ffn=True),
        'k_norm': timm_vit(qk_norm=True),
        'norm_pre': timm_vit(pre_norm=True),
        'no class token': timm_vit(class_token=False, global_pool='avg'),
    }
    for message, model in cases.items():
        with pytest.raises(CheckpointError, match=message):
            read_checkpoint(stored(model, tmp_path / 'other.safetensors'))
    with pytest.raises(CheckpointError, match='rotary positions'):
        read_checkpoint(published(cases['rotary positions'], tmp_path / 'dinov3'))
    # Its norm comes after the mean over patches, which is another function than ours.
    stored(timm_vit(global_pool='avg'), tmp_path / 'pooled.safetensors')
    with pytest.raises(CheckpointError, match=r'fc_norm.* has no place'):
        convert_checkpoint(tmp_path / 'pooled.safetensors', tmp_path / 'ours.safetensors')


def test_half_an_encoder_and_no_encoder_are_refused(tmp_path: Path) -> None:
    tensors = timm_vit().state_dict()
    lacking = {name: tensor for name, tensor in tensors.items() if 'blocks.1.mlp' not in name}
    save_weights(lacking, tmp_path / 'half.safetensors')
    for to in ('vasomim', 'hf'):
        with pytest.raises(CheckpointError, match=r'not whole: backbone\.layers\.1\.ffn.* is missing'):
            convert_checkpoint(tmp_path / 'half.safetensors', tmp_path / 'ours.safetensors', to)
    for gone, ours in {'pos_embed': 'pos_embed', 'patch_embed.proj.weight': 'patch_embed.projection.weight'}.items():
        save_weights({name: tensors[name] for name in tensors if name != gone}, tmp_path / 'part.safetensors')
        with pytest.raises(CheckpointError, match=rf'backbone\.{ours} is missing'):
            convert_checkpoint(tmp_path / 'part.safetensors', tmp_path / 'ours.safetensors')
    with pytest.raises(CheckpointError, match='no plain ViT'):
        convert_checkpoint('unext_s', tmp_path / 'ours.safetensors', 'timm')
    assert not (tmp_path / 'ours.safetensors').exists()
    parts = hf('ViTModel').state_dict()
    parts.pop('layers.1.attention.k_proj.weight')
    save_weights(parts, tmp_path / 'parts.safetensors')
    with pytest.raises(CheckpointError, match=r'layers\.1\.attn\.qkv\.weight lacks its keys'):
        read_checkpoint(tmp_path / 'parts.safetensors')


def test_convert_says_what_became_of_each_tensor(tmp_path: Path, capsys) -> None:
    model = hf('ViTForImageClassification')
    path = published(model, tmp_path / 'there')
    assert main('convert', [str(path), str(tmp_path / 'timm.safetensors'), '--to', 'timm', '--resize', '6', '5']) == 0
    said = capsys.readouterr().out
    assert '(hf) -> ' in said and '(timm): 42 tensors' in said
    assert '42 tensors matched, 0 missing, 2 left out, 1 resized' in said
    assert 'left out: classifier (2)' in said
    assert load_file(tmp_path / 'timm.safetensors')['pos_embed'].shape == (1, 31, WIDTH)
    assert json.loads((path.parent / 'config.json').read_text())['layer_norm_eps'] == 1e-12
    assert 'layer_norm_eps 1e-6' in said


def test_positions_are_resized_with_grids_and_prefix_as_mmpretrain_does() -> None:
    generator = torch.Generator().manual_seed(0)
    for prefix in (0, 1, 5):
        positions = torch.randn(1, prefix + 6, 4, generator=generator)
        found = resize_positions(positions, (2, 3), (4, 5), prefix)
        assert torch.equal(found, resize_pos_embed(positions, (2, 3), (4, 5), 'bicubic', prefix))
        assert torch.equal(found[:, :prefix], positions[:, :prefix])
        assert resize_positions(positions, (2, 3), (2, 3), prefix) is positions
    with pytest.raises(ValueError, match='7 positions are not 1 and a grid of 2 x 4'):
        resize_positions(torch.zeros(1, 7, 4), (2, 4), (4, 4))
    assert [prefix_of(17), prefix_of(16), prefix_of(20, 3), prefix_of(12, 0, (3, 4)), prefix_of(13, 0, (3, 4))] == [
        1,
        0,
        4,
        0,
        1,
    ]


def test_positions_that_form_no_square_need_their_grid(tmp_path: Path) -> None:
    model = timm_vit((64, 96), no_embed_class=True)
    path = stored(model, tmp_path / 'oblong.safetensors')
    target = tmp_path / 'ours.safetensors'
    with pytest.raises(CheckpointError, match='form no square'):
        convert_checkpoint(path, target, resize=(4, 4))
    convert_checkpoint(path, target, grid=(4, 6), resize=(4, 4))
    positions = load_file(target)['backbone.pos_embed']
    assert torch.equal(positions[:, 1:], resize_pos_embed(model.pos_embed, (4, 6), (4, 4), 'bicubic', 0))
    assert not positions[:, 0].any()
    convert_checkpoint(path, target, grid=(4, 6))
    encoder = PlainViT(arch=ARCH, img_size=(64, 96))
    encoder.load_state_dict({name[9:]: tensor for name, tensor in load_file(target).items()})
    encoder.out_type = 'raw'
    encoder.eval()
    with torch.no_grad():
        assert_close(encoder(frames(64, 96))[-1], model.forward_features(frames(64, 96)))


def test_a_load_counts_resized_positions_and_agrees_with_transformers_at_that_size(tmp_path: Path) -> None:
    model = hf('Dinov2Model', 56, patch_size=14)
    encoder, report = our_encoder(stored(model, tmp_path / 'dinov2.safetensors'), 84, 14)
    assert report.resized == ['pos_embed'] and str(report).endswith('0 of another shape, 1 resized')
    with torch.no_grad():
        assert_close(encoder(frames(84))[-1], model(frames(84)).last_hidden_state)


def test_convert_runs_nothing_from_a_malicious_pickle(tmp_path: Path, capsys) -> None:
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / 'owned'),)

    torch.save({'model': timm_vit().state_dict(), 'args': Payload()}, tmp_path / 'bad.pth')
    assert main('convert', [str(tmp_path / 'bad.pth'), str(tmp_path / 'out.safetensors'), '--to', 'hf']) == 2
    assert 'could run code' in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ['bad.pth']


@pytest.mark.parametrize('suffix', ['.safetensors', '.pth'])
def test_a_disk_that_fills_while_converting_leaves_the_old_file(suffix: str, tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk, in a process of its own, as it cannot be lifted again."""
    source = stored(timm_vit(), tmp_path / 'timm.safetensors')
    target = tmp_path / 'there' / f'ours{suffix}'
    convert_checkpoint(source, target)
    before = target.read_bytes()
    code = (
        'import resource, signal, sys\nfrom vasomim.cli import main\nfrom vasomim.checkpoints import converting\n'
        'signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n'
        'resource.setrlimit(resource.RLIMIT_FSIZE, (15000, resource.RLIM_INFINITY))\n'
        f'sys.exit(main("convert", [{str(source)!r}, {str(target)!r}, "--to", "hf"]))\n'
    )
    environment = {**os.environ, 'PYTHONPATH': str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2 and f'StorageError: {target}' in done.stderr, done.stderr
    assert 'Traceback' not in done.stderr
    assert target.read_bytes() == before and len(list(target.parent.iterdir())) == 1


@pytest.mark.parametrize('suffix', ['.safetensors', '.pth'])
def test_places_that_cannot_be_written_are_named(suffix: str, tmp_path: Path) -> None:
    source = stored(timm_vit(), tmp_path / 'timm.safetensors')
    (tmp_path / f'folder{suffix}').mkdir()
    for target in (
        tmp_path / f'folder{suffix}',
        source / f'below_a_file{suffix}',
        Path('/proc') / f'ours{suffix}',
        tmp_path / f'{"x" * 300}{suffix}',
    ):
        with pytest.raises(StorageError):
            convert_checkpoint(source, target)


def test_a_wrapped_model_is_unwrapped(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    torch.save({'state_dict': {f'module.{name}': t for name, t in model.state_dict().items()}}, tmp_path / 'ddp.pth')
    assert read_checkpoint(tmp_path / 'ddp.pth').tensors.keys() == model.state_dict().keys()
