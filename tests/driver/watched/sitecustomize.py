"""What every Python process of a watched run does first: Python imports a module of this name, where it finds one, as it starts."""

from __future__ import annotations

from tests.driver.killing import install

install()
