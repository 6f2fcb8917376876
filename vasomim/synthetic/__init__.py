"""A simulator of coronary angiograms: frames that come with the truth about them.

Needs NumPy and OpenCV only.
"""

from vasomim.synthetic.anatomy import CATEGORY_IDS, STENOSIS_CATEGORY, SYNTAX_SEGMENTS
from vasomim.synthetic.config import SimulatorConfig
from vasomim.synthetic.frame import Segment, Stenosis, SyntheticFrame, simulate_cine, simulate_frame

__all__ = [
    'CATEGORY_IDS',
    'STENOSIS_CATEGORY',
    'SYNTAX_SEGMENTS',
    'Segment',
    'SimulatorConfig',
    'Stenosis',
    'SyntheticFrame',
    'simulate_cine',
    'simulate_frame',
]
