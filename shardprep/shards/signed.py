"""Signed addresses: what of a web address is a credential, and the address without it, which is the same whenever it is signed."""

from __future__ import annotations

import re

# Amazon's, Google's, CloudFront's, Azure's and the usual CDNs' parameters.
_CREDENTIAL = re.compile(
    r"x-(amz|goog)-[a-z-]+|awsaccesskeyid|googleaccessid|signature|expires|key-pair-id|policy"
    r"|sig|se|sp|sv|sr|st|spr|skoid|sktid|skt|ske|sks|skv|(access_|auth_)?token|hdn(ts|tl)",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"https?://[^\s'\"<>]+", re.IGNORECASE)
_USER = re.compile(r"(https?://)[^/?#@]*@", re.IGNORECASE)


def unsigned(address: str) -> str:
    """Return a web address, or the end of one, without user, password and the parameters that sign it."""
    place, mark, query = _USER.sub(r"\1", address).partition("?")
    kept = [part for part in query.split("&") if not _CREDENTIAL.fullmatch(part.partition("=")[0])]
    return place + mark + "&".join(kept) if any(kept) else place


def unsigned_text(text: str) -> str:
    """Return a message with the web addresses in it unsigned."""
    return _ADDRESS.sub(lambda match: unsigned(match[0]), text)
