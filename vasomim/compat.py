"""The one place that knows the quirks of the OpenMMLab stack.

:func:`prepare` does five things, each once and only where needed:

* Where mmcv comes without its compiled operators, a stand-in for ``mmcv._ext`` lets mmcv, mmpretrain, mmseg and mmdet
  be imported and trained: NMS, RoIAlign and the sigmoid focal loss run through torchvision, every other operator
  says how to get it.
* mmengine reads checkpoints through :mod:`vasomim.tensorfiles`. Its own reader runs what a file holds (OneDL's when the
  safe way fails, OpenMMLab's with an older torch), and resuming runs the text of a config in it.
* mmpretrain's multi-modal models, which nothing here uses, are left out where transformers is too new for them:
  importing them would fail, and mmpretrain with them.
* mmengine prints a message without a logger whatever its level; those for debugging, by which OneDL's libraries say
  that optional data sets are missing, are dropped.
* mmengine keeps a fixed list of packages whose configs ``_base_ = 'package::...'`` finds; this one joins it. What is
  inherited from it is read like what is inherited by its path: mmengine would note in each section that this package
  alone builds it, but mmseg and mmdet build the downstream ones.
"""

from __future__ import annotations

import functools
import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import logging
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock
from urllib.parse import urlparse

import torch

from vasomim.errors import CheckpointError, StackError
from vasomim.tensorfiles import check_values, read_file

OPERATORS = 'mmcv._ext'


class OperatorsStandIn(ModuleType):
    """Answers for mmcv's compiled operators: what torchvision has through it, all others with a clear error."""

    def __init__(self) -> None:
        super().__init__(OPERATORS, 'Stand-in for the compiled operators of mmcv.')
        # importlib.util.find_spec, with which libraries ask for the operators, raises ValueError without a spec.
        self.__spec__ = importlib.machinery.ModuleSpec(OPERATORS, loader=None, origin='vasomim.compat')

    def nms(self, boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float, offset: int = 0) -> torch.Tensor:
        """Suppress boxes that overlap a better one; takes the place of mmcv's operator of this name.

        Args:
            boxes: Corners x1, y1, x2, y2, (N, 4).
            scores: (N,).
            iou_threshold: A box is dropped where its IoU with a kept, better one exceeds this.
            offset: 0, or 1 where x2 and y2 name the last pixel inside the box.

        Returns:
            Indices of the kept boxes by falling score, (K,) int64.
        """
        from torchvision.ops import nms

        # Widths, heights and overlaps all use x2 - x1 + offset, which is the plain rule for corners moved by offset.
        return nms(boxes + boxes.new_tensor([0, 0, offset, offset]), scores, iou_threshold)

    def sigmoid_focal_loss_forward(
        self, logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor, output: torch.Tensor, **factors: float
    ) -> None:
        """Write the focal loss of each logit; takes the place of mmcv's operator of this name, used on GPUs.

        Args:
            logits: (N, C).
            target: Class, (N,) int64; C means the background.
            weight: Of each class, empty for none; no others are supported.
            output: Written to, (N, C).
            **factors: ``gamma`` and ``alpha`` of the loss.
        """
        if weight.numel():
            self.__getattr__('sigmoid_focal_loss_forward with weights of classes')()
        output.copy_(_focal_loss(logits, target, **factors))

    def sigmoid_focal_loss_backward(
        self, logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor, output: torch.Tensor, **factors: float
    ) -> None:
        """Write the derivative of each loss by its logit; arguments as in the forward pass."""
        with torch.enable_grad():
            logits = logits.detach().requires_grad_()
            output.copy_(torch.autograd.grad(_focal_loss(logits, target, **factors).sum(), logits)[0])

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith('__'):  # Python's own probes, such as __path__ and __file__.
            raise AttributeError(name)

        def unavailable(*_args: Any, **_kwargs: Any) -> Any:
            raise StackError(
                f'mmcv operator {name}',
                'it is a compiled one, and the installed mmcv has none (torchvision does NMS, RoIAlign, focal loss).',
                'Install mmcv with its operators compiled for your PyTorch, or choose a model that needs none.',
            )

        return unavailable


def _focal_loss(logits: torch.Tensor, target: torch.Tensor, gamma: float, alpha: float) -> torch.Tensor:
    from torchvision.ops import sigmoid_focal_loss

    classes = logits.shape[1]
    of_class = torch.nn.functional.one_hot(target, classes + 1)[:, :classes].to(logits.dtype)
    return sigmoid_focal_loss(logits, of_class, alpha=alpha, gamma=gamma)


def prepare() -> None:
    """Make the installed stack ready; repeating the call changes nothing.

    Raises:
        ModuleNotFoundError: If mmengine or mmcv is not installed.
    """
    _drop_debug_messages()
    if not has_compiled_operators() and not isinstance(sys.modules.get(OPERATORS), OperatorsStandIn):
        _install_stand_in()
    if 'mmpretrain.models' not in sys.modules and not multimodal_works():
        _import_without_multimodal()
    _read_checkpoints_as_data()
    _publish_configs()


def has_compiled_operators() -> bool:
    """Tell whether mmcv brings its compiled operators; the stand-in does not count.

    Raises:
        ModuleNotFoundError: If mmcv is not installed.
    """
    if isinstance(sys.modules.get(OPERATORS), OperatorsStandIn):
        return False
    return importlib.util.find_spec(OPERATORS) is not None


def multimodal_works() -> bool:
    """Tell whether mmpretrain's multi-modal models find in transformers what they import; also true without it."""
    try:
        version = importlib.metadata.version('transformers')
    except importlib.metadata.PackageNotFoundError:
        return True  # mmpretrain then leaves them out itself.
    return int(version.partition('.')[0]) < 5  # The last ones with `find_pruneable_heads_and_indices`.


def _import_without_multimodal() -> None:
    """Import mmpretrain while transformers seems not to be installed."""
    dependency = sys.modules.get('mmpretrain.utils.dependency')
    if dependency is not None:  # Its structures were imported first, and it has looked already.
        dependency.WITH_MULTIMODAL = False  # type: ignore[attr-defined]
        return
    with ExitStack() as stack:
        # OneDL's mmpretrain asks Python's own module, OpenMMLab's the distribution that it came from.
        for name in ('importlib.metadata', 'importlib_metadata'):
            if importlib.util.find_spec(name) is not None:
                module = importlib.import_module(name)
                stack.enter_context(mock.patch.object(module, 'distribution', _without_transformers(module)))
        importlib.import_module('mmpretrain')


def _without_transformers(metadata: ModuleType) -> Callable[[str], Any]:
    find = metadata.distribution

    def find_others(name: str) -> Any:
        if name == 'transformers':
            raise metadata.PackageNotFoundError(name)
        return find(name)

    return find_others


def _install_stand_in() -> None:
    import mmcv

    stand_in = OperatorsStandIn()
    sys.modules[OPERATORS] = stand_in
    mmcv._ext = stand_in  # What importing a real submodule would do.

    roi_align = importlib.import_module('mmcv.ops').RoIAlign
    build = roi_align.__init__

    @functools.wraps(build)
    def build_with_torchvision(self: Any, *args: Any, **kwargs: Any) -> None:
        build(self, *args, **kwargs)
        # torchvision only averages; maximum pooling is left to end in the missing operator's error.
        self.use_torchvision = self.pool_mode == 'avg'

    roi_align.__init__ = build_with_torchvision


def _read_checkpoints_as_data() -> None:
    """Let mmengine read checkpoints as this project does, whoever asks it to: a runner, an ``init_cfg``, a library."""
    from mmengine.runner import checkpoint as mm_checkpoint

    loader = mm_checkpoint.CheckpointLoader
    loader.register_scheme('', load_from_local, force=True)
    loader.register_scheme(('pavi://', r'(\S+\:)?s3://', r'(\S+\:)?petrel://'), load_from_store, force=True)
    mm_checkpoint.load_url = _load_url  # By which `http://`, `torchvision://` and the other model zoos end.
    if hasattr(mm_checkpoint, '_safe_torch_load'):  # OneDL's, for files that its model zoo names.
        mm_checkpoint._safe_torch_load = load_from_local


def load_from_local(filename: str, map_location: Any = None, **_: Any) -> Any:
    """Read a checkpoint for mmengine, in the memory of the CPU; what loads it moves it.

    Args:
        filename: A file.
        map_location: Not heeded: models and optimizers copy what they load to their own device.

    Returns:
        What is in the file, without ``meta['config']``, the text of which mmengine would run.

    Raises:
        CheckpointError: If there is no such file, or it is not whole, plain and finite.
    """
    path = Path(filename).expanduser()
    content = read_file(path)
    check_values(content, path)
    if isinstance(content, dict) and isinstance(content.get('meta'), dict):
        content['meta'].pop('config', None)
    return content


def load_from_store(filename: str, map_location: Any = None) -> Any:
    """Refuse an address of a store that only its own client can read.

    Raises:
        CheckpointError: Always.
    """
    raise CheckpointError(filename, 'checkpoints of this store are not read.', 'Copy it here, and name the file.')


def _load_url(url: str, model_dir: str | None = None, map_location: Any = None, progress: bool = True) -> Any:
    """Download a checkpoint into torch's cache, if it is not there, and read it as any other file."""
    folder = Path(model_dir or Path(torch.hub.get_dir(), 'checkpoints'))
    path = folder / Path(urlparse(url).path).name
    if not path.is_file():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), progress=progress)
        except (OSError, ValueError) as error:
            cure = 'Download it where there is a network, and name the file in place of the address.'
            raise CheckpointError(url, f'it cannot be downloaded to {path}: {error}.', cure) from error
    return load_from_local(str(path))


def _drop_debug_messages() -> None:
    from mmengine import logging as mm_logging

    original = mm_logging.print_log
    if getattr(original, '__wrapped__', None) is not None:
        return

    @functools.wraps(original)
    def print_log(msg: Any, logger: Any = None, level: int = logging.INFO) -> None:
        if logger is not None or level >= logging.INFO:
            original(msg, logger, level)

    mm_logging.print_log = print_log  # Those modules import it where they print.


def _publish_configs() -> None:
    from mmengine.config import Config
    from mmengine.config.utils import MODULE2PACKAGE

    if 'vasomim' in MODULE2PACKAGE:
        return
    MODULE2PACKAGE['vasomim'] = 'vasomim'
    original = Config._get_cfg_path

    @functools.wraps(original)
    def get_path(cfg_path: str, filename: str) -> tuple[str, str | None]:
        path, scope = original(cfg_path, filename)
        return path, None if scope == 'vasomim' else scope

    Config._get_cfg_path = staticmethod(get_path)
