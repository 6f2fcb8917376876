"""Where a model runs."""

from __future__ import annotations

import torch

from vasomim.errors import ConfigError


def chosen_device(name: str | torch.device | None = None) -> torch.device:
    """Return a device that can be used.

    Args:
        name: 'cpu', 'cuda', 'cuda:1' and so on; None for a GPU if there is one, else the CPU.

    Raises:
        ConfigError: If there is no such device here.
    """
    wanted = name or ('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(wanted)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError) as error:  # PyTorch without CUDA asserts.
        gpus = [f'cuda:{number}' for number in range(torch.cuda.device_count())]
        what = f"'{wanted}' cannot be used: {str(error).splitlines()[0].rstrip('.')}."
        raise ConfigError('--device', what, f'Here are: {", ".join(["cpu", *gpus])}.') from error
    return device
