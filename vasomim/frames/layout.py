"""How folders of angiograms are laid out: which files are frames, how a cine series shows, where anatomy maps lie."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vasomim.errors import DatasetError, did_you_mean, printable

IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp')

UNREAD_SUFFIXES = (
    *('.gif', '.apng', '.mpo', '.jfif', '.jpe', '.jp2', '.j2k', '.jpf', '.jxl', '.heic', '.heif', '.avif', '.tga'),
    *('.pgm', '.ppm', '.pbm', '.pnm', '.psd', '.exr', '.ico', '.dib', '.svg', '.pdf', '.nii', '.nrrd', '.mha'),
    *('.avi', '.mp4', '.m4v', '.mov', '.mkv', '.mpg', '.mpeg', '.wmv', '.webm'),
)
"""Pictures and cines that lie beside frames and are not read: they are named, so that nobody misses them later."""

SHOWN = 10  # Names in a line.
FILES_LOOKED_INTO = 100  # To tell whether a folder without images holds DICOM files.

DIGITS = '0123456789'

SOURCES = ('cadica', 'syntax', 'xcad', 'coronarydominance')
"""The source folders of XA-170K, as published."""

ANATOMY_SUFFIX = '_frangi'
"""What XA-170K adds to a folder's name for the folder with its anatomy maps."""

SETTINGS_FILE = 'extract_settings.json'
"""What lies beside maps that this project has made, whatever their folder is called."""


@dataclass(frozen=True)
class Listing:
    """What lies below a folder, as paths relative to it with forward slashes.

    Attributes:
        images: The frames, never empty, ordered by :func:`series_key`.
        unread: Files of :data:`UNREAD_SUFFIXES`, sorted.
    """

    images: list[str]
    unread: list[str]


def list_images(root: str | Path, anatomy_suffix: str = ANATOMY_SUFFIX, without: str | Path | None = None) -> list[str]:
    """List the images below a folder: those of :func:`list_folder`."""
    return list_folder(root, anatomy_suffix, without).images


def list_folder(root: str | Path, anatomy_suffix: str = ANATOMY_SUFFIX, without: str | Path | None = None) -> Listing:
    """List what lies below a folder, the images cine series by cine series.

    Hidden files and folders are left out, and so are the anatomy maps: folders that are named like one of their
    neighbours plus ``anatomy_suffix``. Links to folders are followed.

    Args:
        root: The folder.
        anatomy_suffix: Ending of the folders with anatomy maps.
        without: A folder to leave out, if it lies below ``root``.

    Raises:
        DatasetError: If ``root`` is not a folder or holds no image.
    """
    root = existing_folder(root)
    names: list[str] = []
    others: list[str] = []
    for file in walk(root, anatomy_suffix, without):
        (names if is_image(Path(file)) else others).append(file)
    if names:
        return Listing(sorted(names, key=series_key), sorted(file for file in others if is_unread(file)))
    raise no_image(root, others)


def is_unread(name: str) -> bool:
    """Return whether a file is a picture or a cine of a kind that is not read, by its name."""
    return os.path.splitext(name)[1].lower() in UNREAD_SUFFIXES


def unread_line(names: Sequence[str]) -> str:
    """Return a line that names pictures and cines that are not read."""
    shown = ', '.join(map(printable, names[:SHOWN])) + (', ...' if len(names) > SHOWN else '')
    are = 'file is a picture or a cine' if len(names) == 1 else 'files are pictures or cines'
    return f'{len(names)} {are} of kinds that are not read, and left out: {shown}'


def no_image(root: Path, files: list[str]) -> DatasetError:
    """Return the error for a folder without an image; where it holds DICOM files, the cure makes frames of them."""
    from vasomim.frames.dicom import find_dicom

    endings = Counter(os.path.splitext(file)[1].lower() or 'no ending' for file in files)
    kinds = ', '.join(f'{ending}: {number}' for ending, number in endings.most_common(5))
    what = f'no image here, but {len(files)} other files ({kinds}).' if files else 'the folder is empty.'
    if find_dicom(root, files[:FILES_LOOKED_INTO]):
        cure = f'`vasomim prepare pretrain dicom {root} data/mine --name mine` makes frames of DICOM files.'
    else:
        cure = f'Name a folder with frames as {", ".join(IMAGE_SUFFIXES)}, in sub-folders or not.'
    return DatasetError(root, what, cure)


def walk(root: Path, anatomy_suffix: str = ANATOMY_SUFFIX, without: str | Path | None = None) -> Iterator[str]:
    """Yield the files below a folder, relative to it; see :func:`list_images` for what is left out."""
    seen = set() if without is None else {os.path.realpath(without)}
    for folder, below, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # Left out, or a link back up the tree.
            below.clear()
            continue
        seen.add(real)
        neighbours = set(below)
        below[:] = [
            name
            for name in below
            if not name.startswith('.')
            and not (anatomy_suffix and name.endswith(anatomy_suffix) and name[: -len(anatomy_suffix)] in neighbours)
        ]
        prefix = '' if Path(folder) == root else Path(folder).relative_to(root).as_posix() + '/'
        yield from (prefix + file for file in files if not file.startswith('.'))


def source_folders(root: Path, anatomy_suffix: str = ANATOMY_SUFFIX) -> list[str]:
    """Return the folders of a merged set: the published sources, and all others that hold images but their maps."""
    folders = {entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith('.')}
    maps = {name + ending for name in folders for ending in (ANATOMY_SUFFIX, anatomy_suffix) if ending}
    own = [name for name in sorted(folders.difference(SOURCES, maps)) if not (root / name / SETTINGS_FILE).exists()]
    return [
        *(name for name in SOURCES if name in folders),
        *(name for name in own if any(is_image(Path(file)) for file in walk(root / name, anatomy_suffix))),
    ]


def merged_sources(root: Path, anatomy_suffix: str = ANATOMY_SUFFIX) -> list[str]:
    """Return the sources of a folder in the layout of XA-170K; none where it is laid out otherwise.

    It is in that layout if a published source holds frames itself (ARCADE, whose ``syntax/`` holds ``train/``, ``val/``
    and ``test/``, is not meant), or if all frames lie in folders with anatomy maps beside them.
    """
    sources = source_folders(root, anatomy_suffix)
    if any(is_image(file) for name in sources if name in SOURCES for file in (root / name).iterdir()):
        return sources
    loose = any(is_image(entry) for entry in root.iterdir() if not entry.name.startswith('.'))
    return [] if loose or not all((root / f'{name}{anatomy_suffix}').is_dir() for name in sources) else sources


def is_image(file: Path) -> bool:
    """Return whether a file is an image by its name."""
    return file.suffix.lower() in IMAGE_SUFFIXES


def existing_folder(path: str | Path) -> Path:
    """Return ``path`` as a Path.

    Raises:
        DatasetError: If it is not a folder; a neighbour of a similar name is suggested.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise DatasetError(path, 'this is a file, not a folder.', f'Name its folder: {path.parent}')
    parent = path.absolute().parent
    neighbours = [entry.name for entry in parent.iterdir() if entry.is_dir()] if parent.is_dir() else []
    hint = did_you_mean(path.name, neighbours)
    raise DatasetError(path, f'this folder does not exist.{hint}', 'Correct the path, or put the data there.')


def maps_beside(root: str | Path, anatomy_suffix: str = ANATOMY_SUFFIX) -> Path:
    """Return where the anatomy maps of a folder lie unless another place is named: beside it, by its own name.

    A link, ``.`` or ``..`` stands for the folder that it leads to; another path stays as it was said, as configs and
    checkpoints keep it.
    """
    root = Path(root)
    if root.is_symlink() or root.name in ('', '..'):
        root = root.resolve()
    return root.with_name(root.name + anatomy_suffix)


def composed(name: str) -> str:
    """Return a name with its letters and accents as one character each, by which names are compared.

    macOS stores file names with the accents apart; lists and annotation files hold them composed. Both look the same.
    """
    return unicodedata.normalize('NFC', name)


def series_key(name: str) -> tuple[str, int, str]:
    """Sort key that keeps the frames of a cine series together and in order: 'p1_v2_00010.png' -> ('p1_v2_', 10, ...).

    Args:
        name: Path of a frame relative to its source's folder, with forward slashes.

    Returns:
        The series (folder and name up to the trailing number), the number (-1: none) and the name itself.
    """
    stem = os.path.splitext(name)[0]
    series = stem.rstrip(DIGITS)
    return series, int(stem[len(series) :] or -1), name


def held_out_start(names: list[str], share: float) -> int:
    """Return where the held-out tail of the frames of one source begins.

    The tail holds about ``share`` of the frames, at least one. It starts with the first frame of a cine series, so
    that no series lies on both sides, unless the tail would then be more than twice as long as asked: a folder of
    frames that are numbered through is one series by its names, and is cut in the middle.

    Args:
        names: Paths of the frames, in the order of :func:`list_images`.
        share: In (0, 1).
    """
    asked = max(1, round(len(names) * share))
    cut = len(names) - asked
    series = [series_key(name)[0] for name in names]
    start = cut
    while start > 0 and series[start - 1] == series[cut]:
        start -= 1
    return start if start > 0 and len(names) - start <= 2 * asked else cut


def map_names(names: Iterable[str], root: str | Path) -> dict[str, str]:
    """Return for each frame the name of its anatomy map: the same, as PNG.

    Args:
        names: Paths of the frames relative to ``root``.
        root: Where they lie, for the error.

    Raises:
        DatasetError: If two frames would share one map.
    """
    taken: dict[str, str] = {}
    for name in names:
        target = os.path.splitext(name)[0] + '.png'
        if target in taken:
            raise DatasetError(
                root,
                f'{taken[target]} and {name} differ in their endings only: both would have the anatomy map {target}.',
                'Rename or remove one of them.',
            )
        taken[target] = name
    return {name: target for target, name in taken.items()}
