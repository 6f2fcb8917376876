"""Models that mmpretrain builds: pre-training algorithms and their parts, encoders and the vessel segmentor."""

from vasomim import masking
from vasomim.models.masked_vit import MaskedViT, MaskTokenViT
from vasomim.models.preprocessor import AngiogramPreprocessor
from vasomim.models.pretraining import (
    AnatomicalConsistencyLoss,
    AngiogramMAE,
    AngiogramSimMIM,
    Evidence,
    Guidance,
    LossTerm,
    MaskedBatch,
    MaskedImageModeling,
    PatchPredictor,
    Reconstruction,
    ReconstructionHead,
    VasoMIM,
    VesselGuidance,
)
from vasomim.models.unext import UNeXt

__all__ = [
    'AnatomicalConsistencyLoss',
    'AngiogramMAE',
    'AngiogramPreprocessor',
    'AngiogramSimMIM',
    'Evidence',
    'Guidance',
    'LossTerm',
    'MaskTokenViT',
    'MaskedBatch',
    'MaskedImageModeling',
    'MaskedViT',
    'PatchPredictor',
    'Reconstruction',
    'ReconstructionHead',
    'UNeXt',
    'VasoMIM',
    'VesselGuidance',
    'masking',
]
