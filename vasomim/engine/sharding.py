"""Models too large for one GPU with gradients and optimizer: each process keeps a share of every tensor (FSDP)."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import barrier, is_main_process
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from vasomim.engine.runner import PretrainRunner
from vasomim.errors import ConfigError
from vasomim.registry import RUNNERS

PRETRAINING = 'mmpretrain'  # The scope of configs that pre-train.


@RUNNERS.register_module()
class ShardedRunner(PretrainRunner):
    """Pre-training with parameters, gradients and optimizer divided among the processes, by PyTorch's ``fully_shard``.

    Selected by ``runner_type = 'ShardedRunner'``. Each layer of encoder and decoder is put together when it computes,
    and taken apart again. Sampler, masks and logs of each process are those of its base, and so are the checkpoints,
    which hold whole tensors: a run may continue with another number of processes, or without sharding.

    mmengine's own ``MMFullyShardedDataParallel`` rests on PyTorch's first FSDP, which refuses to run without GPUs, and
    saves whole tensors from another runner only (``FlexibleRunner``).

    Raises:
        ConfigError: If there is one process only, the config does not pre-train, or it names a wrapper of its own.
    """

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Initialize a model, which needs whole tensors, and divide it; for evaluation alone it is divided as well."""
        where, cure = 'runner_type: ShardedRunner', 'Leave runner_type as it is in the config.'
        if not self.distributed:
            start = 'Start it by: torchrun --nproc-per-node=GPUS -m vasomim train CONFIG --launcher pytorch'
            raise ConfigError(where, 'there is one process, and nothing to divide.', f'{start}. {cure}')
        if self.cfg.get('default_scope', PRETRAINING) != PRETRAINING:
            raise ConfigError(where, 'it is for pre-training, and this is a downstream task.', cure)
        if model_wrapper_cfg is not None:
            raise ConfigError('model_wrapper_cfg', 'ShardedRunner divides the model itself.', 'Leave it out.')
        self.model = model.to(get_device())
        super()._init_model_weights()
        return shard(self.model)

    def _init_model_weights(self) -> None:
        """Do nothing: :meth:`wrap_model` has done it."""

    def build_optim_wrapper(self, optim_wrapper: Any) -> OptimWrapper | OptimWrapperDict:
        """Build the optimizer, which takes the whole tensors of a checkpoint."""
        built = super().build_optim_wrapper(optim_wrapper)
        for wrapper in built.values() if isinstance(built, OptimWrapperDict) else [built]:
            wrapper.optimizer.register_load_state_dict_pre_hook(share_state)
        return built

    def train(self) -> nn.Module:
        """Train, and end together.

        A process that ends while gloo's threads still let go of their last tensors is aborted by Python; the first
        process saves and draws longer than the others.
        """
        model = super().train()
        barrier()
        return model

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        """Put all tensors together, in all processes at once, and save them in the first one."""
        self._whole = {
            'state_dict': gather(self.model.state_dict()),
            'optimizer': gather(self.optim_wrapper.state_dict()),
        }
        try:
            super().save_checkpoint(out_dir, filename, *args, **kwargs)
        finally:
            del self._whole

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Call hooks; a checkpoint holds whole tensors before they see it, and shares before it is loaded."""
        if fn_name == 'before_save_checkpoint':
            kwargs['checkpoint'].update(
                (key, whole) for key, whole in self._whole.items() if key in kwargs['checkpoint']
            )
        super().call_hook(fn_name, **kwargs)
        if fn_name == 'after_load_checkpoint':
            own = dict(self.model.named_parameters())
            state = kwargs['checkpoint'].get('state_dict') or {}
            state.update((name, share(value, own[name])) for name, value in state.items() if name in own)


def shard(model: nn.Module) -> nn.Module:
    """Divide a model in place among all processes, layer by layer.

    Frozen parameters, such as those of the segmentor, stay whole: they are few, have neither gradients nor optimizer,
    and ``fully_shard`` does not take parameters in channels-last order.

    Args:
        model: On its device, with the same weights in all processes.
    """
    frozen = {parameter for parameter in model.parameters() if not parameter.requires_grad}
    for module in model.modules():
        if isinstance(module, TransformerEncoderLayer) and any(p.requires_grad for p in module.parameters()):
            fully_shard(module, ignored_params=frozen)
    fully_shard(model, ignored_params=frozen)
    if hasattr(model, 'reconstruct'):  # The other way into the model, beside `forward`.
        register_fsdp_forward_method(model, 'reconstruct')
    return model


def gather(state: Any) -> Any:
    """Return a state with whole tensors in the memory of the first process; all processes call this together.

    Args:
        state: Dictionaries, lists and tensors, as ``state_dict`` gives them.

    Returns:
        The same; in the other processes with None in place of each tensor that was divided.
    """
    if isinstance(state, DTensor):
        whole = state.full_tensor()
        return whole.cpu() if is_main_process() else None
    if isinstance(state, dict):
        return {key: gather(value) for key, value in state.items()}
    if isinstance(state, list):
        return [gather(value) for value in state]
    return state.cpu() if isinstance(state, Tensor) else state


def share(value: Any, parameter: Tensor) -> Any:
    """Return this process's share of a whole tensor, divided as a parameter is; anything else as it is."""
    if not isinstance(parameter, DTensor) or not isinstance(value, Tensor) or isinstance(value, DTensor):
        return value
    return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)


def share_state(optimizer: torch.optim.Optimizer, state_dict: dict) -> dict | None:
    """Divide what an optimizer keeps for each parameter as the parameters are divided, before it is loaded.

    Args:
        optimizer: Its parameters are divided.
        state_dict: With whole tensors.

    Returns:
        The state with shares; None, for the optimizer to complain, where it is of another number of parameters.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group['params']]
    indices = [index for group in state_dict['param_groups'] for index in group['params']]
    if len(parameters) != len(indices):
        return None
    state = {}
    for index, parameter in zip(indices, parameters, strict=True):
        kept = state_dict['state'].get(index)
        if kept is not None:  # Counters of steps have no place to be divided at.
            state[index] = {k: share(v, parameter) if getattr(v, 'ndim', 0) else v for k, v in kept.items()}
    return {**state_dict, 'state': state}
