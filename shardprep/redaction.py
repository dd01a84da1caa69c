"""Secrets: what of an address, a setting or a message is one, and the text without it; what leaves the program goes through `redact`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote, unquote_plus

# Amazon's, Google's, CloudFront's, Azure's and the usual CDNs' parameters.
_CREDENTIAL = re.compile(
    r"x-(amz|goog)-[a-z-]+|awsaccesskeyid|googleaccessid|signature|expires|key-pair-id|policy"
    r"|api[_-]?key|access[_-]?key|secret([_-]?key)?|passw(or)?d|passphrase"
    r"|x-(oss|cos)-[a-z-]+|q-(sign|ak|signature|key|header|url)[a-z-]*|ossaccesskeyid|client[_-]?secret|security[_-]?token"
    r"|auth|authorization|auth[_-]?key|bearer|jwt|sign|hmac|sid|j?session([_-]?(id|key|token))?|pass|pwd?|credentials?|sas"
    r"|sig|se|sp|sv|sr|st|spr|skoid|sktid|skt|ske|sks|skv|([a-z]+[_-]?)?token|hdn(ts|tl)",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"https?://[^\s'\"<>]+", re.IGNORECASE)
_PATH_PARAMETER = re.compile(r"(?:;|%3b)(?P<name>(?:(?!%3[bd])[^;/=])+)(?:=|%3d)(?P<value>(?:(?!%3b)[^;/])*)", re.IGNORECASE)
"""`;name=value` in the path of an address (RFC 3986, 3.3), as of servlets: `;jsessionid=...`."""
_SECRET_NAME = re.compile(
    r"key|secret|token|pass(word|wd|phrase)?$|credential|sas|auth|connection_string|cookie|bearer|header", re.IGNORECASE
)
_PASSWORD = re.compile(r"([a-z][a-z0-9+.-]*://)[^/\s?#@'\"]*:[^/\s?#@'\"]*@", re.IGNORECASE)
_OPTION = re.compile(r"""(storage_options(?:\.[\w-]+)*\.(?P<name>[\w-]+)\s*=\s*)('[^']*'|"[^"]*"|[^\s'"]+)""")
_OPTIONS = re.compile(r"(storage_options\s*=\s*)(\{[^}]*\}+|'[^']*'|\"[^\"]*\"|[^\s'\"]+)")
_DIGEST = re.compile(r"\*[0-9a-f]{16}")
_FILE = re.compile(r"\.(mp4|m4v|mov|mkv|webm|avi|m?2?ts|mpe?g|flv|gif|wmv|jpe?g|png|webp|bmp|tiff?|tar)$", re.IGNORECASE)
"""What a value ends in that names a file."""
_PUNCTUATION = ".,:;)]}"
"""What may follow an address in a sentence."""
_LEAST_CHARACTERS = 6
"""A shorter secret is none, and would be found in any word."""
_HIDDEN = "***"

# The one thing that a process remembers of its own accord: what it must never say.
_known: set[str] = set()
_USER = re.compile(r"(https?://)[^/?#@]*@", re.IGNORECASE)


def unsigned(address: str) -> str:
    """Return a web address, or the end of one, without user, password and the parameters that sign it, those in its path as well.

    Of a parameter that may be a secret or name the file (`key=…`) the value becomes its digest: the address stays one of its own.
    """
    place, mark, query = _USER.sub(r"\1", address).partition("?")
    if not mark:
        place, mark, query = place.partition("#")
    place = _PATH_PARAMETER.sub(_path_parameter, place)
    kept = []
    for part in re.split("(?=[&#])", query):
        separator = part[:1] if part[:1] in ("&", "#") else ""
        name, equals, value = part.removeprefix(separator).partition("=")
        if not _CREDENTIAL.fullmatch(unquote_plus(name)):
            kept.append(f"{separator}{name}{equals}{_shown(unquote_plus(name), value)}")
    text = "".join(kept).lstrip("&")
    return f"{place}{'' if text.startswith('#') else mark}{text}" if text else place


def _path_parameter(match: re.Match[str]) -> str:
    """Return a parameter in a path as it may be seen."""
    name, value = unquote(match["name"]), match["value"]
    if _CREDENTIAL.fullmatch(name):
        return ""
    return match[0].removesuffix(value) + _shown(name, value) if value else match[0]


def _shown(name: str, value: str) -> str:
    """Return the value of a parameter as it may be seen."""
    if "://" in (inner := unquote(value)):
        seen = unsigned(inner)
        return value if seen == inner else seen if inner == value else quote(seen, safe="")
    bare = value.rstrip(_PUNCTUATION)
    if not bare or not is_secret_name(name) or _FILE.search(bare) or _DIGEST.fullmatch(bare):
        return value
    return f"*{hashlib.sha256(bare.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}{value[len(bare) :]}"


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
