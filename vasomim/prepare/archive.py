"""Published archives: zip files, unpacked beside the destination so that a stopped run continues."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from vasomim.errors import DatasetError
from vasomim.frames.layout import existing_folder

OTHER_ARCHIVES = ('.7z', '.rar', '.tar', '.gz', '.tgz', '.xz')


def open_source(source: Path, workplace: Path, report: Callable[[int, int], None] | None = None) -> Path:
    """Return the folder of a source; a zip file is unpacked first.

    Args:
        source: A folder, or a zip file.
        workplace: Where a zip file goes; members that lie there in full are not unpacked again.
        report: Called with (members done, members in all).

    Raises:
        DatasetError: If the source does not exist, is another archive, or is damaged, or cannot be unpacked there.
    """
    source = source.expanduser()
    if source.suffix.lower() in OTHER_ARCHIVES and source.is_file():
        raise DatasetError(source, f'{source.suffix} archives are not read.', 'Unpack it and name the folder.')
    if not (source.suffix.lower() == '.zip' and source.is_file()):
        return existing_folder(source)
    try:
        with zipfile.ZipFile(source) as archive:
            members = [member for member in archive.infolist() if is_content(member)]
            for number, member in enumerate(members, start=1):
                unpack(archive, member, workplace)
                if report:
                    report(number, len(members))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise DatasetError(source, f'a damaged zip file: {error}.', 'Download it again.') from error
    except RuntimeError as error:  # What zipfile raises for encrypted members.
        raise DatasetError(source, f'{error}.', 'Unpack it with its password and name the folder.') from error
    except OSError as error:
        if error.filename is not None and Path(error.filename) == source:
            raise DatasetError(
                source, f'cannot be read: {error.strerror}.', 'Check the path and its permissions.'
            ) from error
        raise DatasetError(
            error.filename or workplace,
            f'cannot be written: {error.strerror}.',
            'Free some space or choose another DST; the same command then continues.',
        ) from error
    return existing_folder(workplace)


def is_content(member: zipfile.ZipInfo) -> bool:
    """Return whether a member is a file of the set: macOS adds a second tree of hidden ones."""
    return not member.is_dir() and not member.filename.startswith('__MACOSX/')


def unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo, workplace: Path) -> None:
    """Unpack one member, whole or not at all.

    Raises:
        DatasetError: If its name leads out of the workplace.
    """
    target = workplace / member.filename
    if not target.resolve().is_relative_to(workplace.resolve()):
        what = f"its member '{member.filename}' would be written outside the destination."
        raise DatasetError(str(archive.filename), what, 'Do not use this file; download it from its publisher.')
    if target.is_file() and target.stat().st_size == member.file_size:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f'{target.name}.part')
    with archive.open(member) as packed, part.open('wb') as unpacked:
        while block := packed.read(1 << 20):
            unpacked.write(block)
    os.replace(part, target)
