"""The machine, the versions and the time of a job, for its record."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from vasomim import __version__


def now() -> str:
    """Return the time, UTC, as ISO 8601; durations are measured by another clock, which does not jump."""
    return datetime.now(timezone.utc).strftime('%Y-%m-%dT%H:%M:%SZ')


def peak_memory() -> float:
    """Return the largest memory of this process in GB: the accelerator's where one was used."""
    torch = sys.modules.get('torch')
    if torch is not None and torch.cuda.is_initialized():
        return float(torch.cuda.max_memory_allocated()) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def device_name() -> str:
    """Return the name of the accelerator in use, or 'cpu'."""
    torch = sys.modules.get('torch')
    return torch.cuda.get_device_name() if torch is not None and torch.cuda.is_initialized() else 'cpu'


def environment() -> dict[str, Any]:
    """Return versions, commit and machine."""
    torch = sys.modules.get('torch')
    found = {
        'python': platform.python_version(),
        'vasomim': __version__,
        'commit': commit(),
        'machine': platform.machine(),
        'system': platform.system(),
        'cores': os.cpu_count(),
    }
    for name in ('torch', 'mmengine', 'mmpretrain', 'mmseg', 'mmdet', 'numpy'):
        module = sys.modules.get(name)
        if module is not None:
            found[name] = str(module.__version__)
    if torch is not None:
        found['threads'] = torch.get_num_threads()
    return found


def commit() -> str | None:
    """Return the commit of the checkout that runs, None outside one; '+' marks changed files."""
    root = Path(__file__).parents[3]
    git = shutil.which('git')
    if git is None or not (root / '.git').exists():
        return None
    name = subprocess.run([git, '-C', str(root), 'rev-parse', 'HEAD'], capture_output=True, text=True, check=False)
    state = subprocess.run(
        [git, '-C', str(root), 'status', '--porcelain', '--untracked-files=no', '--', 'vasomim', 'configs'],
        capture_output=True,
        text=True,
        check=False,
    )
    return name.stdout.strip() + ('+' if state.stdout.strip() else '') if name.returncode == 0 else None
