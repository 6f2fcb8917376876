"""Models that mmpretrain builds: pre-training algorithms, encoders, heads and the vessel segmentor."""

from vasomim import masking
from vasomim.models.algorithms import AngiogramMAE, AngiogramSimMIM, VasoMIM
from vasomim.models.base import Evidence, MaskedImageModeling, Reconstruction
from vasomim.models.consistency import AnatomicalConsistencyLoss
from vasomim.models.heads import PatchPredictor, ReconstructionHead
from vasomim.models.masked_vit import MaskedViT, MaskTokenViT
from vasomim.models.preprocessor import AngiogramPreprocessor
from vasomim.models.unext import UNeXt

__all__ = [
    'AnatomicalConsistencyLoss',
    'AngiogramMAE',
    'AngiogramPreprocessor',
    'AngiogramSimMIM',
    'Evidence',
    'MaskTokenViT',
    'MaskedImageModeling',
    'MaskedViT',
    'PatchPredictor',
    'Reconstruction',
    'ReconstructionHead',
    'UNeXt',
    'VasoMIM',
    'masking',
]
