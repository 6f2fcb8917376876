from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open

from vasomim.checkpoints.writing import save_weights


def test_the_same_content_is_the_same_file(tmp_path: Path) -> None:
    config = 'a = "ä\\n\\t\\x1f\\x7f/\\\\"\nb = 1\n'
    tensors = {f'backbone.{name}': torch.arange(6.0).reshape(2, 3) for name in 'abc'}
    files = set()
    for _ in range(20):
        save_weights(tensors, tmp_path / 'file.safetensors', config, heads='3', method='mae', epochs='16', z='\x1f')
        files.add((tmp_path / 'file.safetensors').read_bytes())
    assert len(files) == 1
    with safe_open(tmp_path / 'file.safetensors', framework='pt') as file:
        assert file.metadata() == {
            'format': 'pt', 'config': config, 'heads': '3', 'method': 'mae', 'epochs': '16', 'z': '\x1f',
        }  # fmt: skip
        assert all(torch.equal(file.get_tensor(name), tensor) for name, tensor in tensors.items())
