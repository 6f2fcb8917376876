"""A config that imports modules of its own keeps ours."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vasomim.apis.configs import load_config
from vasomim.engine.reading import OWN


@pytest.mark.parametrize(
    ('base', 'scope'),
    [
        ('pretrain/mae.py', 'mmpretrain'),
        ('downstream/arcade_v/segmentation.py', 'mmseg'),
        ('downstream/arcade_s/detection.py', 'mmdet'),
    ],
)
def test_own_modules_join_those_of_the_base(base: str, scope: str, tmp_path: Path, monkeypatch) -> None:
    name = f'reading_plugin_{scope}'
    (tmp_path / f'{name}.py').write_text('LOADED = True\n')
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / 'config.py').write_text(f"_base_ = 'vasomim::{base}'\ncustom_imports = dict(imports=['{name}'])\n")
    cfg = load_config(str(tmp_path / 'config.py'))
    assert cfg.custom_imports.imports == [*OWN[scope], name]
    assert sys.modules[name].LOADED and all(module in sys.modules for module in OWN[scope])
    bare = load_config(f'vasomim::{base}')
    assert sorted(bare.custom_imports.imports) == sorted(OWN[scope])


def test_a_config_of_another_scope_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / 'config.py').write_text("default_scope = 'mmengine'\nmodel = dict()\n")
    assert 'custom_imports' not in load_config(str(tmp_path / 'config.py'))
