# VasoMIM-v1 (AAAI 2026, arXiv 2508.10794): the extracted anatomy alone guides the masks.
_base_ = 'vasomim.py'

model = dict(guidance=dict(eta=1.0))
