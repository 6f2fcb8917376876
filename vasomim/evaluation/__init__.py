"""What a segmentation is worth: DSC, clDice, HD95, per class and per subgroup; NumPy, SciPy and scikit-image only.

The metrics that a config names are registered by modules of their own, so these functions come without PyTorch and
OpenMMLab: ``vasomim.evaluation.pretraining_metrics`` registers in mmpretrain, ``segmentation_metric`` in mmseg.
"""

from vasomim.evaluation.cases import AGREEMENT_ON_NOTHING, SUBGROUPS, Case, measure_case, write_cases
from vasomim.evaluation.centerline import centerline, cl_dice, vessel_width
from vasomim.evaluation.local import LocalCounts, counts_by_lesion, counts_by_width
from vasomim.evaluation.overlap import class_counts, class_dice, dice, dice_of_counts, pooled_dice
from vasomim.evaluation.report import report
from vasomim.evaluation.summary import Summary, Terciles, summarize, terciles
from vasomim.evaluation.surface import hausdorff95

__all__ = [
    'AGREEMENT_ON_NOTHING',
    'SUBGROUPS',
    'Case',
    'LocalCounts',
    'Summary',
    'Terciles',
    'centerline',
    'cl_dice',
    'class_counts',
    'class_dice',
    'counts_by_lesion',
    'counts_by_width',
    'dice',
    'dice_of_counts',
    'hausdorff95',
    'measure_case',
    'pooled_dice',
    'report',
    'summarize',
    'terciles',
    'vessel_width',
    'write_cases',
]
