"""Texts saved from a machine, in a folder: packed or not, there or not."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from kmemlab.sim.kernel import invented
from kmemlab.types.errors import BadCapture


@invented("texts saved from a machine are files, packed or not", traced=False)
def read_text(folder: Path, name: str) -> str | None:
    """A text of the folder, packed or not; None if it is not there."""
    for path in (folder / name, folder / f"{name}.gz"):
        try:
            packed = path.read_bytes()
            return (gzip.decompress(packed) if path.suffix == ".gz" else packed).decode()
        except FileNotFoundError:
            continue
        except (gzip.BadGzipFile, EOFError, zlib.error):
            what = "this file is packed, and breaks off or is damaged"
        except UnicodeDecodeError:
            what = "this file is no text"
        except OSError as error:
            what = f"this file can't be read: {error.strerror}"
        raise BadCapture(what, where=str(path), remedy="copy it again")
    return None
