"""Pre-training: masked image modelling composed of registered parts."""

from vasomim.models.pretraining.consistency import AnatomicalConsistencyLoss
from vasomim.models.pretraining.earlier import AngiogramMAE, AngiogramSimMIM, VasoMIM
from vasomim.models.pretraining.evidence import Evidence, MaskedBatch
from vasomim.models.pretraining.guidance import VesselGuidance
from vasomim.models.pretraining.heads import PatchPredictor, ReconstructionHead
from vasomim.models.pretraining.masked import MaskedImageModeling, Reconstruction
from vasomim.models.pretraining.parts import Guidance, LossTerm

__all__ = [
    'AnatomicalConsistencyLoss',
    'AngiogramMAE',
    'AngiogramSimMIM',
    'Evidence',
    'Guidance',
    'LossTerm',
    'MaskedBatch',
    'MaskedImageModeling',
    'PatchPredictor',
    'Reconstruction',
    'ReconstructionHead',
    'VasoMIM',
    'VesselGuidance',
]
