"""Embeddings: the same from every family of checkpoints, and worth more where the encoder sees something."""

from __future__ import annotations

import argparse
import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.finetuned import write_checkpoint
from tests.models.builders import ARCH
from vasomim import compat
from vasomim.checkpoints.writing import save_weights
from vasomim.cli import extract_features, main
from vasomim.drawing.notice import NOTICE
from vasomim.errors import CheckpointError, ConfigError, DatasetError
from vasomim.files import read_json
from vasomim.inference.features import POOLS, FeatureExtractor
from vasomim.tensorfiles import read_file

compat.prepare()

from mmpretrain.models.backbones import VisionTransformer  # noqa: E402


@pytest.fixture(scope='module')
def frames(tmp_path_factory) -> Path:
    """40 frames of a bar that leans left or right, in series of two."""
    root = tmp_path_factory.mktemp('frames')
    random = np.random.RandomState(0)
    rows = []
    for index in range(40):
        side = ('left', 'right')[index // 2 % 2]
        frame = np.full((80, 80), 170.0)
        frame[:, slice(0, 40) if side == 'left' else slice(40, 80)] -= 90
        name = f's{index // 2:02d}_{index % 2}'
        cv2.imwrite(str(root / f'{name}.png'), np.clip(frame + random.randn(80, 80) * 20, 0, 255).astype(np.uint8))
        rows.append((name, side))
    with (root.parent / f'{root.name}.csv').open('w', newline='') as file:
        csv.writer(file).writerows([('name', 'label'), *rows])
    return root


def labels_of(frames: Path) -> Path:
    return frames.parent / f'{frames.name}.csv'


def timm_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    changes = [('patch_embed.projection', 'patch_embed.proj'), ('layers.', 'blocks.'), ('ffn.blocks.0.0', 'mlp.fc1')]
    changes += [('ffn.blocks.1', 'mlp.fc2'), ('.ln1', '.norm1'), ('.ln2', '.norm2')]
    renamed = {}
    for name, tensor in tensors.items():
        for ours, theirs in changes:
            name = name.replace(ours, theirs)
        renamed[name.replace('ln1.', 'norm.') if name.startswith('ln1.') else name] = tensor
    return renamed


@pytest.fixture(scope='module')
def tiny() -> VisionTransformer:
    """A ViT-Ti of two layers' weights cannot be told from its tensors; this one is the known size."""
    torch.manual_seed(0)
    model = VisionTransformer('deit-tiny', img_size=64, patch_size=16, out_type='raw')
    model.init_weights()
    model.eval()
    return model


def test_embeddings_are_the_tokens_of_mmpretrain_whatever_names_the_file_has(tiny, frames, tmp_path):
    tensors = tiny.state_dict()
    torch.save({'model': timm_names(tensors)}, tmp_path / 'timm.pth')
    save_weights({f'backbone.{name}': tensor for name, tensor in tensors.items()}, tmp_path / 'own.safetensors')
    save_weights(tensors, tmp_path / 'bare.safetensors')
    pixels = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)[:64, :64] for path in sorted(frames.glob('*.png'))[:3]]
    mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
    inputs = (np.stack(pixels)[..., None] - mean) / std
    with torch.no_grad():
        tokens = tiny(torch.from_numpy(inputs).permute(0, 3, 1, 2).float())[-1]
    expected = {'mean': tokens[:, 1:].mean(dim=1), 'class': tokens[:, 0]}
    for name in ('timm.pth', 'own.safetensors', 'bare.safetensors'):
        for pool, values in expected.items():
            found = FeatureExtractor(tmp_path / name, pool, device='cpu')(pixels)
            np.testing.assert_allclose(found, values.numpy(), atol=1e-5)


@pytest.mark.parametrize('config', ['arcade_v/segmentation', 'arcade_s/detection'])
def test_a_fine_tuned_checkpoint_gives_the_tokens_of_its_encoder(config, tmp_path):
    path = write_checkpoint(tmp_path / 'model.pth', config)
    tensors = read_file(path)['state_dict']
    model = VisionTransformer(ARCH, img_size=64, out_type='raw')
    model.load_state_dict({name[9:]: tensor for name, tensor in tensors.items() if name.startswith('backbone.')})
    model.eval()
    frame = np.random.RandomState(0).randint(0, 256, (64, 64)).astype(np.uint8)
    mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
    inputs = torch.from_numpy((frame[..., None] - mean) / std).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        expected = model(inputs)[-1][:, 1:].mean(dim=1)
    np.testing.assert_allclose(FeatureExtractor(path, device='cpu')([frame]), expected.numpy(), atol=1e-5)


def test_the_help_names_the_pools_that_there_are():
    parser = argparse.ArgumentParser()
    extract_features.add_arguments(parser)
    assert f'--pool {{{",".join(POOLS)}}}' in parser.format_help()


def test_a_file_of_features_is_read_without_pickle_and_judged(tiny, frames, tmp_path, capsys):
    save_weights(tiny.state_dict(), tmp_path / 'vit.safetensors')
    target = tmp_path / 'out' / 'features.npz'
    options = ['--labels', str(labels_of(frames)), '--batch-size', '16', '--k', '5', '--device', 'cpu']
    assert main('extract-features', [str(tmp_path / 'vit.safetensors'), str(frames), str(target), *options]) == 0
    out = capsys.readouterr().out
    assert 'balanced accuracy' in out and NOTICE in out
    with np.load(target) as content:
        assert content['features'].shape == (40, 192) and content['features'].dtype == np.float32
        assert list(content['names']) == sorted(path.name for path in frames.glob('*.png'))
        assert str(content['notice']) == NOTICE
    report = json.loads(target.with_suffix('.json').read_text())
    assert report['notice'] == NOTICE and report['frames'] == 40
    probing = report['probing']
    assert sum(sum(of.values()) for of in probing['counts'].values()) == 40
    # Which half is dark shows in the tokens of the patches even with random layers, as their positions are added.
    for probe in ('k-NN', 'linear'):
        figure = probing[probe]['accuracy']
        assert figure['low'] <= figure['value'] <= figure['high'] and probing[probe]['n'] >= 6


def test_files_that_cannot_be_read_are_listed_and_the_others_embedded(tiny, tmp_path, capsys):
    save_weights(tiny.state_dict(), tmp_path / 'vit.safetensors')
    source, target = tmp_path / 'some', tmp_path / 'features.npz'
    source.mkdir()
    (source / 'b.png').write_bytes(b'cut short')
    arguments = [str(tmp_path / 'vit.safetensors'), str(source), str(target), '--device', 'cpu']
    assert main('extract-features', arguments) == 2 and not target.exists()  # Nothing but that file.
    assert 'b.png: damaged' in capsys.readouterr().err
    for name in ('a.png', 'c.png'):
        cv2.imwrite(str(source / name), np.zeros((64, 64), np.uint8))
    assert main('extract-features', arguments) == 1
    assert f'1 of 3 files cannot be read, or not to their end:\n  {source / "b.png"}: ' in capsys.readouterr().out
    assert list(np.load(target)['names']) == ['a.png', 'c.png']
    assert json.loads(target.with_suffix('.json').read_text())['unreadable'] == [str(source / 'b.png')]


def test_features_that_see_the_frame_beat_those_that_do_not(tiny, frames, tmp_path):
    """An encoder whose layers do nothing and whose patch embedding is zero gives all frames one vector."""
    blind = {name: tensor.clone() for name, tensor in tiny.state_dict().items()}
    blind['patch_embed.projection.weight'].zero_()
    seeing = {name: tensor.clone() for name, tensor in tiny.state_dict().items()}
    half = torch.zeros(1, 17, 192)
    half[0, 1:, :96] = torch.linspace(-3, 3, 4).repeat(4)[:, None]  # The column of a patch, for it to act upon.
    seeing['pos_embed'] = seeing['pos_embed'] + half
    reached = {}
    for name, tensors in (('blind', blind), ('seeing', seeing)):
        save_weights(tensors, tmp_path / f'{name}.safetensors')
        target = tmp_path / f'{name}.npz'
        arguments = [
            str(tmp_path / f'{name}.safetensors'),
            str(frames),
            str(target),
            '--labels',
            str(labels_of(frames)),
        ]
        assert main('extract-features', [*arguments, '--device', 'cpu', '--k', '5']) == 0
        reached[name] = json.loads(target.with_suffix('.json').read_text())['probing']['linear']
    assert reached['seeing']['balanced_accuracy']['value'] >= reached['blind']['balanced_accuracy']['value'] + 0.3
    assert reached['blind']['auc']['value'] == 0.5


def test_sides_of_a_prepared_set_are_labels_with_its_splits(tiny, frames, tmp_path):
    from vasomim.apis.probing import read_labels
    from vasomim.prepare.prepared import split_text

    (tmp_path / 'splits').mkdir()
    for split, names in {'train': ['a', 'b'], 'val': ['c'], 'test': ['d']}.items():
        (tmp_path / 'splits' / f'{split}.txt').write_text(split_text(names))
    (tmp_path / 'sides.json').write_text(json.dumps({'a': 'left', 'b': 'right', 'd': 'left'}))
    assert read_labels(tmp_path / 'sides.json') == {
        'a': ('left', 'train'),
        'b': ('right', 'train'),
        'd': ('left', 'test'),
    }


@pytest.mark.parametrize(('numbered', 'drawn'), [(True, 'frames'), (False, 'series')])
def test_intervals_are_over_frames_only_where_names_form_no_series(numbered, drawn, capsys):
    """Frames that are numbered through would be one series, whose draws are all the same."""
    from vasomim.apis.probing import probe

    random = np.random.RandomState(0)
    names = [f'scan_{index}.png' if numbered else f'p{index // 2}_{index % 2}.png' for index in range(90)]
    splits = ['train'] * 30 + ['val'] * 20 + ['test'] * 40
    labels = {name[:-4]: (('a', 'b')[index % 2], splits[index]) for index, name in enumerate(names)}
    features = random.randn(90, 3) + 1.2 * (np.arange(90) % 2)[:, None]
    report = probe(names, features, labels, 'labels.csv', 'frames', k=5).as_json()
    assert report['interval'].startswith(f'95 % percentile bootstrap over {drawn}')
    figure = report['k-NN']['accuracy']
    assert figure['high'] - figure['low'] > 0.05


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('image,label\na,1\n', 'lacks the columns name and label'),
        ('name,label\ns00_0,left\ns00_0.png,right\n', 's00_0 stands there twice'),
        ('name,label\nnowhere,left\ns00_0,right\n', '1 of 2 labelled frames are not in'),
        ('name,label,split\ns00_0,left,tain\n', "there is no split 'tain'"),
        ('name,label,split\ns00_0,left,train\ns01_0,right,\n', '1 of 2 labelled frames have no split'),
        ('name,label\ns00_0,left\ns01_0,left\n', 'of 1 classes'),
        ('name,label,split\ns00_0,left,train\ns01_0,right,test\n', 'train holds 1 frames of 1 of 2 classes'),
    ],
)
def test_labels_that_do_not_fit_are_errors(text, message, tiny, frames, tmp_path, capsys):
    save_weights(tiny.state_dict(), tmp_path / 'vit.safetensors')
    (tmp_path / 'labels.csv').write_text(text)
    (tmp_path / 'few').mkdir()
    for name in ('s00_0', 's01_0'):
        (tmp_path / 'few' / f'{name}.png').write_bytes((frames / f'{name}.png').read_bytes())
    arguments = [str(tmp_path / 'vit.safetensors'), str(tmp_path / 'few'), str(tmp_path / 'x.npz')]
    assert main('extract-features', [*arguments, '--labels', str(tmp_path / 'labels.csv'), '--device', 'cpu']) == 2
    assert message in capsys.readouterr().err


def test_what_is_no_plain_vit_and_wrong_options_are_refused(tiny, tmp_path):
    save_weights({'a.weight': torch.zeros(2)}, tmp_path / 'other.safetensors')
    with pytest.raises(CheckpointError, match='it holds no plain ViT'):
        FeatureExtractor(tmp_path / 'other.safetensors')
    save_weights(VisionTransformer(ARCH, img_size=64).state_dict(), tmp_path / 'odd.safetensors')
    with pytest.raises(CheckpointError, match=r'2 layers of 24 is of no known size'):
        FeatureExtractor(tmp_path / 'odd.safetensors')
    save_weights(tiny.state_dict(), tmp_path / 'vit.safetensors')
    with pytest.raises(ConfigError, match="Did you mean 'class'"):
        FeatureExtractor(tmp_path / 'vit.safetensors', 'clas')
    with pytest.raises(ConfigError, match='100 does not divide into patches of 16'):
        FeatureExtractor(tmp_path / 'vit.safetensors', size=100)


def test_labels_fit_names_in_the_other_spelling_of_accents_and_odd_files_cost_nothing(tiny, frames, tmp_path, capsys):
    save_weights(tiny.state_dict(), tmp_path / 'vit.safetensors')
    source, target = tmp_path / 'some', tmp_path / 'features.npz'
    source.mkdir()
    rows = list(csv.DictReader(labels_of(frames).open(newline='')))
    for row in rows:
        shutil.copy(frames / f'{row["name"]}.png', source / f'u\u0308{row["name"]}.png')
    with (tmp_path / 'labels.csv').open('w', newline='', encoding='utf-8') as file:
        csv.writer(file).writerows([('name', 'label'), *((f'\u00fc{row["name"]}', row['label']) for row in rows)])
    (source / 'cine.gif').write_bytes(b'GIF89a')
    (source / 'caf\udce9\n.png').write_bytes(b'cut short')
    cv2.imwrite(str(source / 'narrow.png'), np.full((1, 3000), 9, np.uint8))
    options = ['--labels', str(tmp_path / 'labels.csv'), '--device', 'cpu']
    assert main('extract-features', [str(tmp_path / 'vit.safetensors'), str(source), str(target), *options]) == 1
    assert 'cine.gif' in (said := capsys.readouterr().out) and 'caf\\xe9\\n.png' in said
    report = read_json(target.with_suffix('.json'), DatasetError)
    assert report['frames'] == 41 and report['probing']['frames_without_label'] == 1
    assert report['unreadable'] == [f'{source}/caf\\xe9\\n.png']
