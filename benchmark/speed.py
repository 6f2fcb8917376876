"""How fast the parts are, each beside its reference in the same run: ``python benchmark/speed.py [--json FILE]``."""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import platform
import resource
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from vasomim.anatomy import extract_anatomy
from vasomim.anatomy.extraction import BORDER
from vasomim.cli import main as cli
from vasomim.cores import cores
from vasomim.prepare.anatomy_maps import Settings, Task, extract_all
from vasomim.synthetic import simulate_frame

METHODS = ('mae', 'simmim', 'vasomim')
# Options of a step: how the default step is changed to have it, and how to lack it; None leaves the default as it is.
OPTIONS: dict[str, tuple[str | None, str | None]] = {
    'fused attention': (None, 'attention by hand'),
    'fused AdamW': (None, 'AdamW by hand'),
    'channels-last segmentor': (None, 'channels first'),
    'bfloat16 autocast': ('bfloat16', None),
    'gradients of two halves': ('accumulation', None),
    'activation checkpointing': ('checkpointing', None),
    'torch.compile': ('compile', None),
}
# TFLOP/s of bfloat16 without sparsity, from NVIDIA's data sheets, by a part of the name that PyTorch gives.
DATA_SHEETS = {'H100 80GB HBM3': 989.4, 'H100 PCIe': 756.0, 'H200': 989.4, 'A100': 312.0}


@dataclass(frozen=True)
class Row:
    """A measured quantity.

    Attributes:
        name: What was measured.
        unit: Its unit.
        ours: The value of this project.
        reference: The value of what it is compared with, if anything.
        ratio: The two compared, as ``goal`` says.
        goal: Which ratio is wanted.
    """

    name: str
    unit: str
    ours: float
    reference: float | None = None
    ratio: float | None = None
    goal: str = ''


def measure_anatomy(frames: int = 8, files: int | None = None) -> list[Row]:
    """Measure the extraction of anatomy on simulated frames of 512 x 512.

    On one core against scikit-image's filter, as the released code calls it, and a region grower in plain Python, frame
    by frame in turn, in seconds of the processor: other programs disturb these little. On all cores in seconds of the
    clock, with reading and writing, as ``vasomim extract`` does it.

    Args:
        frames: How many different frames.
        files: How many files the cores share; None: enough to make the start of the processes small.
    """
    images = [simulate_frame(seed).image for seed in range(frames)]
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    times = [
        [1000 * seconds(time.process_time, extract, image) for extract in (extract_anatomy, slow_anatomy)]
        for image in images
    ]
    cv2.setNumThreads(threads)
    ours, reference = (statistics.median(column) for column in zip(*times, strict=True))
    return [
        Row('anatomy, one core', 'ms/frame', ours, reference, reference / ours, 'reference / ours >= 10'),
        Row(f'anatomy, {cores()} cores', 'frames/s', folder_rate(images, files or max(200, 60 * cores()))),
    ]


def folder_rate(images: list[NDArray[np.uint8]], number: int) -> float:
    """Return frames per second from PNG files to PNG files on all cores, the start of the processes included."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, f'{index}.png') for index in range(len(images))]
        for file, image in zip(files, images, strict=True):
            cv2.imwrite(str(file), image)
        tasks = [
            Task(str(index), files[index % len(files)], Path(folder, 'maps', f'{index}.png')) for index in range(number)
        ]
        return number / seconds(time.perf_counter, lambda: list(extract_all(tasks, Settings.of('sato'), cores())))


def slow_anatomy(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Extract anatomy with scikit-image's tubeness and by visiting the region's pixels one after the other."""
    from skimage.filters import sato

    response = sato(frame, sigmas=range(1, 5), black_ridges=True, mode='reflect').astype(np.uint8)
    inner = response[BORDER:-BORDER, BORDER:-BORDER].copy()
    response[:] = 0
    response[BORDER:-BORDER, BORDER:-BORDER] = inner
    candidates = response >= np.percentile(response, 92)
    height, width = response.shape
    mask = np.zeros_like(response)
    first = np.unravel_index(response.argmax(), response.shape)
    mask[first] = 1
    queue = deque([first])
    while queue:
        row, column = queue.popleft()
        for y, x in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            if 0 <= y < height and 0 <= x < width and candidates[y, x] and not mask[y, x]:
                mask[y, x] = 1
                queue.append((y, x))
    return mask


def measure_loader(frames: int = 12, rounds: int = 16) -> list[Row]:
    """Measure how many samples a process makes of frames of 512 x 512, in frames per second of the processor.

    Packed frames, and the same frames as PNG files, both through the pipeline of ``configs/_base_/frames.py``; the
    reference opens, converts, crops and flips the PNG files with Pillow and torchvision. One process, one thread; each
    round reads all frames by each loader in turn, and the rates are the medians over the rounds.

    Args:
        frames: How many different frames.
        rounds: How often each loader reads them, after once that is not counted.
    """
    import torch

    from vasomim.apis.configs import load_config
    from vasomim.data import XA170K, PackedAngiograms

    threads, torch_threads = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, 'frames')
        files = write_source(root, frames)
        if cli('pack', [str(root)]) != 0:
            raise RuntimeError('The frames could not be packed.')
        pipeline = load_config('vasomim::pretrain/vasomim.py').train_dataloader.dataset.pipeline
        readers: dict[str, Callable[[int], object]] = {
            'packed': PackedAngiograms(f'{root}.packed', pipeline=pipeline).__getitem__,
            'files': XA170K(root, pipeline=pipeline).__getitem__,
            'RGB': lambda index: slow_sample(*files[index], 'RGB'),
            'L': lambda index: slow_sample(*files[index], 'L'),
        }

        def read_all(read: Callable[[int], object]) -> None:
            for index in range(frames):
                read(index)

        times = [
            {name: seconds(time.process_time, read_all, read) for name, read in readers.items()}
            for _ in range(rounds + 1)
        ][1:]
    cv2.setNumThreads(threads)
    torch.set_num_threads(torch_threads)
    rate = {name: frames / statistics.median(each[name] for each in times) for name in readers}
    return [
        Row(title, 'frames/s', rate[ours], rate[slow], rate[ours] / rate[slow], goal)
        for title, ours, slow, goal in (
            ('loader, packed, one process', 'packed', 'RGB', 'ours / PIL >= 10'),
            ('loader, packed, PIL in grey', 'packed', 'L', 'ours / PIL'),
            ('loader, PNG files', 'files', 'RGB', 'ours / PIL'),
        )
    ]


def write_source(root: Path, frames: int) -> list[tuple[Path, Path]]:
    """Write simulated frames and their anatomy as a source of XA-170K; return the files of each."""
    files = []
    for index in range(frames):
        frame, anatomy = root / 'syntax' / f'{index}.png', root / 'syntax_frangi' / f'{index}.png'
        image = simulate_frame(index).image
        for path, pixels in ((frame, image), (anatomy, 255 * extract_anatomy(image))):
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), pixels)
        files.append((frame, anatomy))
    return files


def slow_sample(frame: Path, anatomy: Path, mode: str, size: int = 224) -> tuple[object, object]:
    """Make a sample as torchvision's transforms do, of Pillow's images: open, convert, crop and resize, flip, to float.

    Args:
        frame: The frame, converted to ``mode``: 'RGB', as encoders of natural images want it, or 'L'.
        anatomy: Its map.
        mode: Pillow's name of the colours.
        size: Side of the crop, pixels.
    """
    from torchvision.transforms import InterpolationMode, RandomResizedCrop
    from torchvision.transforms import functional as transforms

    images = Image.open(frame).convert(mode), Image.open(anatomy).convert('L')
    box = RandomResizedCrop.get_params(images[0], [0.2, 1.0], [3 / 4, 4 / 3])
    mirror = np.random.random() < 0.5
    tensors = []
    for image, how in zip(images, (InterpolationMode.BICUBIC, InterpolationMode.NEAREST), strict=True):
        cropped = transforms.resized_crop(image, *box, [size, size], how)
        tensors.append(transforms.to_tensor(transforms.hflip(cropped) if mirror else cropped))
    return tensors[0], tensors[1]


def measure_steps(arch: str = 'small', batch: int = 16, rounds: int = 5, side: int = 224) -> list[Row]:
    """Measure a training step and its peak memory: SimMIM and VasoMIM beside MAE, the same encoder and frames.

    All mask half of the patches; MAE and VasoMIM decode with 512 x 8. Each round steps the methods in turn, and the
    ratio is the median over the rounds, so that what disturbs the machine disturbs all of them.

    Args:
        arch: Size of the encoder.
        batch: Frames a step.
        rounds: Steps of each method that are counted, after one that is not.
        side: Height and width of the frames, pixels.
    """
    import torch

    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    steps = {method: build_step(method, arch, batch, side, device) for method in METHODS}
    for step in steps.values():
        step()
    times = [{method: seconds(time.perf_counter, step) for method, step in steps.items()} for _ in range(rounds)]
    memory = {method: peak_memory(method, arch, batch, side, device) for method in METHODS}
    rows = []
    for method in METHODS[1:]:
        ours, mae = (1000 * statistics.median(time[name] for time in times) / batch for name in (method, 'mae'))
        ratio = statistics.median(time[method] / time['mae'] for time in times)
        limit = '1.05' if arch == 'base' else '1.10'  # The segmentor's share falls with the size of the encoder.
        goal = f'ours / MAE <= {limit}' if method == 'vasomim' else 'ours / MAE'
        rows.append(Row(f'step, {method}, {arch}, batch {batch}, {device}', 'ms/frame', ours, mae, ratio, goal))
        ratio = memory[method] / memory['mae']
        rows.append(Row(f'peak memory, {method}', 'GB', memory[method], memory['mae'], ratio, 'ours / MAE'))
    return rows


def measure_options(
    arch: str = 'small', batch: int = 8, rounds: int = 5, side: int = 224, names: Sequence[str] = tuple(OPTIONS)
) -> list[Row]:
    """Measure a step of VasoMIM with an option beside one without it, and the peak memory of both.

    Both step in turn, and the ratio is the median over the rounds; in seconds of the processor, on a GPU of the clock.

    Args:
        arch: Size of the encoder.
        batch: Frames a step.
        rounds: Steps of each that are counted, after two that are not.
        side: Height and width of the frames, pixels.
        names: Which of ``OPTIONS``.
    """
    import torch

    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    clock = time.perf_counter if device == 'cuda' else time.process_time
    rows = []
    for name in names:
        cases = [('vasomim', arch, batch, side, device, change) for change in OPTIONS[name]]
        steps = [build_step(*case) for case in cases]
        for step in (*steps, *steps):
            step()
        times = [[1000 * seconds(clock, step) / batch for step in steps] for _ in range(rounds)]
        have, lack = (statistics.median(column) for column in zip(*times, strict=True))
        ratio = statistics.median(pair[0] / pair[1] for pair in times)
        del steps, step
        rows.append(Row(f'{name}, {arch}, batch {batch}, {device}', 'ms/frame', have, lack, ratio, 'with / without'))
        held = [peak_memory(*case) for case in cases]
        rows.append(Row(f'peak memory, {name}', 'GB', held[0], held[1], held[0] / held[1], 'with / without'))
    return rows


def measure_throughput(arch: str = 'base', batch: int = 256, rounds: int = 20, side: int = 224) -> list[Row]:
    """Measure how much of the device MAE and VasoMIM use: frames/s, operations/s beside its peak, and memory.

    bfloat16, on a GPU with ``torch.compile``; where memory runs out, with activation checkpointing. Operations are
    those of the products of matrices, convolutions and attention in a step, forwards and backwards, without what
    checkpointing computes again. Two peaks stand beside them: of a large product of matrices in this run, and of the
    chip as its vendor gives it, where that is known here.

    Args:
        arch: Size of the encoder.
        batch: Frames a step.
        rounds: Steps that are counted, after three that are not.
        side: Height and width of the frames, pixels.
    """
    import torch

    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    chip = torch.cuda.get_device_name() if device == 'cuda' else processor()
    peaks = {'a large product here': product_rate(device)}
    for name, sheet in DATA_SHEETS.items():
        if name in chip:
            peaks['the data sheet'] = sheet
    rows = []
    for method in ('mae', 'vasomim'):
        operations = count_operations(method, arch, side) / 1e12
        change, step_time = 'full speed', math.nan
        try:
            step_time = median_step(build_step(method, arch, batch, side, device, change), rounds)
        except torch.cuda.OutOfMemoryError:
            change = 'full speed, checkpointing'
        if math.isnan(step_time):  # Outside the handler, whose traceback holds what lies on the device.
            torch.cuda.empty_cache()
            step_time = median_step(build_step(method, arch, batch, side, device, change), rounds)
        case = f'{method}, {arch}, batch {batch}, {change}'
        rate = batch / step_time
        rows.append(Row(f'{case}, {chip}', 'frames/s', rate))
        rows += [
            Row(case, 'TFLOP/s', operations * rate, peak, operations * rate / peak, f'ours / {name}')
            for name, peak in peaks.items()
        ]
        rows.append(Row(f'peak memory, {case}', 'GB', peak_memory(method, arch, batch, side, device, change)))
    return rows


def median_step(step: Callable[[], None], rounds: int) -> float:
    """Return the seconds of a step, the median of some after three that are not counted."""
    for _ in range(3):
        step()
    return statistics.median(seconds(time.perf_counter, step) for _ in range(rounds))


def count_operations(method: str, arch: str, side: int = 224, batch: int = 2) -> float:
    """Return the floating-point operations of a frame in a training step, forwards and backwards.

    Args:
        method: Name of a config of ``pretrain/``.
        arch: Size of the encoder.
        side: Height and width of the frames, pixels.
        batch: Frames of the step that is counted.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    step = build_step(method, arch, batch, side, 'cpu')
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # It knows not all fused kernels.
        step()
    return counter.get_total_flops() / batch


def product_rate(device: str, rounds: int = 10) -> float:
    """Return the TFLOP/s of a product of two large bfloat16 matrices, the median of some.

    Args:
        device: 'cuda', or 'cpu', where the matrices are smaller.
        rounds: How many are counted, after two that are not.
    """
    import torch

    side = 8192 if device == 'cuda' else 2048
    left, right = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))

    def multiply() -> None:
        torch.mm(left, right)
        if device == 'cuda':
            torch.cuda.synchronize()

    multiply()
    multiply()
    return 2 * side**3 / statistics.median(seconds(time.perf_counter, multiply) for _ in range(rounds)) / 1e12


def build_step(
    method: str, arch: str, batch: int, side: int, device: str, change: str | None = None
) -> Callable[[], None]:
    """Build a method and return its whole step: preprocessing, anatomy, masking, losses, gradients, AdamW.

    Args:
        method: Name of a config of ``pretrain/``.
        arch: Size of the encoder.
        batch: Frames a step.
        side: Height and width of the frames, pixels.
        device: Where the model lies.
        change: Another step than the default one, named in ``OPTIONS``; or 'full speed': bfloat16, on a GPU compiled.
    """
    import torch
    from mmengine.optim import OptimWrapper
    from mmpretrain.structures import DataSample

    from vasomim.apis.configs import load_config
    from vasomim.engine import AutocastOptimWrapper
    from vasomim.registry import MODELS

    torch.manual_seed(0)
    size = {'model.backbone.arch': arch, 'model.backbone.img_size': side, 'model.masking.ratio': 0.5}
    change = change or ''
    size['model.backbone.checkpointing'] = 'checkpointing' in change
    config = load_config(f'vasomim::pretrain/{method}.py', [f'{key}={value}' for key, value in size.items()])
    model = MODELS.build(config.model).to(device).train()
    model.init_weights()
    model.progress = 1.0
    change_model(model, 'compile' if 'full speed' in change and device == 'cuda' else change)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    parts = 2 if change == 'accumulation' else 1
    wrapper = AutocastOptimWrapper if change == 'bfloat16' or 'full speed' in change else OptimWrapper
    optimizer = wrapper(
        optimizer=torch.optim.AdamW(trained, lr=1e-4, fused=change != 'AdamW by hand'), accumulative_counts=parts
    )
    optimizer.initialize_count_status(model, 0, 10**9)
    frame = simulate_frame(0).image[:side, :side].copy()
    inputs = [torch.from_numpy(frame).unsqueeze(0)] * (batch // parts)
    anatomy = torch.from_numpy(extract_anatomy(frame)).unsqueeze(0)

    def step() -> None:
        for _ in range(parts):
            samples = [DataSample() for _ in inputs]
            if method == 'vasomim':
                for sample in samples:
                    sample.set_field(anatomy, 'anatomy', field_type='data')
            model.train_step({'inputs': inputs, 'data_samples': samples}, optimizer)
        if device == 'cuda':
            torch.cuda.synchronize()

    return step


def change_model(model: Any, change: str) -> None:
    """Change a model in place as ``OPTIONS`` names it; other changes are not the model's."""
    import torch
    from mmpretrain.models.utils.attention import MultiheadAttention, scaled_dot_product_attention_pyimpl

    from vasomim.engine.compilation import compile_parts

    if change == 'attention by hand':
        for module in model.modules():
            if isinstance(module, MultiheadAttention):
                module.scaled_dot_product_attention = scaled_dot_product_attention_pyimpl
    elif change == 'channels first':
        model.segmentor.memory_format = torch.contiguous_format
        model.segmentor.to(memory_format=torch.contiguous_format)
    elif change == 'compile':
        compile_parts(model, True)


def peak_memory(*arguments: object) -> float:
    """Return the peak memory of two steps in a process of their own, GB: the device's, or the process's on a CPU.

    Args:
        *arguments: Those of :func:`build_step`.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context('spawn')) as pool:
        return pool.submit(_peak_memory, *arguments).result()


def _peak_memory(method: str, arch: str, batch: int, side: int, device: str, change: str | None = None) -> float:
    import torch

    step = build_step(method, arch, batch, side, device, change)
    step()
    step()
    if device == 'cuda':
        return torch.cuda.max_memory_allocated() / 1e9
    return peak_of_process()


def peak_of_process() -> float:
    """Return the most memory that this process has held, GB.

    Linux counts into ``ru_maxrss`` what the parent held when it started the process, so the system's own table is read
    where there is one.
    """
    try:
        lines = Path('/proc/self/status').read_text(encoding='utf-8').splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return next(int(line.split()[1]) for line in lines if line.startswith('VmHWM')) * 1024 / 1e9


def seconds(clock: Callable[[], float], action: Callable[..., object], *arguments: object) -> float:
    """Return how long an action takes by a clock."""
    start = clock()
    action(*arguments)
    return clock() - start


SECTIONS: dict[str, Callable[..., list[Row]]] = {
    'anatomy': measure_anatomy,
    'loader': measure_loader,
    'step': measure_steps,
    'options': measure_options,
    'throughput': measure_throughput,
}
SIZED = ('step', 'options', 'throughput')  # Those that train.
DEFAULT = ('anatomy', 'loader', 'step', 'options')  # What two cores measure in minutes.


def main() -> None:
    """Measure, print a table, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--json', type=Path, metavar='FILE', help='also write the numbers there')
    parser.add_argument('--only', nargs='+', choices=sorted(SECTIONS), default=DEFAULT, help='which parts')
    parser.add_argument(
        '--arch',
        help='encoder of the training steps: tiny, small, base, large, huge (default: small, of throughput base)',
    )
    parser.add_argument(
        '--batch', type=int, help='frames of a training step (default: 16, of options 8, of throughput 256)'
    )
    options = parser.parse_args()
    sizes = {name: value for name in ('arch', 'batch') if (value := getattr(options, name)) is not None}
    rows = [row for section in options.only for row in SECTIONS[section](**(sizes if section in SIZED else {}))]
    table = Table('', 'unit', 'ours', 'reference', 'ratio', 'goal')
    for row in rows:
        numbers = ('' if value is None else f'{value:.2f}' for value in (row.ours, row.reference, row.ratio))
        table.add_row(row.name, row.unit, *numbers, row.goal)
    Console().print(table)
    if options.json:
        machine = {'processor': processor(), 'cores': cores(), 'python': platform.python_version()}
        content = {'machine': machine, 'rows': [asdict(row) for row in rows]}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(content, indent=2) + os.linesep, encoding='utf-8')


def processor() -> str:
    """Return the processor's name, as far as the system tells."""
    try:
        lines = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.processor()


if __name__ == '__main__':
    main()
