"""Write synthetic angiograms with their truth in the layout of a published dataset."""

from __future__ import annotations

from pathlib import Path

from vasomim.prepare.catalog import layouts
from vasomim.progress import progress_bar
from vasomim.synthetic import writer
from vasomim.synthetic.writer import Summary


def synthesize(
    dst: str | Path,
    *,
    layout: str = 'xa170k',
    frames: int = 200,
    seed: int = 0,
    size: int = 512,
    jobs: int | None = None,
    truth: bool = False,
    progress: bool = False,
) -> Summary:
    """Write a synthetic dataset; a run that was stopped continues.

    Args:
        dst: Folder of the dataset.
        layout: One of :func:`vasomim.prepare.catalog.layouts`.
        frames: Number of images in all, >= 1.
        seed: Another seed, another dataset; >= 0.
        size: Height and width, pixels, >= 64.
        jobs: Processes, >= 1; None means one for each core.
        truth: Whether to write masks of all vessels too, 0 and 255, under ``<dst>_truth``.
        progress: Whether to show a progress bar.

    Returns:
        Numbers of frames: in the plan, simulated now, and there before.

    Raises:
        DatasetError: If the layout is unknown, a number is out of range, ``dst`` holds another dataset, or a process
            dies.
        StorageError: If it cannot be written, or another run writes there.
    """
    with progress_bar('Simulating', progress) as report:
        return writer.synthesize(dst, layout, frames, seed, size, jobs, truth, report, layouts())
