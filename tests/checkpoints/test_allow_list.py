"""The list of what a stored config may build, against all that the installed libraries register."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mmengine.registry as roots
import pytest
from mmengine.config import Config
from mmengine.registry import Registry

from vasomim import compat

compat.prepare()

import mmseg.datasets  # noqa: E402
import mmseg.models  # noqa: E402, F401

from vasomim.checkpoints.allow_list import CLASSES, PLACES, SCOPES, STACK, WORD, WORDS, may_be  # noqa: E402
from vasomim.checkpoints.stored_check import allowed, buildable, package_of  # noqa: E402
from vasomim.engine.strict import keys_of  # noqa: E402
from vasomim.errors import CheckpointError  # noqa: E402
from vasomim.registry import registered  # noqa: E402

for module in ('vasomim.models', 'vasomim.models.segmentation', 'vasomim.models.detection', 'vasomim.data'):
    importlib.import_module(module)

# What makes of a text more than a word: in the source of a class, or of a function beside it that its keys reach.
DANGEROUS = re.compile(
    r'(?<![.\w])(eval|exec|compile|open|__import__)\(|import_module\(|fromfile\(|fromstring\(|'
    r'(?:torch|np|mmengine|json|pickle|fileio|yaml)\.load\w*\(|load_checkpoint\(|load_state_dict_from_url|get_file_backend|'
    r'FileClient\(|getattr\((?!self)\w+, *\w*(?:type|name)\b|from_pretrained\('
)
# Classes of the list in whose source one of these is found, and why no text of a config comes there.
READ = {
    ('mmseg', 'SwinTransformer'): 'init_weights loads init_cfg.checkpoint: init_cfg is left out, and nobody calls it',
    ('mmseg', 'VisionTransformer'): 'init_weights loads init_cfg.checkpoint: the same',
    ('mmdet', 'SwinTransformer'): 'init_weights loads init_cfg.checkpoint: the same',
    ('mmdet', 'PyramidVisionTransformerV2'): 'init_weights loads init_cfg.checkpoint: the same',
    ('mmdet', 'SingleRoIExtractor'): 'takes the operator roi_layer.type from mmcv.ops: two are allowed',
}
# Texts that do harm where something evaluates, imports, loads or opens them.
EVIL: tuple[Any, ...] = (
    "__import__('os').mkdir('mark')",
    "nms if [exit['X'] for exit.__class__.__getitem__ in [torch.os.system]] else 0",
    'cv2.MOTION_TRANSLATION',
    'os.system',
    'https://example.org/model.pth',
    '/tmp/model.pth',
    'teacher.py',
    'open-mmlab://resnet50',
    'weights.pkl',
    '../..',
    '~',
    {'backend': 'memcached', 'sys_path': '/tmp/folder', 'server_list_cfg': 'a', 'client_cfg': 'b'},
    {'backend': 'petrel', 'path_mapping': {'a': 'b'}},
    {'type': 'Pretrained', 'checkpoint': 'model.pth'},
    {'type': 'os.system', 'command': 'true'},
    {'_scope_': 'antigravity', 'type': 'ResNet'},
)


def everything() -> Iterator[tuple[str, str, Any]]:
    """Scope, name and class of all that a config may name."""
    for root in {id(value): value for value in vars(roots).values() if isinstance(value, Registry)}.values():
        for scope in SCOPES:
            for name, builder in registered(root, scope).items():
                yield scope, name, builder


REGISTERED = {builder: (scope, name) for scope, name, builder in everything() if callable(builder)}


def check(section: dict, scope: str) -> Any:
    return buildable(section, 'model', Config({}), scope, 'a.pth')


def test_no_key_of_any_class_takes_an_expression_a_file_an_address_or_a_backend() -> None:
    tried = 0
    for builder, (scope, name) in REGISTERED.items():
        try:
            check({'type': name}, scope)
        except CheckpointError:
            continue  # The class is not on the list, whatever its keys.
        keys = keys_of(builder).names - {'type', '_scope_'}
        for key in sorted(keys | {'backend_args', 'file_client_args', 'teacher_config', 'class_weight', 'anything'}):
            for place in range(4):  # All of them at every key would take minutes.
                evil = EVIL[(tried + place * len(EVIL) // 4) % len(EVIL)]
                value = {'inner': [evil]} if place % 2 else evil
                try:
                    kept = check({'type': name, key: value}, scope)
                except CheckpointError:
                    continue
                assert kept[key] is None, f'{package_of(builder)} {name}.{key} takes {evil!r}'
            tried += 1
    assert tried > 2_000


def test_a_class_in_whose_source_texts_become_code_or_files_is_not_on_the_list() -> None:
    found = {}
    for builder in REGISTERED:
        bases = inspect.getmro(builder) if inspect.isclass(builder) else (builder,)
        theirs = [base for base in bases if package_of(base) in STACK and package_of(base) not in ('builtins', 'torch')]
        hits = {match[0] for base in theirs for match in DANGEROUS.finditer(source_of(base))}
        if hits:
            found[package_of(builder), getattr(builder, '__name__', str(builder))] = hits
    assert {('mmdet', 'CameraMotionCompensation'), ('mmdet', 'KnowledgeDistillationSingleStageDetector')} <= set(found)
    assert len(found) > 60
    assert {name: hits for name, hits in found.items() if name in CLASSES and name not in READ} == {}


def source_of(builder: Any) -> str:
    return sources_in(builder.__module__).get(getattr(builder, '__name__', ''), '')


@functools.cache
def sources_in(module: str) -> dict[str, str]:
    """Classes and functions at the top of a module; `inspect.getsource` parses the whole file for each."""
    path = getattr(sys.modules[module], '__file__', None) or ''
    if not path.endswith('.py'):
        return {}
    lines = Path(path).read_text(encoding='utf-8').splitlines()
    tops = [node for node in ast.parse('\n'.join(lines)).body if isinstance(node, (ast.ClassDef, ast.FunctionDef))]
    return {node.name: '\n'.join(lines[node.lineno - 1 : node.end_lineno]) for node in tops}


def test_each_entry_of_the_list_is_a_class_of_its_name_and_no_other() -> None:
    classes: dict[tuple[str, str], set[Any]] = {}
    for builder in REGISTERED:
        if inspect.isclass(builder) and (package_of(builder), builder.__name__) in CLASSES:
            classes.setdefault((package_of(builder), builder.__name__), set()).add(builder)
    assert sorted(CLASSES - classes.keys()) == []
    assert {name: found for name, found in classes.items() if len(found) > 1} == {}


def test_the_libraries_alone_register_nothing_that_passes_for_a_plug_in() -> None:
    outside = {package_of(builder) for builder in REGISTERED} - set(STACK) - {'vasomim'}
    outside -= {package for package in outside if package.startswith(('tests', 'outside'))}  # Of tests before this one.
    assert outside == set()
    allowed_outside_the_list = {
        builder for builder in REGISTERED if allowed(builder) and package_of(builder) not in ('vasomim', *outside)
    }
    assert {(package_of(builder), builder.__name__) for builder in allowed_outside_the_list} <= CLASSES


@pytest.mark.parametrize('key', WORDS)
def test_a_word_is_neither_a_path_nor_an_address_nor_an_expression(key: str) -> None:
    for text in ('a.b', 'a/b', '/a', '../a', 'a b', 'a:b', 'a(b)', 'a[b]', 'a\n', '', '~a', 'a' * 80, 'á', '__class__'):
        assert not may_be(key, text), text
        assert not (WORD.fullmatch(text) and text != '__class__'), text
    assert not re.search(r'[/.:()\[\]]', re.sub(r'\[[a-z0-9_-]+\]|\{\d+,\d+\}', '', WORDS[key]))


@pytest.mark.parametrize(
    'key',
    ['weights', 'teacher_config', 'data_root', 'ann_file', 'backend_args', 'sys_path', 'checkpoint', 'a.url', 'files'],
)
def test_keys_that_name_places_are_known_by_their_names(key: str) -> None:
    assert PLACES.search(key)


@pytest.mark.parametrize('key', ['arch', 'criterion', 'loss_weight', 'img_size', 'profile', 'filters', 'reduction'])
def test_other_keys_are_not_taken_for_places(key: str) -> None:
    assert not PLACES.search(key)
