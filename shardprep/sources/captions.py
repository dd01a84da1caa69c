"""Captions in files: the text of `a.txt`, or the text field of `a.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from shardprep.core.blob import Blob, read_blob
from shardprep.errors import SourceError

CAPTION_SUFFIXES = ("txt", "json")
"""In the order of preference."""
TEXT_FIELDS = ("text", "caption")
MAX_TEXT_BYTES = 1 << 20
MAX_JSON_BYTES = 16 << 20


def read_caption(blob: Blob, suffix: str, what: str) -> str | None:
    """Return the caption of a `txt` or `json` file, None where it holds none; SourceError where it is damaged."""
    if suffix == "json":
        return caption_of(read_object(blob, what))
    return clean_text(_decode(_read(blob, MAX_TEXT_BYTES, what), what))


def read_object(blob: Blob, what: str) -> dict[str, Any]:
    """Return the JSON object of a file; SourceError where it is none."""
    text = _decode(_read(blob, MAX_JSON_BYTES, what), what)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{what} is no JSON: {error}") from error
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


def _decode(data: bytes, what: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(f"{what} is no UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from error
