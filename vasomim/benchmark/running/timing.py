"""What a job will cost: a few iterations of its own config, timed in a process of its own, and the rest by counting."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vasomim import apis
from vasomim.benchmark.results.records import StoreError, sha256
from vasomim.benchmark.running.environment import peak_memory
from vasomim.benchmark.schema import Count, Number, adapter_of, checked
from vasomim.files import read_json, write_whole

ITERATIONS = 6
WARM_UP = 2
LEAST = 2  # Iterations of the smallest training.
SCORING = 0.05  # Seconds to score and draw an image of 512 px, beside the model's own.


@dataclass(frozen=True)
class Timing:
    """Seconds and memory of the parts of a job.

    Attributes:
        fixed: What does not grow with the data: to build everything twice, to write configs and logs, to draw.
        iteration: One training iteration.
        iterations: Number of them in the whole training.
        epochs: Number of validations and checkpoints.
        validation: One validation.
        checkpoint: One checkpoint.
        tests: All tests together.
        memory_gb: Peak.
        disk_gb: Of a finished job's folder.
    """

    fixed: Number
    iteration: Number
    iterations: Count
    epochs: Count
    validation: Number
    checkpoint: Number
    tests: Number
    memory_gb: Number
    disk_gb: Number

    @property
    def seconds(self) -> float:
        """The whole job."""
        return float(
            self.fixed
            + self.iterations * self.iteration
            + self.epochs * (self.validation + self.checkpoint)
            + self.tests
        )


TIMING = adapter_of(Timing)


def timing_file(folder: Path, config: str, device: str, threads: int, slots: int, processes: int) -> Path:
    """Return where a timing is kept: another config, device or number of threads or processes is another one."""
    return folder / f'{sha256(json.dumps([config, device, threads, slots, processes]))[:16]}.json'


def read_timing(path: Path) -> Timing | None:
    """Return a kept timing; None where there is none, or a damaged one: it is timed again."""
    try:
        return Timing(**checked(TIMING, read_json(path, StoreError), path, StoreError, ''))
    except StoreError:
        return None


def measure(config: str, also: dict[str, str], path: Path, processes: int = 1) -> int:
    """Time a config and keep the result.

    Args:
        config: Text of the resolved config.
        also: Texts of the configs of further tests.
        path: Where the result goes; a folder beside it holds what the run writes, for its time.
        processes: Of the training, which share its frames; a single one is timed, without their exchange of gradients.

    Returns:
        0.
    """
    begun = time.monotonic()  # On a cluster, each job imports PyTorch and the OpenMMLab libraries first.
    from vasomim.apis.training import build_runner
    from vasomim.engine.abilities import validates

    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f'{path.stem}.', dir=path.parent))  # Another run may time the same config.
    file = folder / 'config.py'
    file.write_text(config, encoding='utf-8')
    # Before all else, as in a job: what is done for the first time takes longer.
    training, testing = least_job(config, folder, begun)
    cfg = apis.load_config(file)
    cfg.work_dir = str(folder)
    runner = build_runner(cfg)
    runner._train_loop = loop = runner.build_train_loop(runner._train_loop)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner._init_model_weights()
    runner.optim_wrapper.initialize_count_status(runner.model, 0, loop.max_iters)
    iteration = mean_time(iterations(runner, loop))
    validation = 0.0
    chooses_score = cfg.default_scope == 'mmdet' and cfg.get('val_dataloader') is not None
    if cfg.get('val_dataloader') and validates(runner.model):
        loader = runner.build_dataloader(cfg.val_dataloader)
        validation = len(loader) * mean_time(forward(runner, loader, 'val_step'))
    begun = time.monotonic()
    runner.save_checkpoint(str(folder), 'checkpoint.pth', save_param_scheduler=False)
    checkpoint = time.monotonic() - begun
    tests = 0.0
    if cfg.default_scope != 'mmpretrain':
        tests = test_time(runner, runner.build_dataloader(cfg.test_dataloader))
        if chooses_score:
            tests += validation
        for name, text in also.items():
            (folder / f'{name}.py').write_text(text, encoding='utf-8')
            other = apis.load_config(folder / f'{name}.py')
            tests += test_time(runner, runner.build_dataloader(other.test_dataloader))
    timing = Timing(
        max(0.0, training - LEAST * iteration - checkpoint) + testing * (1 + len(also) + chooses_score),
        iteration,
        math.ceil(loop.max_iters / processes),
        loop.max_epochs,
        validation / processes,
        checkpoint * (2 if tests else 1),  # The best one as well.
        tests,
        peak_memory(),
        (folder / 'checkpoint.pth').stat().st_size / 1e9,
    )
    shutil.rmtree(folder, ignore_errors=True)
    write_whole(path, json.dumps(asdict(timing)))
    return 0


def least_job(config: str, folder: Path, begun: float) -> tuple[float, float]:
    """Return the seconds of the smallest training, since ``begun``, and of the smallest test.

    This is what does not grow with the data.
    """
    file = folder / 'least.py'
    file.write_text(config + "experiment_name = 'least'\n", encoding='utf-8')
    cfg = apis.load_config(file)
    least = {'train_cfg.max_epochs': 1, 'train_dataloader.dataset.indices': LEAST * cfg.train_dataloader.batch_size}
    least |= {f'{part}.dataset.indices': 1 for part in ('val_dataloader', 'test_dataloader') if cfg.get(part)}
    apis.train(file, work_dir=folder / 'least', options=least)
    training = time.monotonic() - begun
    if cfg.default_scope == 'mmpretrain':
        return training, 0.0
    options = {'test_dataloader.dataset.indices': 1, 'experiment_name': 'least_test'}
    begun = time.monotonic()
    apis.evaluate(file, folder / 'least', work_dir=folder / 'least_test', num=1, options=options)
    return training, time.monotonic() - begun


def test_time(runner: Any, loader: Any) -> float:
    """Return the seconds of one test with all that follows it."""
    return len(loader) * (mean_time(forward(runner, loader, 'test_step')) + SCORING)


def iterations(runner: Any, loop: Any) -> Iterable[None]:
    """Train for a few iterations, again from the first batch where there are fewer."""
    runner.model.train()
    runner.model.progress = 0.5  # What its algorithms read from a training that runs.
    while True:
        for batch in loop.dataloader:
            runner.model.train_step(batch, optim_wrapper=runner.optim_wrapper)
            synchronize()
            yield


def forward(runner: Any, loader: Any, step: str) -> Iterable[None]:
    """Predict for a few images, again from the first where there are fewer."""
    import torch

    runner.model.eval()
    while True:
        for batch in loader:
            with torch.no_grad():
                getattr(runner.model, step)(batch)
            synchronize()
            yield


def synchronize() -> None:
    """Wait for the accelerator."""
    import torch

    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def mean_time(steps: Iterable[None], number: int = ITERATIONS) -> float:
    """Return the seconds of a step, without the first ones."""
    source = iter(steps)
    for _ in range(WARM_UP):
        next(source)
    begun = time.monotonic()
    for _ in range(number):
        next(source)
    return (time.monotonic() - begun) / number
