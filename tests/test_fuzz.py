"""Files from elsewhere with parts changed at random, in their structure: what is raised is always the project's own."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydicom import dcmread, dcmwrite
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from safetensors.torch import save_file

from tests.dicoms import write_dicom
from tests.prepare.trees import SIZE, coco_entry, frame, write_png, write_voc
from vasomim.benchmark.study.loading import load_entries, shipped_entries
from vasomim.checkpoints.encoders import source_grid
from vasomim.checkpoints.reading import read_checkpoint
from vasomim.checkpoints.stored_check import buildable
from vasomim.checkpoints.stored_config import encoder_section, parse_config
from vasomim.errors import DatasetError, VasoMIMError
from vasomim.files import parse_json
from vasomim.frames.dicom import read_frames, read_groups
from vasomim.prepare.folder import read_folder
from vasomim.prepare.plan import Repairs
from vasomim.prepare.splitting import Choices
from vasomim.prepare.voc import read_voc

pytestmark = pytest.mark.slow

CHECKS = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def examples(number: int) -> Callable:
    """The same examples on every machine; files are overwritten by the next one."""
    return settings(max_examples=number, deadline=None, derandomize=True, suppress_health_check=CHECKS, database=None)


TEXTS = st.sampled_from(['', '0', '-1', 'nan', '1e999', '../../x', '/etc/passwd', '\ud800', 'a\nb', '{{', 'train'])
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([-1, 0, 2**31, 2**63, 10**30]),
    st.floats(),
    st.text(max_size=8),
    TEXTS,
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


def places(content: Any, above: tuple = ()) -> list[tuple]:
    """All paths into lists and dictionaries."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [path for key, value in items for path in [(*above, key), *places(value, (*above, key))]]


@st.composite
def changed(draw: st.DrawFn, content: Any) -> Any:
    """One to three values are replaced, dropped or doubled."""
    content = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, 3))):
        found = places(content)
        if not found:
            break
        *above, key = draw(st.sampled_from(found))
        owner = content
        for step in above:
            owner = owner[step]
        action = draw(st.sampled_from(['replace', 'replace', 'drop', 'double']))
        if action == 'drop':
            del owner[key]
        elif action == 'double' and isinstance(owner, list):
            owner.append(copy.deepcopy(owner[key]))
        else:
            owner[key] = draw(VALUES)
    return content


COCO = {
    'images': [{'id': 1, 'file_name': '1.png', 'width': SIZE, 'height': SIZE}],
    'categories': [{'id': 1, 'name': 'stenosis', 'supercategory': ''}, {'id': 2, 'name': 'calcium'}],
    'annotations': [
        {**coco_entry(1, 1, 1, 2, 2, 4), 'segmentation': [[2, 2, 6, 2, 6, 6]], 'attributes': {'rotation': 30.0}},
        {**coco_entry(2, 1, 2, 9, 9, 4), 'segmentation': {'counts': [3, 4], 'size': [SIZE, SIZE]}, 'iscrowd': 1},
    ],
}


@examples(400)
@example(content=COCO)
@given(content=changed(COCO))
def test_coco(tmp_path: Path, content: Any) -> None:
    if not (tmp_path / 'images').is_dir():
        write_png(tmp_path / 'images' / '1.png', frame(0))
    (tmp_path / 'all.json').write_text(json.dumps(content))
    with nullcontext() if content == COCO else suppress(VasoMIMError):
        plan = read_folder(tmp_path, Choices())[0]
        for instance in plan.frames[0].instances if plan.frames else ():
            left, top, width, height = instance.box
            assert 1 <= instance.category <= len(plan.classes)
            assert left >= 0 and top >= 0 and width > 0 and height > 0
            assert left + width <= SIZE and top + height <= SIZE


@examples(300)
@given(data=st.data())
def test_voc(tmp_path: Path, data: st.DataObject) -> None:
    path, image = tmp_path / 'a.xml', tmp_path / 'a.png'
    if not image.exists():
        write_png(image, frame(0))
        write_voc(tmp_path, ['sound'])
    root = ElementTree.fromstring((tmp_path / 'sound.xml').read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        element = data.draw(st.sampled_from(list(root.iter())))
        if data.draw(st.booleans()):
            element.text = data.draw(st.text(max_size=6) | TEXTS)
        else:
            element.tag = data.draw(st.sampled_from(['object', 'bndbox', 'xmin', 'size', 'robndbox', 'attributes']))
    encoding = data.draw(st.sampled_from(['utf-8', 'utf-16', 'latin-1', 'gbk', 'us-ascii']))
    text = ElementTree.tostring(root, encoding='unicode')
    declared = data.draw(st.sampled_from([encoding, 'utf-8', 'ANSI', 'nonsense']))
    path.write_bytes(f'<?xml version="1.0" encoding="{declared}"?>{text}'.encode(encoding, 'replace'))
    with suppress(DatasetError):
        for _, (_, _, width, height) in read_voc(path, image, Repairs())[1]:
            assert 0 < width <= SIZE and 0 < height <= SIZE


HEADER = (
    *('Rows', 'Columns', 'NumberOfFrames', 'SamplesPerPixel', 'PhotometricInterpretation', 'BitsAllocated'),
    *('BitsStored', 'HighBit', 'PixelRepresentation', 'PlanarConfiguration', 'WindowCenter', 'WindowWidth'),
    *('RescaleSlope', 'RescaleIntercept', 'RescaleType', 'VOILUTFunction', 'SOPClassUID', 'PixelData'),
    *('VOILUTSequence', 'ModalityLUTSequence', 'SharedFunctionalGroupsSequence', 'SmallestImagePixelValue'),
)
WORDS = [
    b'',
    b'\0',
    b'1',
    b'-1',
    b'1\\2',
    b'nan',
    b'inf',
    b'1e999',
    b'99999999999',
    b'MONOCHROME1',
    b'RGB',
    b'\xff' * 8,
]


@pytest.mark.filterwarnings('ignore')
@examples(500)
@given(data=st.data())
def test_dicom_headers(tmp_path: Path, data: st.DataObject) -> None:
    source, path = tmp_path / 'sound.dcm', tmp_path / 'changed.dcm'
    if not source.exists():
        cine = np.random.default_rng(0).integers(0, 4096, (3, 8, 10))
        write_dicom(source, cine, bits=12, WindowCenter=2048, WindowWidth=4096)
    dataset = dcmread(source)
    for name in data.draw(st.lists(st.sampled_from(HEADER), min_size=1, max_size=4, unique=True)):
        tag = Tag(tag_for_keyword(name))  # type: ignore[arg-type]
        kind = dictionary_VR(tag).split(' ')[0]
        value = data.draw(st.sampled_from(WORDS) | st.binary(max_size=12))
        value += bytes(len(value) % 2)
        if data.draw(st.integers(0, 4)):
            dataset[tag] = RawDataElement(tag, kind, len(value), value, 0, False, True)
        elif tag in dataset:
            del dataset[tag]
    try:
        dcmwrite(path, dataset)
    except Exception:
        return  # pydicom writes no such file.
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        with suppress(VasoMIMError):
            assert all(frame.dtype == np.uint8 and frame.ndim == 2 for frame in read_frames(path))
        with suppress(VasoMIMError):
            read_groups(path)


@examples(300)
@given(data=st.data())
def test_entries_of_the_benchmark(tmp_path: Path, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(['tasks', 'methods', 'protocols']))
    file = data.draw(st.sampled_from(sorted(shipped_entries().glob(f'{kind}/*.yaml'))))
    content = data.draw(changed(yaml.safe_load(file.read_text('utf-8'))))
    folder = tmp_path / 'entries' / kind
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file.name).write_text(yaml.safe_dump(content), 'utf-8', 'surrogatepass')
    with suppress(VasoMIMError):
        entries = load_entries([tmp_path / 'entries'], own=tmp_path / 'none')
        for name in entries.protocols:
            entries.protocol(name)
    (folder / file.name).unlink()


CONFIG = {
    'default_scope': 'mmpretrain',
    'custom_imports': {'imports': ['vasomim.models'], 'allow_failed_imports': False},
    'model': {
        'type': 'MaskedImageModeling',
        'backbone': {'type': 'MaskedViT', 'arch': 'tiny', 'img_size': 64},
        'neck': {'type': 'MAEPretrainDecoder', 'decoder_embed_dim': 32, 'decoder_depth': 1, 'decoder_num_heads': 2},
        'head': {'type': 'ReconstructionHead', 'norm_pix': True},
        'guidance': {'type': 'VesselGuidance', 'eta': 1.0},
        'masking': {'type': 'AnatomyMasking', 'ratio': 0.5},
        'init_cfg': [{'type': 'Constant', 'layer': 'LayerNorm', 'val': 1.0}],
    },
    'train_dataloader': {'dataset': {'type': 'AngiogramFolder', 'filter': 'sato'}},
}


@examples(300)
@example(content=CONFIG)
@given(content=changed(CONFIG))
def test_configs_of_checkpoints(tmp_path: Path, content: Any) -> None:
    text = ''.join(f'{key} = {value!r}\n' for key, value in content.items())
    with nullcontext() if content == CONFIG else suppress(VasoMIMError):
        config = parse_config(text, 'file.pth')
        encoder_section(config, 'file.pth')
        buildable(config.get('model'), 'model', config, 'mmpretrain', 'file.pth')
    path = tmp_path / 'file.safetensors'
    with suppress(UnicodeEncodeError):
        save_file(
            {'backbone.pos_embed': torch.zeros(1, 13, 8), 'backbone.cls_token': torch.zeros(1, 1, 8)},
            path,
            {'config': text},
        )
    if path.exists():
        with suppress(VasoMIMError):
            checkpoint = read_checkpoint(path)
            source_grid(checkpoint, checkpoint.tensors['backbone.pos_embed'], path)


@examples(500)
@given(data=st.binary(max_size=60) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_json(data: bytes) -> None:
    with suppress(DatasetError):
        json.dumps(parse_json(data, 'file.json', DatasetError, kind=object), ensure_ascii=False).encode()
