"""Captions in files: the text of `a.txt`, or the text field of `a.json`."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from typing import Any

from shardprep.core.blob import Blob, read_blob
from shardprep.errors import SourceError
from shardprep.sources.json_text import parse_json

CAPTION_SUFFIXES = ("txt", "json")
"""In the order of preference."""
TEXT_FIELDS = ("text", "caption")
MAX_TEXT_BYTES = 1 << 20
MAX_JSON_BYTES = 16 << 20
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_caption(blob: Blob, suffix: str, what: str) -> str | None:
    """Return the caption of a `txt` or `json` file, None where it holds none; SourceError where it is damaged."""
    if suffix == "json":
        return caption_of(read_object(blob, what))
    return clean_text(decode_text(_read(blob, MAX_TEXT_BYTES, what), what))


def read_object(blob: Blob, what: str) -> dict[str, Any]:
    """Return the JSON object of a file; SourceError where it is none, or has two fields of one name."""
    value = parse_json(decode_text(_read(blob, MAX_JSON_BYTES, what), what), what)
    if not isinstance(value, dict):
        raise SourceError(f"{what} holds a JSON {type(value).__name__}, expected an object with a text or caption field")
    return value


def caption_of(document: Mapping[str, Any]) -> str | None:
    """Return the first of the fields `text` and `caption` that holds text."""
    found = (document.get(name) for name in TEXT_FIELDS)
    return next((text for value in found if isinstance(value, str) and (text := clean_text(value))), None)


def clean_text(text: str) -> str | None:
    """Return the text without space around it, None where nothing is left; what is no Unicode is escaped."""
    return text.strip().encode("utf-8", "backslashreplace").decode() or None


def _read(blob: Blob, most: int, what: str) -> bytes:
    if blob.size > most:
        raise SourceError(f"{what} has {blob.size} bytes, at most {most} are read as a caption; is it something else?")
    return read_blob(blob)


def decode_text(data: bytes, what: str, errors: str = "strict") -> str:
    """Return the text of a file in UTF-8, or in UTF-16 or UTF-32 that begins with their mark; SourceError where it is neither."""
    # UTF-32's mark begins with that of UTF-16.
    marked = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    try:
        if marked:
            return data.decode(marked)
        text = data.decode("utf-8-sig", errors)
    except UnicodeDecodeError as error:
        name = (marked or "utf-8").upper()
        raise SourceError(f"{what} is no {name} ({error.reason} at byte {error.start}); save it as UTF-8") from error
    # Every other byte of plain words in UTF-16 is zero; no text in UTF-8 has many.
    if text[:200].count("\0") > len(text[:200]) // 4:
        raise SourceError(f"{what} looks like UTF-16 without its mark; save it as UTF-8")
    return text
