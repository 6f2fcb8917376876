"""Files of tensors: read as their libraries read them, and refused where they are larger than they look."""

from __future__ import annotations

import json
import os
import struct
import zipfile
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from safetensors.torch import save_file
from torch import Tensor

from vasomim.errors import CheckpointError
from vasomim.tensorfiles import LIMIT, check_values, damage, read_file

KINDS = {
    'float32': torch.arange(6.0).reshape(2, 3),
    'transposed': torch.arange(6.0).reshape(2, 3).t(),
    'float16': torch.ones(3, dtype=torch.float16),
    'bfloat16': torch.ones(3, dtype=torch.bfloat16),
    'float8': torch.ones(3).to(torch.float8_e4m3fn),
    'int64': torch.tensor(7),
    'uint16': torch.ones(2, dtype=torch.uint16),
    'bool': torch.tensor([True, False]),
    'complex': torch.ones(2, dtype=torch.complex64),
    'empty': torch.zeros(0, 5),
}


@pytest.mark.parametrize('legacy', [False, True])
def test_tensors_of_all_kinds_are_those_that_were_saved(tmp_path: Path, legacy: bool) -> None:
    shared = torch.arange(10.0)
    content = {**KINDS, 'parameter': torch.nn.Parameter(torch.ones(2)), 'first': shared[:4], 'last': shared[4:]}
    torch.save(content, tmp_path / 'a.pth', _use_new_zipfile_serialization=not legacy)
    found = read_file(tmp_path / 'a.pth')
    assert found.keys() == content.keys()
    for name, tensor in content.items():
        assert found[name].dtype == tensor.dtype and found[name].shape == tensor.shape
        assert found[name].tolist() == tensor.tolist() and found[name].stride() == tensor.stride()
    without = read_file(tmp_path / 'a.pth', values=False)
    assert all(without[name].is_meta and without[name].shape == tensor.shape for name, tensor in content.items())


def test_what_mmengine_writes_is_read_as_torch_reads_it_when_it_trusts(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(2, 1, 8, 8)).sum().backward()
    optimizer.step()
    content = {
        'meta': {'epoch': 3, 'cfg': 'a = 1', 'dataset_meta': {'classes': ('x',), 'palette': [[1, 2, 3]]}},
        'state_dict': model.state_dict(),
        'optimizer': optimizer.state_dict(),
        'message_hub': {'log_scalars': {'loss': HistoryBuffer([0.25, 0.25], [1, 2])}},
    }
    torch.save(content, tmp_path / 'epoch_3.pth')
    found = read_file(tmp_path / 'epoch_3.pth')
    trusted = torch.load(tmp_path / 'epoch_3.pth', weights_only=False)
    assert found['meta'] == trusted['meta']
    assert found['optimizer']['param_groups'] == trusted['optimizer']['param_groups']
    for name, tensor in trusted['state_dict'].items():
        assert torch.equal(found['state_dict'][name], tensor)
    assert found['state_dict']._metadata == trusted['state_dict']._metadata
    for index, state in trusted['optimizer']['state'].items():
        assert all(torch.equal(found['optimizer']['state'][index][key], value) for key, value in state.items())
    history = found['message_hub']['log_scalars']['loss']
    assert [each.tolist() for each in history.data] == [[0.25, 0.25], [1, 2]] and history.current() == 0.25


@pytest.mark.parametrize('legacy', [False, True])
@pytest.mark.parametrize(
    'tensor',
    [
        torch.zeros(1).expand(1 << 40),
        torch.arange(100.0).as_strided((50, 50), (1, 1)),
        torch.eye(3).to_sparse(),
        torch.empty(1 << 40, device='meta'),
        torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
        torch.sparse_coo_tensor(torch.zeros(1, 1).long(), torch.ones(1), (1 << 40,)),
    ],
    ids=['expanded', 'overlapping', 'sparse', 'meta', 'quantized', 'huge-sparse'],
)
def test_tensors_that_are_larger_than_their_values_are_refused(tensor: Tensor, legacy: bool, tmp_path: Path) -> None:
    torch.save({'a': tensor}, tmp_path / 'a.pth', _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match=r'a\.pth: it holds a'):
        read_file(tmp_path / 'a.pth')


def rewritten(source: Path, target: Path, packing: int = zipfile.ZIP_STORED, **members: bytes) -> Path:
    """A copy of an archive with other content in some members, under sound checksums."""
    with zipfile.ZipFile(source) as before, zipfile.ZipFile(target, 'w', packing) as after:
        for name in before.namelist():
            after.writestr(name, members.get(name.partition('/')[2].replace('/', '_'), before.read(name)))
    return target


def test_archives_that_announce_more_than_they_hold_are_refused(tmp_path: Path) -> None:
    source = tmp_path / 'a.pth'
    torch.save({'a': torch.zeros(1000)}, source)
    for name, copy in {
        'packed': rewritten(source, tmp_path / 'packed.pth', zipfile.ZIP_DEFLATED),
        'few': rewritten(source, tmp_path / 'few.pth', data_0=bytes(100)),
        'many': rewritten(source, tmp_path / 'many.pth', data_0=bytes(5000)),
        'order': rewritten(source, tmp_path / 'order.pth', byteorder=b'big'),
    }.items():
        with pytest.raises(CheckpointError, match=rf'{name}\.pth'):
            read_file(copy)
    assert torch.equal(read_file(rewritten(source, tmp_path / 'same.pth'))['a'], torch.zeros(1000))


def test_members_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    source = tmp_path / 'a.pth'
    torch.save({str(index): torch.zeros(1000) for index in range(3)}, source)
    content = bytearray(source.read_bytes())
    with zipfile.ZipFile(source) as archive:
        first = archive.getinfo('a/data/0')
        start = archive.start_dir
    for index in range(3):  # All directory entries point at the first member, whose checksum is theirs too.
        place = content.index(f'a/data/{index}'.encode(), start)
        content[place - 4 : place] = struct.pack('<I', first.header_offset)
    del content[first.header_offset + 4500 : start]
    source.write_bytes(content)
    with pytest.raises(CheckpointError, match=r'a\.pth'):
        read_file(source)


@pytest.mark.parametrize('legacy', [False, True])
def test_a_pickle_that_announces_more_than_the_file_holds_is_refused(legacy: bool, tmp_path: Path) -> None:
    torch.save({'a': torch.zeros(250)}, tmp_path / 'a.pth', _use_new_zipfile_serialization=not legacy)
    content = (tmp_path / 'a.pth').read_bytes()
    place = content.index(b'K\xfa', content.index(b'cpu'))  # 250 elements, in the reference to the storage
    (tmp_path / 'b.pth').write_bytes(content[:place] + b'J\x00\x00\x00\x7f' + content[place + 2 :])
    with pytest.raises(CheckpointError, match=r'b\.pth'):
        read_file(tmp_path / 'b.pth')


@pytest.mark.parametrize(
    'header',
    [
        {'a': {'dtype': 'F32', 'shape': [1 << 40], 'data_offsets': [0, 16]}},
        {'a': {'dtype': 'F32', 'shape': [4], 'data_offsets': [0, 1 << 44]}},
        {'a': {'dtype': 'F32', 'shape': [-4], 'data_offsets': [0, 16]}},
        {'a': {'dtype': 'F32', 'shape': [1 << 62, 4], 'data_offsets': [0, 16]}},
        {'a': {'dtype': 'X9', 'shape': [4], 'data_offsets': [0, 16]}},
        [1, 2],
        {'a': 7},
        'x' * 1000,
    ],
    ids=str,
)
def test_headers_of_safetensors_that_do_not_fit_are_refused(header, tmp_path: Path) -> None:
    text = json.dumps(header).encode()
    (tmp_path / 'a.safetensors').write_bytes(struct.pack('<Q', len(text)) + text + bytes(16))
    with pytest.raises(CheckpointError, match=r'a\.safetensors'):
        read_file(tmp_path / 'a.safetensors')
    (tmp_path / 'b.safetensors').write_bytes(struct.pack('<Q', 1 << 60) + text + bytes(16))
    with pytest.raises(CheckpointError, match=r'b\.safetensors'):
        read_file(tmp_path / 'b.safetensors')


def test_a_file_is_known_by_its_content_not_its_name(tmp_path: Path) -> None:
    save_file({'a': torch.ones(2)}, tmp_path / 'a.pth', {'config': 'x = 1'})
    assert read_file(tmp_path / 'a.pth')['meta'] == {'cfg': 'x = 1'}
    torch.save({'a': torch.ones(2)}, tmp_path / 'b.safetensors')
    assert torch.equal(read_file(tmp_path / 'b.safetensors')['a'], torch.ones(2))


def test_a_limit_is_checked_before_anything_is_read(tmp_path: Path, monkeypatch) -> None:
    torch.save({'a': torch.zeros(1 << 20)}, tmp_path / 'a.pth')  # 4 MiB
    monkeypatch.setenv(LIMIT, str(1 / 512))
    with pytest.raises(CheckpointError, match='bytes, and at most 2,097,152 are read'):
        read_file(tmp_path / 'a.pth')
    monkeypatch.setenv(LIMIT, '1')
    assert read_file(tmp_path / 'a.pth')['a'].shape == (1 << 20,)
    with open(tmp_path / 'hole.pth', 'wb') as file:  # A terabyte that takes no place on the disk.
        file.truncate(1 << 40)
    with pytest.raises(CheckpointError, match=r'hole\.pth'):
        read_file(tmp_path / 'hole.pth')
    for wrong in ('much', '-1', 'nan', '0'):
        monkeypatch.setenv(LIMIT, wrong)
        with pytest.raises(CheckpointError, match=LIMIT):
            read_file(tmp_path / 'a.pth')


def test_pipes_devices_and_folders_are_no_checkpoints(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / 'pipe.pth')
    for path in (tmp_path / 'pipe.pth', Path('/dev/zero'), tmp_path):
        with pytest.raises(CheckpointError):
            read_file(path)
    assert damage(tmp_path / 'pipe.pth') and damage(tmp_path)


@pytest.mark.parametrize('legacy', [False, True])
def test_a_cut_or_changed_file_is_refused(tmp_path: Path, legacy: bool) -> None:
    path = tmp_path / 'a.pth'
    torch.save({'a': torch.arange(5000.0)}, path, _use_new_zipfile_serialization=not legacy)
    whole = path.read_bytes()
    for cut in (1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(CheckpointError, match=r'a\.pth'):
            read_file(path)
    if not legacy:  # Only archives have checksums.
        changed = bytearray(whole)
        changed[len(whole) // 2] ^= 1
        path.write_bytes(changed)
        with pytest.raises(CheckpointError, match=r'a\.pth'):
            read_file(path)


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.float8_e5m2])
def test_one_value_that_is_no_number_is_found(value: float, dtype: torch.dtype) -> None:
    tensor = torch.ones(1000)
    tensor[777] = value
    with pytest.raises(CheckpointError, match=r'1 of the 1,000 values of b\.weight'):
        check_values({'a': torch.ones(3), 'b': {'weight': tensor.to(dtype)}}, 'some.pth')


def test_large_values_are_numbers() -> None:
    """Their sum is infinite."""
    check_values([torch.full((10,), 3e38), torch.full((10,), 6e4, dtype=torch.float16), torch.ones(2).long()], 'a')


def test_truth_values_of_another_kind_are_refused(tmp_path: Path) -> None:
    torch.save({'mask': torch.tensor([True, False])}, tmp_path / 'a.pth')
    content = read_file(rewritten(tmp_path / 'a.pth', tmp_path / 'b.pth', data_0=b'\x07\x00'))
    with pytest.raises(CheckpointError, match='mask'):
        check_values(content, 'b.pth')


@pytest.mark.filterwarnings('ignore::DeprecationWarning')  # Of pickletools, on what it decodes.
@pytest.mark.parametrize('kind', ['archive', 'pickle', 'legacy', 'safetensors'])
def test_changed_bytes_end_in_one_kind_of_error(kind: str, tmp_path: Path) -> None:
    """Any byte may be changed, in the pickle under a sound checksum too; what is still read is finite or refused."""
    content = {'meta': {'epoch': 3}, 'state_dict': {'a': torch.ones(40), 'b': torch.arange(6).reshape(2, 3)}}
    content['hub'] = {'loss': HistoryBuffer([0.5, 0.25], [1, 2]), 'best': torch.Size([3])}
    source, path = tmp_path / 'a.pth', tmp_path / 'b.pth'
    if kind == 'safetensors':
        save_file(content['state_dict'], source, {'config': 'a = 1'})
    else:
        torch.save(content, source, _use_new_zipfile_serialization=kind != 'legacy')
    random, refused = np.random.RandomState(0), 0
    with zipfile.ZipFile(source) if kind == 'pickle' else nullcontext() as archive:
        whole = archive.read('a/data.pkl') if archive is not None else source.read_bytes()
    for _ in range(300):
        changed = bytearray(whole)
        for place in random.randint(0, len(changed), random.randint(1, 4)):
            changed[place] = random.randint(256)
        if kind == 'pickle':
            rewritten(source, path, **{'data.pkl': bytes(changed)})
        else:
            path.write_bytes(changed)
        try:
            check_values(read_file(path), path)
        except CheckpointError:
            refused += 1
    assert refused > 30
