from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from mmengine.runner import load_checkpoint
from safetensors.torch import load_file

from vasomim.checkpoints.building import load_model
from vasomim.checkpoints.loading import load_tensors, load_weights
from vasomim.checkpoints.naming import detect_family
from vasomim.checkpoints.reading import read_checkpoint, rename, trained_classes
from vasomim.checkpoints.runs import last_checkpoint
from vasomim.checkpoints.writing import save_weights
from vasomim.cli import main
from vasomim.engine import load_encoder
from vasomim.errors import CheckpointError
from vasomim.inference.features import FeatureExtractor
from vasomim.models import UNeXt

from ..models.builders import build, vasomim_config


class Payload:
    """What a malicious checkpoint holds: code that runs on loading."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_a_malicious_pickle_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    target = tmp_path / 'owned'
    torch.save({'state_dict': {'a': torch.zeros(1)}, 'extra': Payload(target)}, tmp_path / 'bad.pth')
    with pytest.raises(CheckpointError, match='could run code'):
        read_checkpoint(tmp_path / 'bad.pth')
    assert not target.exists()
    with open(tmp_path / 'bare.pth', 'wb') as file:
        pickle.dump(Payload(target), file)
    with pytest.raises(CheckpointError, match=r'bare\.pth'):
        read_checkpoint(tmp_path / 'bare.pth')
    assert not target.exists()


def test_others_may_read_what_is_saved_as_far_as_the_umask_lets_them(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save_weights({'weight': torch.zeros(2)}, tmp_path / 'a.safetensors')
    finally:
        os.umask(before)
    assert (tmp_path / 'a.safetensors').stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_a_truncated_file_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f'cut{suffix}'
    tensors = UNeXt().state_dict()
    torch.save(tensors, path) if suffix == '.pth' else save_weights(tensors, path)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(CheckpointError, match=f'cut{suffix}'):
        read_checkpoint(path)


def test_a_missing_file_or_name_is_answered_with_what_exists(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match='no such checkpoint'):
        read_checkpoint(tmp_path / 'nothing.pth')
    with pytest.raises(CheckpointError, match="Did you mean 'unext_s'"):
        load_weights(UNeXt(), 'unext_m')


def test_a_run_is_known_by_its_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match='folder without a checkpoint'):
        read_checkpoint(tmp_path)
    (tmp_path / 'last_checkpoint').write_text('/moved/since/epoch_2.pth')
    with pytest.raises(CheckpointError, match=r'epoch_2\.pth is not there'):
        read_checkpoint(tmp_path)
    torch.save({'state_dict': {'a': torch.ones(2)}}, tmp_path / 'epoch_2.pth')
    assert torch.equal(read_checkpoint(tmp_path).tensors['a'], torch.ones(2))


@pytest.mark.parametrize('harm', ['cut', 'flip', 'empty', 'gone'])
def test_a_damaged_newest_checkpoint_is_passed_over_and_named(tmp_path: Path, harm: str) -> None:
    for epoch in (9, 10):
        torch.save({'state_dict': {'a': torch.arange(5000.0)}}, tmp_path / f'epoch_{epoch}.pth')
        os.utime(tmp_path / f'epoch_{epoch}.pth', (epoch, epoch))
    torch.save({'a': torch.zeros(1)}, tmp_path / 'best_loss_epoch_8.pth')  # It holds no optimizer to resume with.
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_10.pth'))
    newest = tmp_path / 'epoch_10.pth'
    said: list[str] = []
    assert last_checkpoint(tmp_path, said.append) == newest and not said
    whole = bytearray(newest.read_bytes())
    if harm == 'flip':
        whole[len(whole) // 2] ^= 1
    newest.write_bytes({'cut': whole[:-2000], 'flip': whole, 'empty': b'', 'gone': b''}[harm])
    if harm == 'gone':
        newest.unlink()
    assert last_checkpoint(tmp_path, said.append) == tmp_path / 'epoch_9.pth'
    assert len(said) == 1 and 'epoch_10.pth is' in said[0] and said[0].endswith('going back to epoch_9.pth')
    (tmp_path / 'epoch_9.pth').write_bytes(b'')
    with pytest.raises(CheckpointError, match=r'none of its checkpoints .*epoch_10.*epoch_9\.pth is empty'):
        last_checkpoint(tmp_path, said.append)


def test_convert_takes_the_best_checkpoint_of_a_run(tmp_path: Path, capsys) -> None:
    run = tmp_path / 'run'
    run.mkdir()
    for name in ('epoch_2', 'best_dice_epoch_1'):
        torch.save({name: torch.zeros(1)}, run / f'{name}.pth')
    (run / 'last_checkpoint').write_text('epoch_2.pth')
    assert main('convert', [str(run), str(tmp_path / 'out.safetensors')]) == 0
    assert set(load_file(tmp_path / 'out.safetensors')) == {'best_dice_epoch_1'}
    (run / 'best_dice_epoch_1.pth').unlink()
    assert main('convert', [str(run), str(tmp_path / 'out.safetensors')]) == 0
    assert set(load_file(tmp_path / 'out.safetensors')) == {'epoch_2'}
    assert 'epoch_2.pth' in capsys.readouterr().out


def test_another_architecture_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    save_weights(UNeXt(widths=(4, 8, 16, 32, 64)).state_dict(), tmp_path / 'narrow.safetensors')
    model = UNeXt()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=r'another architecture: decoder\.0\.block.* is .* there and .* here'):
        load_weights(model, tmp_path / 'narrow.safetensors')
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_the_report_counts_every_tensor() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 4))
    tensors = {
        '0.weight': torch.ones(3, 2),
        '0.bias': torch.zeros(9),
        '1.weight': torch.ones(4, 3),
        'extra': torch.zeros(1),
    }
    report = load_tensors(model, tensors, 'somewhere', least=0.5)
    assert (report.matched, report.missing, report.unexpected, report.mismatched) == (
        ['0.weight', '1.weight'],
        ['1.bias'],
        ['extra'],
        ['0.bias'],
    )
    assert report.share == 0.5
    assert torch.all(model[1].weight == 1)
    with pytest.raises(CheckpointError, match=r'0\.bias is \(9,\) there and \(3,\) here'):
        load_tensors(model, tensors, 'somewhere', least=0.6)


def test_a_checkpoint_with_its_config_rebuilds_its_model(tmp_path: Path) -> None:
    config = vasomim_config()
    model = build(config)
    torch.save({'meta': {'cfg': f'model = {config!r}\n'}, 'state_dict': model.state_dict()}, tmp_path / 'run.pth')
    assert main('convert', [str(tmp_path / 'run.pth'), str(tmp_path / 'run.safetensors')]) == 0
    for name in ('run.pth', 'run.safetensors'):
        again = load_model(tmp_path / name)
        assert not again.training
        for key, tensor in model.state_dict().items():
            assert torch.equal(again.state_dict()[key], tensor)
    torch.save(model.state_dict(), tmp_path / 'bare.pth')
    with pytest.raises(CheckpointError, match='carries no config'):
        load_model(tmp_path / 'bare.pth')


def test_convert_gives_authors_names_ours(tmp_path: Path) -> None:
    own = build(vasomim_config()).state_dict()
    theirs = {
        'cls_token': 'backbone.cls_token',
        'pos_embed': 'backbone.pos_embed',
        'mask_token': 'neck.mask_token',
        'decoder_pos_embed': 'neck.decoder_pos_embed',
    }
    for part in ('weight', 'bias'):
        theirs |= {
            f'patch_embed.proj.{part}': f'backbone.patch_embed.projection.{part}',
            f'norm.{part}': f'backbone.ln1.{part}',
            f'decoder_norm.{part}': f'neck.ln1.{part}',
            f'decoder_embed.{part}': f'neck.decoder_embed.{part}',
            f'decoder_pred.{part}': f'neck.decoder_pred.{part}',
        }
        for block, layer in (
            ('blocks.0', 'backbone.layers.0'),
            ('blocks.1', 'backbone.layers.1'),
            ('decoder_blocks.0', 'neck.decoder_blocks.0'),
        ):
            theirs |= {
                f'{block}.norm1.{part}': f'{layer}.ln1.{part}',
                f'{block}.attn.qkv.{part}': f'{layer}.attn.qkv.{part}',
                f'{block}.attn.proj.{part}': f'{layer}.attn.proj.{part}',
                f'{block}.norm2.{part}': f'{layer}.ln2.{part}',
                f'{block}.mlp.fc1.{part}': f'{layer}.ffn.layers.0.0.{part}',
                f'{block}.mlp.fc2.{part}': f'{layer}.ffn.layers.1.{part}',
            }
    assert set(theirs.values()) == {name for name in own if not name.startswith('segmentor.')}
    torch.save({'model': {name: own[ours] for name, ours in theirs.items()}}, tmp_path / 'authors.pth')
    assert main('convert', [str(tmp_path / 'authors.pth'), str(tmp_path / 'ours.safetensors')]) == 0
    converted = load_file(tmp_path / 'ours.safetensors')
    assert set(converted) == set(theirs.values())
    assert all(torch.equal(converted[ours], own[ours]) for ours in theirs.values())
    assert main('convert', [str(tmp_path / 'authors.pth'), str(tmp_path / 'ours.npz')]) == 2


def test_our_own_names_are_left_alone() -> None:
    for model in (UNeXt(), build(vasomim_config())):
        assert set(rename(model.state_dict())) == set(model.state_dict())
    assert detect_family(UNeXt().state_dict()) == detect_family(build(vasomim_config()).state_dict()) == 'vasomim'


@pytest.mark.parametrize(
    'content', [b'hello\n', b'<html>Not found</html>', b'version https://git-lfs', b'', bytes(range(256))]
)
def test_a_file_that_is_no_checkpoint_is_an_error_that_says_so(tmp_path: Path, content: bytes) -> None:
    (tmp_path / 'some.pth').write_bytes(content)
    with pytest.raises(CheckpointError, match=r'some\.pth: it'):
        read_checkpoint(tmp_path / 'some.pth')


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_weights_that_are_no_numbers_reach_no_consumer(suffix: str, tmp_path: Path, capsys) -> None:
    config = vasomim_config()
    model = build(config)
    with torch.no_grad():
        model.backbone.layers[0].attn.proj.weight[1, 2] = float('nan')
    path, meta = tmp_path / f'run{suffix}', f'model = {config!r}\n'
    if suffix == '.pth':
        torch.save({'meta': {'cfg': meta}, 'state_dict': model.state_dict()}, path)
    else:
        save_weights(model.state_dict(), path, meta)
    for read in (load_model, FeatureExtractor, lambda path: load_encoder(model.backbone, path)):
        with pytest.raises(CheckpointError, match=r'attn\.proj\.weight'):
            read(path)
    with pytest.raises(CheckpointError, match=r'attn\.proj\.weight'):
        load_checkpoint(model, str(path))
    assert main('convert', [str(path), str(tmp_path / 'out.safetensors')]) == 2
    assert 'attn.proj.weight' in capsys.readouterr().err and not (tmp_path / 'out.safetensors').exists()


def test_what_is_dropped_may_be_no_number(tmp_path: Path) -> None:
    torch.save({'a': torch.ones(2), 'mask': torch.full((2,), -float('inf'))}, tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='mask'):
        read_checkpoint(tmp_path / 'a.pth')
    assert read_checkpoint(tmp_path / 'a.pth', drop=['mask']).left == ('mask',)


def test_a_pipe_does_not_hang(tmp_path: Path, capsys) -> None:
    os.mkfifo(tmp_path / 'pipe.pth')
    assert main('convert', [str(tmp_path / 'pipe.pth'), str(tmp_path / 'out.safetensors')]) == 2
    assert 'pipe.pth' in capsys.readouterr().err


@pytest.mark.parametrize('note', [b'', b'\xff\xfe', b'a\0b', b'epoch_9.pth', b'x' * 2000, b'/dev/zero'])
def test_a_note_that_is_damaged_does_not_hide_the_checkpoints(note: bytes, tmp_path: Path) -> None:
    torch.save({'a': torch.ones(1)}, tmp_path / 'epoch_1.pth')
    (tmp_path / 'last_checkpoint').write_bytes(note)
    assert last_checkpoint(tmp_path, lambda _: None) == tmp_path / 'epoch_1.pth'


def test_the_classes_of_a_training_are_read_without_its_tensors(tmp_path: Path) -> None:
    for classes, expected in {('background', 'stenosis'): ('stenosis',), ('a', 'b'): ('a', 'b')}.items():
        meta = {'dataset_meta': {'classes': classes}}
        torch.save({'meta': meta, 'state_dict': {'a': torch.ones(3)}}, tmp_path / 'a.pth')
        assert trained_classes(tmp_path / 'a.pth') == expected
    save_weights({'a': torch.ones(1)}, tmp_path / 'a.safetensors')
    assert trained_classes(tmp_path / 'a.safetensors') == ()
    for meta in ({'dataset_meta': 3}, {'dataset_meta': {'classes': 'abc'}}, {'dataset_meta': {'classes': (1, 2)}}):
        torch.save({'meta': meta, 'a': torch.ones(1)}, tmp_path / 'a.pth')
        with pytest.raises(CheckpointError, match='dataset_meta'):
            trained_classes(tmp_path / 'a.pth')
