"""Names that projects give the tensors of a plain ViT, and the way between them and ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

Rule = tuple[str, Callable[[re.Match[str]], str]]

# Our names to those of other projects: # stands for a number, @ for weight or bias, {a,b,c} for the three tensors that
# hold our queries, keys and values. A table reads and writes.
TIMM = {
    'backbone.cls_token': 'cls_token',
    'backbone.pos_embed': 'pos_embed',
    'backbone.patch_embed.projection.@': 'patch_embed.proj.@',
    'backbone.layers.#.ln1.@': 'blocks.#.norm1.@',
    'backbone.layers.#.attn.qkv.@': 'blocks.#.attn.qkv.@',
    'backbone.layers.#.attn.proj.@': 'blocks.#.attn.proj.@',
    'backbone.layers.#.ln2.@': 'blocks.#.norm2.@',
    'backbone.layers.#.ffn.layers.0.0.@': 'blocks.#.mlp.fc1.@',
    'backbone.layers.#.ffn.layers.1.@': 'blocks.#.mlp.fc2.@',
    'backbone.ln1.@': 'norm.@',
}
# Masked autoencoders named as in timm, decoder beside the encoder: VasoMIM's authors and MAE.
MAE = {
    **TIMM,
    'neck.mask_token': 'mask_token',
    'neck.decoder_pos_embed': 'decoder_pos_embed',
    'neck.decoder_embed.@': 'decoder_embed.@',
    'neck.decoder_pred.@': 'decoder_pred.@',
    'neck.ln1.@': 'decoder_norm.@',
    **{
        ours.replace('backbone.layers', 'neck.decoder_blocks'): f'decoder_{theirs}'
        for ours, theirs in TIMM.items()
        if theirs.startswith('blocks')
    },
}
# A VisionTransformer of mmpretrain by itself; as part of a model its names are ours.
MMPRETRAIN = {ours: ours.removeprefix('backbone.') for ours in TIMM}
HF_BLOCK = {
    'ln1.@': 'layernorm_before.@',
    'attn.qkv.@': 'attention.attention.{query,key,value}.@',
    'attn.proj.@': 'attention.output.dense.@',
    'ln2.@': 'layernorm_after.@',
    'ffn.layers.0.0.@': 'intermediate.dense.@',
    'ffn.layers.1.@': 'output.dense.@',
}
# As the files on the Hub have them; transformers 5 renames them while it loads, see HF_SYNONYMS.
HF = {
    'backbone.cls_token': 'embeddings.cls_token',
    'backbone.pos_embed': 'embeddings.position_embeddings',
    'backbone.patch_embed.projection.@': 'embeddings.patch_embeddings.projection.@',
    **{f'backbone.layers.#.{ours}': f'encoder.layer.#.{theirs}' for ours, theirs in HF_BLOCK.items()},
    'backbone.ln1.@': 'layernorm.@',
}
HF_MAE = {
    **{ours: f'vit.{theirs}' for ours, theirs in HF.items()},
    'neck.mask_token': 'decoder.mask_token',
    'neck.decoder_pos_embed': 'decoder.decoder_pos_embed',
    'neck.decoder_embed.@': 'decoder.decoder_embed.@',
    'neck.decoder_pred.@': 'decoder.decoder_pred.@',
    'neck.ln1.@': 'decoder.decoder_norm.@',
    **{f'neck.decoder_blocks.#.{ours}': f'decoder.decoder_layers.#.{theirs}' for ours, theirs in HF_BLOCK.items()},
}
# What plain ViTs of this project lack, as mmpretrain names it where it has it;
# :mod:`vasomim.checkpoints.families` resolves it.
GAMMAS = ('backbone.layers.#.attn.gamma1.weight', 'backbone.layers.#.ffn.gamma2.weight')
REGISTERS = 'backbone.register_tokens'
FOREIGN_TIMM = [
    (GAMMAS[0], 'blocks.#.ls1.gamma'),
    (GAMMAS[1], 'blocks.#.ls2.gamma'),
    (REGISTERS, 'reg_token'),
    (REGISTERS, 'register_tokens'),  # DINOv2's own repository
]
FOREIGN_MMPRETRAIN = [(name, name.removeprefix('backbone.')) for name in GAMMAS]
FOREIGN_HF = [
    (GAMMAS[0], 'encoder.layer.#.layer_scale1.lambda1'),
    (GAMMAS[1], 'encoder.layer.#.layer_scale2.lambda1'),
    (REGISTERS, 'embeddings.register_tokens'),
]
# transformers' DINOv3, read only, behind the model's prefixes.
DINOV3 = {
    'backbone.cls_token': 'embeddings.cls_token',
    REGISTERS: 'embeddings.register_tokens',
    'backbone.patch_embed.projection.@': 'embeddings.patch_embeddings.@',
    'backbone.layers.#.ln1.@': 'layer.#.norm1.@',
    'backbone.layers.#.attn.qkv.@': 'layer.#.attention.{q_proj,k_proj,v_proj}.@',
    'backbone.layers.#.attn.proj.@': 'layer.#.attention.o_proj.@',
    GAMMAS[0]: 'layer.#.layer_scale1.lambda1',
    'backbone.layers.#.ln2.@': 'layer.#.norm2.@',
    'backbone.layers.#.ffn.layers.0.0.@': 'layer.#.mlp.up_proj.@',
    'backbone.layers.#.ffn.layers.1.@': 'layer.#.mlp.down_proj.@',
    GAMMAS[1]: 'layer.#.layer_scale2.lambda1',
    'backbone.ln1.@': 'norm.@',
}
HF_SYNONYMS = [
    (r'^(?:vit|deit|dinov2|dinov2_with_registers)\.', ''),
    (r'^layers\.(\d+)\.', r'encoder.layer.\1.'),
    (r'^decoder\.decoder_encoder\.layer\.', 'decoder.decoder_layers.'),
    (r'\.attention\.q_proj\.', '.attention.attention.query.'),
    (r'\.attention\.k_proj\.', '.attention.attention.key.'),
    (r'\.attention\.v_proj\.', '.attention.attention.value.'),
    (r'\.attention\.o_proj\.', '.attention.output.dense.'),
    (r'\.norm1\.', '.layernorm_before.'),
    (r'\.norm2\.', '.layernorm_after.'),
    (r'\.mlp\.fc1\.', '.intermediate.dense.'),
    (r'\.mlp\.fc2\.', '.output.dense.'),
]

BEIT = re.compile(r'(?:beit\.|data2vec_vision\.)?(?:embeddings\.)?cls_token')  # Beside relative positions.
# The vessel segmentor as VasoMIM's authors name it, read only: regular expressions, the first that matches counts.
UNEXT: list[Rule] = [
    (r'encoder(\d)\.(.+)', lambda m: f'encoder.{int(m[1]) - 1}.conv.{m[2]}'),
    (r'ebn(\d)\.(.+)', lambda m: f'encoder.{int(m[1]) - 1}.norm.{m[2]}'),
    (r'patch_embed(\d)\.proj\.(.+)', lambda m: f'tokens.{int(m[1]) - 3}.embed.{m[2]}'),
    (r'patch_embed(\d)\.norm\.(.+)', lambda m: f'tokens.{int(m[1]) - 3}.embed_norm.{m[2]}'),
    (r'norm(\d)\.(.+)', lambda m: f'tokens.{int(m[1]) - 3}.norm.{m[2]}'),
    (r'block(\d)\.0\.(.+)', lambda m: f'tokens.{int(m[1]) - 1}.block.{_shifted_mlp(m[2])}'),
    (r'dblock(\d)\.0\.(.+)', lambda m: f'decoder.{int(m[1]) - 1}.block.{_shifted_mlp(m[2])}'),
    (r'dnorm(\d)\.(.+)', lambda m: f'decoder.{int(m[1]) - 3}.norm.{m[2]}'),
    (r'decoder(\d)\.(.+)', lambda m: f'decoder.{int(m[1]) - 1}.conv.{m[2]}'),
    (r'dbn(\d)\.(.+)', lambda m: f'decoder.{int(m[1]) - 1}.conv_norm.{m[2]}'),
    (r'final\.(.+)', lambda m: f'logit.{m[1]}'),
]


def detect_family(names: Iterable[str]) -> str:
    """The naming of a checkpoint, by the names of its tensors.

    Returns:
        'unext', 'mae' (VasoMIM's authors too), 'timm', 'mmpretrain' (a bare encoder), 'hf', 'dinov2' and 'dinov3' (as
        transformers names them; 'dinov3' also by other names), 'beit' (whosoever names it), or 'vasomim': ours, and
        whatever is not known.
    """
    known = set(names)
    if 'dnorm3.weight' in known:
        return 'unext'
    if any('relative_position_bias_table' in name for name in known) and any(map(BEIT.fullmatch, known)):
        return 'beit'
    if 'rope_embed.periods' in known or 'embeddings.patch_embeddings.weight' in _bare(known):
        return 'dinov3'
    if 'blocks.0.gamma_1' in known and 'pos_embed' not in known:
        return 'dinov3'
    if 'blocks.0.attn.qkv.weight' in known:
        return 'mae' if any(name.startswith('decoder_') for name in known) else 'timm'
    if 'layers.0.attn.qkv.weight' in known:
        return 'mmpretrain'
    hub = {hub_name(name) for name in known}
    if 'encoder.layer.0.attention.attention.query.weight' in hub:
        return 'dinov2' if 'encoder.layer.0.layer_scale1.lambda1' in hub else 'hf'
    return 'vasomim'


def hub_name(name: str) -> str:
    """Give a tensor of transformers the name that the files on the Hub have, without the model's prefix."""
    for expression, replacement in HF_SYNONYMS:
        name = re.sub(expression, replacement, name)
    return name


def to_ours(name: str, family: str) -> tuple[str, int | None] | None:
    """Our name of a tensor, and which third of our tensor it is: 0 to 2, None for the whole; None if not known."""
    if family == 'unext':
        for expression, build in UNEXT:
            if match := re.fullmatch(expression, name):
                return build(match), None
        return None
    if family in ('hf', 'dinov2'):
        name = hub_name(name)
    elif family == 'dinov3':
        name = re.sub(r'^(dinov3_vit\.)?(model\.)?', '', name)
    for pattern, ours, third in READERS.get(family, []):
        if match := pattern.fullmatch(name):
            return _fill(ours, match.groups()), third
    return None


def to_theirs(name: str, table: Mapping[str, str]) -> list[str]:
    """The names in a table of one of our tensors: none, one, or three for queries, keys and values."""
    for ours, theirs in table.items():
        if match := _pattern(ours).fullmatch(name):
            return [_fill(each, match.groups()) for each in _thirds(theirs)]
    return []


def _bare(names: Iterable[str]) -> set[str]:
    return {re.sub(r'^dinov3_vit\.', '', name) for name in names}


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.escape(template).replace(r'\#', r'(\d+)').replace('@', '(weight|bias)'))


def _fill(template: str, values: Iterable[str]) -> str:
    rest = iter(values)
    return re.sub('[#@]', lambda _: next(rest), template)


def _thirds(template: str) -> list[str]:
    match = re.search(r'\{(.+)\}', template)
    return [template.replace(match[0], each) for each in match[1].split(',')] if match else [template]


def _readers(names: Iterable[tuple[str, str]]) -> list[tuple[re.Pattern[str], str, int | None]]:
    readers = []
    for ours, theirs in names:
        parts = _thirds(theirs)
        readers += [(_pattern(part), ours, third if len(parts) > 1 else None) for third, part in enumerate(parts)]
    return readers


def _shifted_mlp(name: str) -> str:
    return re.sub(r'^mlp\.', '', name.replace('mlp.dwconv.dwconv', 'depthwise')).replace('norm2.', 'norm.')


_HF = _readers([*((ours, theirs.removeprefix('vit.')) for ours, theirs in HF_MAE.items()), *FOREIGN_HF])
READERS = {
    'timm': _readers([*TIMM.items(), *FOREIGN_TIMM]),
    'mae': _readers([*MAE.items(), *FOREIGN_TIMM]),
    'mmpretrain': _readers([*MMPRETRAIN.items(), *FOREIGN_MMPRETRAIN]),
    'hf': _HF,
    'dinov2': _HF,
    'dinov3': _readers(DINOV3.items()),
}
# Our names of all that a plain ViT holds, or one that puts a mask token in place of patches.
PLAIN = [_pattern(name) for name in (*TIMM, 'backbone.mask_token')]
