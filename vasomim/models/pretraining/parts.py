"""What a composition is made of: the contracts of its parts, and the checks that they fit when they are built."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any, TypeVar

from torch import Tensor, nn

from vasomim.errors import ConfigError
from vasomim.masking import Masking, masked_count
from vasomim.models.masked_vit import MaskedViT
from vasomim.models.pretraining.evidence import Evidence, MaskedBatch
from vasomim.registry import MODELS

# What a part may need, and what gives it.
NEEDS = {
    'guidance': 'model.guidance=dict(type=VesselGuidance)',
    'segmentor': 'model.segmentor=dict(type=UNeXt, weights=unext_s)',
    'anatomy': 'a data set with anatomy maps',
}
HEAD = ('loss', 'loss_per_patch', 'loss_per_frame', 'fold')  # What a head does.
Part = TypeVar('Part', bound=nn.Module)


class Guidance(nn.Module):
    """Base of what guides the masks, registered by their own names.

    Attributes:
        needs: What of the :class:`~vasomim.models.pretraining.evidence.Evidence` it reads: 'anatomy', 'segmentor'.
    """

    needs: tuple[str, ...] = ()

    def forward(self, frames: Tensor, evidence: Evidence) -> Tensor:
        """Return where masks should fall, in [0, 1], (B, 1, H, W) or coarser down to a value a patch.

        Args:
            frames: Normalized frames, (B, 3, H, W).
            evidence: What is known of their vessels, as far as ``needs`` says.
        """
        raise NotImplementedError


class LossTerm(nn.Module):
    """Base of the losses beside the reconstruction's, registered by their own names.

    Attributes:
        needs: What it reads: 'anatomy', 'segmentor' (its vessels too), 'guidance'.
    """

    needs: tuple[str, ...] = ()

    def forward(self, batch: MaskedBatch) -> Tensor:
        """Return the loss of a batch, a scalar."""
        raise NotImplementedError


def build_part(config: Any, base: type[Part], where: str) -> Part:
    """Build a part and check that it is of its kind.

    Args:
        config: Its config.
        base: The class that it has to be derived from.
        where: Its place in the config, for the error.

    Raises:
        ConfigError: If it is something else, has no ``forward`` of its own, or needs what nothing gives.
    """
    part = MODELS.build(config)
    name, contract = type(part).__name__, f'{base.__module__}.{base.__name__}'
    if not isinstance(part, base):
        raise ConfigError(where, f'{name} is no {base.__name__}.', f'Derive it from {contract}.')
    if not fits(type(part).forward, base.forward):
        expected = ', '.join(inspect.signature(base.forward).parameters)
        raise ConfigError(where, f'forward of {name} is not called as {contract} is.', f'Write forward({expected}).')
    for need in getattr(part, 'needs', ()):
        if need not in NEEDS:
            raise ConfigError(where, f"{name} needs '{need}', which nothing gives.", f'Choose from {", ".join(NEEDS)}.')
    return part


def fits(function: Any, contract: Any) -> bool:
    """Return whether a method is another one than that of the base, and may be called with as many arguments."""
    try:
        wanted = len(inspect.signature(contract).parameters)
        inspect.signature(function).bind(*[None] * wanted)
    except TypeError:
        return False
    return function is not contract


def check_masking(masking: Masking, grid: tuple[int, int], where: str = 'model.masking') -> None:
    """Check that a masking module says what it masks, and masks some but not all of a grid.

    Raises:
        ConfigError: If it lacks ``ratio`` or ``unit``, or does not fit the grid.
    """
    name = type(masking).__name__
    ratio, unit = getattr(masking, 'ratio', None), getattr(masking, 'unit', None)
    if not isinstance(ratio, Real) or not isinstance(unit, int) or unit < 1:
        lacking = 'unit' if isinstance(ratio, Real) else 'ratio'
        cure = f'Call super().__init__(ratio, unit) in the __init__ of {name}.'
        raise ConfigError(where, f'{name} has no {lacking}.', cure)
    if grid[0] % unit or grid[1] % unit:
        raise ConfigError(
            f'{where}.unit',
            f'a grid of {grid[0]} x {grid[1]} patches cannot be cut into units of {unit} x {unit}.',
            'Choose a unit that divides the grid, or another model.backbone.img_size.',
        )
    try:
        masked_count((grid[0] // unit) * (grid[1] // unit), float(ratio))
    except ValueError as error:
        raise ConfigError(f'{where}.ratio', str(error), 'Choose a ratio further from 0 and 1.') from error


def check_needs(parts: Mapping[str, nn.Module | None], given: Iterable[str]) -> frozenset[str]:
    """Check that a composition gives what its parts need, and that a guidance guides something.

    Args:
        parts: The parts by their places in the config; None where there is none.
        given: What the model gives them: 'guidance', 'segmentor'.

    Returns:
        All that is needed; 'anatomy' has to come with the data.

    Raises:
        ConfigError: If something is missing, or a guidance is there that no part heeds.
    """
    there, needed = {*given, 'anatomy'}, set()
    for where, part in parts.items():
        for need in getattr(part, 'needs', ()):
            if need not in there:
                what = f'{type(part).__name__} needs a {need}, and the model has none.'
                raise ConfigError(where, what, f'Set {NEEDS[need]}, or choose another {where.rpartition(".")[2]}.')
            needed.add(need)
    if parts.get('model.guidance') is not None and 'guidance' not in needed:
        what = f'nothing heeds it: {type(parts["model.masking"]).__name__} masks without guidance.'
        cure = 'Set model.guidance=None, or model.masking.type=AnatomyMasking.'
        raise ConfigError('model.guidance', what, cure)
    return frozenset(needed)


def build_encoder(config: Any) -> MaskedViT:
    """Build an encoder that sees frames through masks.

    Raises:
        ConfigError: If it is another one.
    """
    encoder = MODELS.build(config)
    if not isinstance(encoder, MaskedViT):
        cure = 'Take MaskedViT (visible patches alone) or MaskTokenViT (mask tokens in their places).'
        raise ConfigError('model.backbone', f'{type(encoder).__name__} does not see frames through masks.', cure)
    return encoder


def check_network(encoder: MaskedViT, decoder: nn.Module, head: nn.Module) -> None:
    """Check that an encoder gives its decoder the tokens that this one needs, and that the head gives all errors.

    Raises:
        ConfigError: If not.
    """
    try:
        inspect.signature(decoder.forward).bind('tokens', 'ids_restore')
    except TypeError as error:
        what = f'forward of {type(decoder).__name__} is not called with tokens and ids_restore.'
        raise ConfigError('model.neck', what, 'Write forward(self, tokens, ids_restore).') from error
    lacking = [name for name in HEAD if not callable(getattr(head, name, None))]
    if lacking:
        what = f'{type(head).__name__} has no {" and no ".join(lacking)}.'
        raise ConfigError('model.head', what, 'Take ReconstructionHead, or derive from it.')
    if getattr(decoder, 'needs_all_tokens', False) and not encoder.encodes_masked:
        names = type(decoder).__name__, type(encoder).__name__
        what = '{} needs a token of each patch, and {} gives those of visible ones.'.format(*names)
        raise ConfigError('model.neck', what, 'Take MaskTokenViT as backbone, or MAEPretrainDecoder as neck.')


def with_sizes(config: dict, encoder: Any) -> dict:
    """Return the config of a decoder or head with the sizes that it leaves out and its class takes.

    Args:
        config: It is not changed.
        encoder: Where the sizes come from: embed_dims, patch_size, num_patches.
    """
    kind = config.get('type')
    builder = MODELS.get(kind) if isinstance(kind, str) else kind
    sizes = {
        'embed_dim': encoder.embed_dims,
        'patch_size': encoder.patch_size,
        'num_patches': encoder.num_patches,
    }
    return {**{key: value for key, value in sizes.items() if key in parameters_of(builder)}, **config}


def parameters_of(builder: Any) -> set[str]:
    """Return the names of the arguments of a class, and of its bases as long as it hands ``**kwargs`` on to them."""
    names: set[str] = set()
    for base in inspect.getmro(builder) if inspect.isclass(builder) else ():
        if '__init__' not in vars(base):
            continue
        parameters = inspect.signature(vars(base)['__init__']).parameters.values()
        names.update(parameter.name for parameter in parameters)
        if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters):
            break
    return names
