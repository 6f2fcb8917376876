"""The zip file of a submission: what it says that it holds, and its members, read within limits."""

from __future__ import annotations

import stat
import zipfile
import zlib
from pathlib import Path
from types import TracebackType
from typing import Annotated

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from vasomim.benchmark.results.records import StoreError
from vasomim.benchmark.results.tables import MOST_BYTES
from vasomim.benchmark.schema import STRICT, CellName, Name, Sha256, checked
from vasomim.files import parse_json

MANIFEST = 'submission.json'
SCHEMA = 2  # 2: with the study's name, records of pre-trainings and predictions on validation images.
CURE = 'Pass a file of `vasomim benchmark submit`, copied anew.'
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED = 0x1  # Among a member's flags.
MOST_MEMBERS = 1 << 20


@STRICT
class Manifest(TypedDict):
    """What a submission says that it holds."""

    schema: Annotated[int, Field(ge=SCHEMA, le=SCHEMA)]
    vasomim: str
    study: Name
    cells: list[CellName]
    pretrainings: list[CellName]
    files: dict[str, Sha256]


MANIFESTS = TypeAdapter(Manifest)


class Archive:
    """A submission, open for reading; a context manager.

    Args:
        path: The zip file.

    Raises:
        StoreError: If it is none, holds a member twice, under a name that leads elsewhere, encrypted or in a way that
            :func:`vasomim.benchmark.submission.pack.pack` does not write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise StoreError(path, 'it is no regular file.', CURE)
            self.file = zipfile.ZipFile(path)
        except OSError as error:
            raise StoreError(path, f'it cannot be read: {error.strerror or error}.', CURE) from error
        except (zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError) as error:
            raise StoreError(path, f'it is no submission: {error}.', CURE) from error
        try:
            self.members = self._members()
            self.manifest = self._manifest()
        except BaseException:
            self.file.close()
            raise

    def __enter__(self) -> Archive:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.file.close()

    def _members(self) -> dict[str, zipfile.ZipInfo]:
        found: dict[str, zipfile.ZipInfo] = {}
        for member in self.file.infolist():
            name = member.filename
            parts = name.split('/')
            if len(found) >= MOST_MEMBERS:
                raise StoreError(self.path, f'it has more than {MOST_MEMBERS:,} members.', CURE)
            if name in found:  # Readers differ in which of them they take.
                raise StoreError(f'{self.path}: {name}', 'it stands in the file twice.', CURE)
            if name != member.orig_filename or '\\' in name or any(part in ('', '.', '..') for part in parts):
                raise StoreError(f'{self.path}: {name}', 'its name is none that `submit` gives.', CURE)
            if member.flag_bits & ENCRYPTED or member.compress_type not in METHODS:
                raise StoreError(f'{self.path}: {name}', 'it is encrypted, or compressed in another way.', CURE)
            found[name] = member
        return found

    def _manifest(self) -> Manifest:
        where = f'{self.path}: {MANIFEST}'
        if MANIFEST not in self.members:
            raise StoreError(self.path, f'it is no submission: there is no {MANIFEST}.', CURE)
        content = parse_json(self.read(MANIFEST), where, StoreError, CURE)
        said = content.get('schema')
        if isinstance(said, int) and said < SCHEMA:
            what = f'it was packed by an earlier version (schema {said}), without what is checked now.'
            raise StoreError(where, what, 'Pack it anew by `vasomim benchmark submit`.')
        manifest: Manifest = checked(MANIFESTS, content, where, StoreError, CURE)
        return manifest

    def read(self, name: str, most: int = MOST_BYTES) -> bytes:
        """Return the content of a member.

        Args:
            name: The member.
            most: Bytes that it may have.

        Raises:
            StoreError: If there is none, or it is damaged or larger.
        """
        where = f'{self.path}: {name}'
        member = self.members.get(name)
        if member is None:
            raise StoreError(where, 'it is missing.', 'Pack the submission again.')
        if member.file_size > most:
            raise StoreError(where, f'it has {member.file_size:,} bytes, and at most {most:,} are read.', CURE)
        try:
            return self.file.read(member)
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError) as error:
            raise StoreError(where, f'it is damaged: {error}.', CURE) from error
