"""What the tests of `operate` work on."""

from __future__ import annotations

from tests.sandboxed import bare, deployment, environ, platform, token

__all__ = ["bare", "deployment", "environ", "platform", "token"]
