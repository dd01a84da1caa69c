"""Secrets: what of an address, a setting or a message is one, and the text without it; what leaves the program goes through `redact`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# Amazon's, Google's, CloudFront's, Azure's and the usual CDNs' parameters.
_CREDENTIAL = re.compile(
    r"x-(amz|goog)-[a-z-]+|awsaccesskeyid|googleaccessid|signature|expires|key-pair-id|policy"
    r"|api[_-]?key|access[_-]?key|secret([_-]?key)?|passw(or)?d|passphrase"
    r"|sig|se|sp|sv|sr|st|spr|skoid|sktid|skt|ske|sks|skv|(access_|auth_)?token|hdn(ts|tl)",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"https?://[^\s'\"<>]+", re.IGNORECASE)
_SECRET_NAME = re.compile(
    r"key|secret|token|pass(word|wd|phrase)?$|credential|sas|auth|connection_string|cookie|bearer|header", re.IGNORECASE
)
_PASSWORD = re.compile(r"([a-z][a-z0-9+.-]*://)[^/\s?#@'\"]*:[^/\s?#@'\"]*@", re.IGNORECASE)
_OPTION = re.compile(r"""(storage_options(?:\.[\w-]+)*\.(?P<name>[\w-]+)\s*=\s*)('[^']*'|"[^"]*"|[^\s'"]+)""")
_OPTIONS = re.compile(r"(storage_options\s*=\s*)(\{[^}]*\}+|'[^']*'|\"[^\"]*\"|[^\s'\"]+)")
_LEAST_CHARACTERS = 6
"""A shorter secret is none, and would be found in any word."""
_HIDDEN = "***"

# The one thing that a process remembers of its own accord: what it must never say.
_known: set[str] = set()
_USER = re.compile(r"(https?://)[^/?#@]*@", re.IGNORECASE)


def unsigned(address: str) -> str:
    """Return a web address, or the end of one, without user, password and the parameters that sign it."""
    place, mark, query = _USER.sub(r"\1", address).partition("?")
    kept = [part for part in query.split("&") if not _CREDENTIAL.fullmatch(part.partition("=")[0])]
    return place + mark + "&".join(kept) if any(kept) else place


def without_password(address: str) -> str:
    """Return a URL without the `user:password@` in it."""
    return _PASSWORD.sub(r"\1", address)


def is_secret_name(name: str) -> bool:
    """Whether a setting of this name holds a credential."""
    return _SECRET_NAME.search(name) is not None


def remember_secrets(options: Any, *, is_secret: bool = False) -> None:
    """Take note of the credentials among the options of a store, so that `redact` hides them wherever they come up."""
    if isinstance(options, Mapping):
        for name, value in options.items():
            remember_secrets(value, is_secret=is_secret or is_secret_name(str(name)))
    elif isinstance(options, (list, tuple)):
        for value in options:
            remember_secrets(value, is_secret=is_secret)
    elif is_secret and isinstance(options, (str, int)) and len(str(options)) >= _LEAST_CHARACTERS:
        _known.add(str(options))


def redact(text: str) -> str:
    """Return a text without secrets: those remembered, passwords and signatures in addresses, and the options of stores."""
    for secret in sorted(_known, key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    if "storage_options" in text:
        text = _OPTION.sub(lambda match: match[1] + (_HIDDEN if is_secret_name(match["name"]) else match[3]), text)
        text = _OPTIONS.sub(rf"\1{_HIDDEN}", text)
    return _PASSWORD.sub(rf"\1{_HIDDEN}@", unsigned_text(text)) if "://" in text else text


def unsigned_text(text: str) -> str:
    """Return a message with the web addresses in it unsigned."""
    return _ADDRESS.sub(lambda match: unsigned(match[0]), text)
