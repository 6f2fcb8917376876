"""What names a pre-training in a study: its composition, by earlier words where those could say it.

The hash of a cell's config was fixed when methods were classes with options of their own (``VasoMIM``, ``guided``,
``eta``). A composition that those could say keeps its hash, so that committed cells stay those that a study plans.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PARTS = {'backbone', 'neck', 'head', 'masking', 'data_preprocessor', 'init_cfg'}
COMPOSED = PARTS | {'type', 'guidance', 'segmentor', 'losses'}


def by_earlier_names(model: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the config of a pre-training's model by earlier names, or as it is where they could not say it.

    Args:
        model: The section ``model`` of a config, in plain values. It is not changed.
    """
    if model.get('type') != 'MaskedImageModeling' or not COMPOSED.issuperset(model):
        return model
    parts = {key: value for key, value in model.items() if key in PARTS}
    guidance = model.get('guidance')
    losses = {name: term for name, term in (model.get('losses') or {}).items() if term is not None}
    encoder, masking = model['backbone'].get('type'), dict(model['masking'])
    if model.get('segmentor') is None:
        kind = {'MaskedViT': 'AngiogramMAE', 'MaskTokenViT': 'AngiogramSimMIM'}.get(encoder)
        plain = guidance is None and not losses and masking.get('type') == 'UniformMasking'
        return {**parts, 'type': kind} if kind and plain else model
    kind = 'AnatomyMasking' if guidance else 'UniformMasking'
    sayable = (
        encoder == 'MaskedViT'
        and masking.get('type') == kind
        and masking.get('unit', 1) == 1
        and 'ratio' in masking
        and losses.keys() <= {'cons'}
        and (not guidance or guidance == {'type': 'VesselGuidance', 'eta': guidance.get('eta')})
    )
    if not sayable:
        return model
    strength = {'start': masking.get('start', 0.0), 'end': masking.get('end', 0.5)}
    return {
        **parts,
        'type': 'VasoMIM',
        'masking': {'type': 'AnatomyMasking', 'ratio': masking['ratio'], **strength},
        'segmentor': model['segmentor'],
        'eta': guidance['eta'] if guidance else 0.5,
        'guided': bool(guidance),
        'consistency': losses.get('cons'),
    }
