"""Reading a Convex snapshot export: https://docs.convex.dev/database/import-export/export.

An export is a ZIP file, or the folder that it was unpacked to. Each table is a folder in it with
`documents.jsonl`: a document as JSON on each line, with `_id` and, in milliseconds since 1970,
`_creationTime`.
"""

import io
import json
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn, cast

Document = dict[str, object]


class SnapshotError(Exception):
    """The snapshot cannot be read; the text says where, and never what stands there."""


@dataclass(frozen=True, slots=True)
class Line:
    """A document, and where in its table's file it is."""

    offset: int
    length: int
    document: Document


class Snapshot:
    """A snapshot export on this machine."""

    def __init__(self, path: Path) -> None:
        """Takes the ZIP file, or the folder that it was unpacked to."""
        self._path = path

    def documents(self, table: str) -> Iterator[Line]:
        """A table's documents, in the order in which they stand in it.

        Raises:
            SnapshotError: there is no such table, or a line of it is no document.
        """
        with self.open(table) as file:
            offset = 0
            for number, line in enumerate(file, 1):
                if line.strip():
                    document = document_of(line, f"line {number} of {table}")
                    yield Line(offset, len(line), document)
                offset += len(line)

    def open(self, table: str) -> AbstractContextManager[BinaryIO]:
        """A table's file.

        Raises:
            SnapshotError: there is no such table.
        """
        return self._open_member(table) if self._path.is_file() else self._open_file(table)

    @contextmanager
    def _open_file(self, table: str) -> Iterator[BinaryIO]:
        try:
            file = (self._path / table / "documents.jsonl").open("rb")
        except OSError:
            raise self._missing(table) from None
        with file:
            yield file

    @contextmanager
    def _open_member(self, table: str) -> Iterator[BinaryIO]:
        try:
            archive = zipfile.ZipFile(self._path)
        except (OSError, zipfile.BadZipFile):
            raise SnapshotError(f"{self._path} is no ZIP file") from None
        with archive:
            try:
                member = archive.open(f"{table}/documents.jsonl")
            except KeyError:
                raise self._missing(table) from None
            with io.BufferedReader(cast("io.RawIOBase", member), 1 << 20) as file:
                yield cast("BinaryIO", file)

    def _missing(self, table: str) -> SnapshotError:
        return SnapshotError(
            f"{self._path} holds no {table}/documents.jsonl: is it a snapshot export, and is the"
            " table called so? A mapping can name another"
        )


def document_of(line: bytes, where: str) -> Document:
    """The document that a line spells; `where` says which line it is.

    Raises:
        SnapshotError: it spells none.
    """
    try:
        document = json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise SnapshotError(f"{where} is no JSON") from None
    if not isinstance(document, dict) or not isinstance(document.get("_id"), str):
        raise SnapshotError(f"{where} is no document of Convex: it has no _id")
    return document


def _refuse_constant(_name: str) -> NoReturn:
    raise ValueError("not a number of JSON")
