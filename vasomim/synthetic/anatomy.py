"""Names and courses of the coronary arteries.

Courses are written in heart coordinates: ``psi`` is the latitude on the heart's ellipsoid (0 degrees on the groove
between atria and ventricles, 90 at the apex), ``theta`` the angle around the long axis (0 superior, 90 left posterior,
-90 right anterior, 180 inferior). See :mod:`vasomim.synthetic.heart`.

Source of names: SYNTAX score segments in the order that ARCADE uses for its category ids (Popov et al., Sci Data 2024).
Source of lengths and widths: textbook anatomy; RCA 120-140 mm, LAD 100-130 mm, LCx 80-110 mm, up to 5 mm wide.
"""

from __future__ import annotations

from dataclasses import dataclass

SYNTAX_SEGMENTS = (
    '1', '2', '3', '4', '5', '6', '7', '8', '9', '9a', '10', '10a', '11', '12', '12a', '13', '14', '14a', '15',
    '16', '16a', '16b', '16c', '12b', '14b',
)  # fmt: skip
STENOSIS_CATEGORY = 26
CATEGORY_IDS = {name: index for index, name in enumerate(SYNTAX_SEGMENTS, start=1)}

Angles = tuple[float, float]


@dataclass(frozen=True)
class Vessel:
    """One named vessel of a template.

    Attributes:
        name: The vessel's name.
        parent: The vessel it leaves, or None for one that leaves the aorta.
        at: Where it leaves the parent: (lowest, highest) share of the parent's length; (1, 1) is its end.
        course: Control points, (psi, theta) in degrees. Relative to the origin where ``relative`` is set.
        segments: (SYNTAX name, where it ends as (lowest, highest) share of the length); empty: not labelled.
        share: (lowest, highest) share of the parent's flow, in (0, 1).
        probability: How often the vessel exists.
        relative: Whether ``course`` is relative to the origin.
        reach: (lowest, highest) share of the course that is kept.
    """

    name: str
    parent: str | None
    at: tuple[float, float]
    course: tuple[Angles, ...]
    segments: tuple[tuple[str, Angles], ...] = ()
    share: tuple[float, float] = (0.15, 0.3)
    probability: float = 1.0
    relative: bool = True
    reach: tuple[float, float] = (0.8, 1.0)


END = (1.0, 1.0)

LEFT_MAIN = Vessel('LM', None, (0, 0), (), segments=(('5', END),), relative=False, reach=END)
LAD = Vessel(
    'LAD', 'LM', END, ((6, 27), (18, 14), (35, 6), (55, 2), (74, -2), (90, -4), (101, -6)),
    segments=(('6', (0.2, 0.32)), ('7', (0.48, 0.62)), ('8', END)),
    share=(0.45, 0.58), relative=False, reach=(0.78, 1.0),
)  # fmt: skip
LCX_RIGHT = Vessel(
    'LCx', 'LM', END, ((1, 56), (2, 76), (4, 98), (5, 122), (8, 146)),
    segments=(('11', (0.25, 0.42)), ('13', END)), relative=False, reach=(0.82, 1.0),
)  # fmt: skip
LCX_LEFT = Vessel(
    'LCx', 'LM', END, ((1, 56), (2, 76), (3, 100), (2, 125), (0, 150), (0, 172)),
    segments=(('11', (0.22, 0.35)), ('13', END)), relative=False, reach=(0.9, 1.0),
)  # fmt: skip

LEFT_BRANCHES = (
    Vessel('RI', 'LM', END, ((12, 8), (30, 14), (52, 18)), (('12', END),), (0.12, 0.2), 0.18),
    Vessel('D1', 'LAD', (0.2, 0.32), ((8, 20), (22, 38), (36, 52)), (('9', END),), (0.16, 0.3), 0.9),
    Vessel('D1a', 'LAD', (0.34, 0.46), ((9, 16), (21, 30), (32, 42)), (('9a', END),), (0.12, 0.24), 0.55),
    Vessel('D2', 'LAD', (0.48, 0.62), ((8, 18), (18, 34), (26, 48)), (('10', END),), (0.12, 0.26), 0.6),
    Vessel('D2a', 'LAD', (0.66, 0.76), ((8, 12), (16, 22), (22, 28)), (('10a', END),), (0.1, 0.2), 0.25),
    Vessel('OM1', 'LCx', (0.25, 0.42), ((12, 6), (32, 12), (54, 16)), (('12a', END),), (0.25, 0.5), 0.85),
    Vessel('OM2', 'LCx', (0.45, 0.6), ((12, 7), (30, 12), (48, 14)), (('12b', END),), (0.2, 0.4), 0.5),
    Vessel('LPL1', 'LCx', (0.6, 0.72), ((12, 6), (28, 10), (44, 12)), (('14', END),), (0.2, 0.4), 0.6),
    Vessel('LPL2', 'LCx', (0.74, 0.84), ((12, 5), (26, 8), (38, 10)), (('14a', END),), (0.2, 0.4), 0.3),
    Vessel('LPL3', 'LCx', (0.85, 0.95), ((11, 4), (24, 7), (36, 8)), (('14b', END),), (0.25, 0.45), 0.55),
)
LEFT_PDA = Vessel('LPDA', 'LCx', END, ((9, 4), (26, 7), (46, 8)), (('15', END),), (0.5, 0.65))

RCA_RIGHT = Vessel(
    'RCA', None, (0, 0), ((3, -58), (5, -82), (6, -108), (4, -136), (0, -160), (-2, -178)),
    segments=(('1', (0.26, 0.38)), ('2', (0.54, 0.66)), ('3', END)), relative=False, reach=(0.93, 1.0),
)  # fmt: skip
RCA_LEFT = Vessel(
    'RCA', None, (0, 0), ((3, -58), (5, -82), (7, -106), (9, -128), (14, -146)),
    segments=(('1', (0.3, 0.42)), ('2', (0.58, 0.7)), ('3', END)), relative=False, reach=(0.82, 1.0),
)  # fmt: skip
RIGHT_BRANCHES = (
    Vessel('Conus', 'RCA', (0.05, 0.12), ((9, 14), (16, 30), (20, 44)), (), (0.03, 0.08), 0.7),
    Vessel('SAN', 'RCA', (0.06, 0.14), ((-10, 4), (-24, 12), (-34, 26)), (), (0.03, 0.08), 0.6),
    Vessel('RV', 'RCA', (0.25, 0.42), ((10, 6), (24, 14), (38, 20)), (), (0.05, 0.14), 0.85),
    Vessel('AM', 'RCA', (0.48, 0.64), ((12, 2), (30, 2), (52, 2)), (), (0.08, 0.2), 0.9),
)
RIGHT_END = (
    Vessel('PDA', 'RCA', END, ((8, -1), (24, 3), (44, 5), (56, 6)), (('4', END),), (0.38, 0.55), reach=(0.7, 1.0)),
    Vessel('PLA', 'RCA', END, ((-3, -14), (2, -30), (12, -46), (22, -58)), (('16', END),), (0.45, 0.62)),
    Vessel('PL1', 'PLA', (0.25, 0.4), ((10, -4), (24, -8), (38, -10)), (('16a', END),), (0.2, 0.4), 0.6),
    Vessel('PL2', 'PLA', (0.45, 0.62), ((10, -4), (22, -8), (34, -10)), (('16b', END),), (0.2, 0.4), 0.55),
    Vessel('PL3', 'PLA', (0.66, 0.85), ((9, -3), (20, -6), (30, -8)), (('16c', END),), (0.2, 0.4), 0.35),
)


def template(side: str, dominance: str) -> tuple[Vessel, ...]:
    """Return the vessels of one coronary artery, parents before their branches.

    Args:
        side: 'left' or 'right': which coronary artery is filled.
        dominance: 'left' or 'right': which artery gives the posterior descending branch.

    Raises:
        ValueError: For any other name.
    """
    for name in (side, dominance):
        if name not in ('left', 'right'):
            raise ValueError(f"a side is 'left' or 'right', not {name!r}")
    if side == 'left':
        if dominance == 'left':
            return (LEFT_MAIN, LAD, LCX_LEFT, *LEFT_BRANCHES, LEFT_PDA)
        return (LEFT_MAIN, LAD, LCX_RIGHT, *LEFT_BRANCHES)
    if dominance == 'right':
        return (RCA_RIGHT, *RIGHT_BRANCHES, *RIGHT_END)
    return (RCA_LEFT, *RIGHT_BRANCHES)


# The segments that readers outline in the views of a target, with how often they do. Views are chosen for one artery;
# what is foreshortened or overlapped in them stays background. Frequencies follow ARCADE's syntax training split.
OUTLINED = {
    'LAD': {'5': 0.97, '6': 1.0, '7': 1.0, '8': 0.95, '9': 0.62, '9a': 0.5, '10': 0.25, '10a': 0.05},
    'LCx': {
        '5': 0.95, '6': 0.8, '11': 1.0, '13': 0.95, '12': 0.8, '12a': 0.6, '12b': 0.55, '14': 0.6, '14a': 0.5,
        '14b': 0.6, '15': 0.9,
    },
    'RCA': {'1': 1.0, '2': 1.0, '3': 1.0, '4': 0.88, '16': 0.72, '16a': 0.22, '16b': 0.25, '16c': 0.25},
}  # fmt: skip
