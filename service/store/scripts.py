"""The Lua scripts, each loaded from its own file and wrapped so that one EVALSHA runs many items.

A file in `lua/` is written for one item: its KEYS, its ARGV, its return value. For group commit the
wrapper below turns it into a function and calls it once per item, so that many callbacks or
replies cost Redis one command and us one round trip. An item that fails (out of memory, a wrong
type) fails alone; the items before and after it stand, each whole.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import Any, Protocol

from service.store.failures import answered, translated

_WRAPPER = """
local function one(KEYS, ARGV)
{source}
end
local answers, key, arg = {{}}, 0, 2
for item = 1, tonumber(ARGV[1]) do
  local keys, args = {{}}, {{}}
  for i = 1, tonumber(ARGV[arg]) do keys[i] = KEYS[key + i] end
  key = key + #keys
  for i = 1, tonumber(ARGV[arg + 1]) do args[i] = ARGV[arg + 1 + i] end
  arg = arg + 2 + #args
  local done, answer = pcall(one, keys, args)
  if done then
    answers[item] = {{0, answer}}
  else
    answers[item] = {{1, type(answer) == 'table' and answer.err or tostring(answer)}}
  end
end
return answers
"""


@dataclass(frozen=True, slots=True, eq=False)
class Script:
    """One Lua script: its name, the wrapped source and the digest EVALSHA knows it by.

    Told apart by identity: each is loaded once.
    """

    name: str
    source: bytes
    sha: str


@cache
def load(name: str) -> Script:
    """Read `lua/<name>.lua` and wrap it for many items."""
    text = files("service.store").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
    source = _WRAPPER.format(source=text).encode()
    return Script(name, source, sha1(source, usedforsecurity=False).hexdigest())


ACCEPT = load("accept")
SEEN = load("seen")
STATUS = load("status")
BEGIN = load("begin")
SETTLE = load("settle")
MARK = load("mark")
SENT = load("sent")
RESCHEDULE = load("reschedule")
BURY = load("bury")
ANNOUNCE = load("announce")
ACQUIRE = load("acquire")
RENEW = load("renew")
DISOWN = load("disown")
ABANDON = load("abandon")
FETCH = load("fetch")
PACE = load("pace")
REPLAY = load("replay")
RESTART = load("restart")
OPT_OUT = load("opt_out")
CLOCK = load("clock")
TAKE_LOCK = load("take_lock")
SAVE_INSTANCE = load("save_instance")
KEEP_SETUP = load("keep_setup")
DROP_DRAFT = load("drop_draft")
NOTE_LOOK = load("note_look")
MAKE_TOKEN = load("make_token")
SET_PASSWORD = load("set_password")
TRY_SIGN_IN = load("try_sign_in")
TAKE_BACK_TRY = load("take_back_try")
BEGIN_SESSION = load("begin_session")
SEE_SESSION = load("see_session")
END_SESSION = load("end_session")
NOTE = load("note")
NOTE_REFUSAL = load("note_refusal")


class RunsScripts(Protocol):
    """A client of redis-py's, ours too."""

    def eval(self, script: str, keys: int, /, *keys_and_args: str | int) -> Awaitable[Any]:
        """Run a script and return its answer."""


async def run_alone(
    client: RunsScripts, script: Script, keys: Sequence[str], args: Sequence[str | int]
) -> Any:
    """Run a script that is seldom needed by itself, without a batch, and return its answer.

    Raises StoreUnavailable, and StoreError for an error of the script itself.
    """
    items = (1, len(keys), len(args), *args)
    with translated():
        found = await client.eval(script.source.decode(), len(keys), *keys, *items)
    [(failed, answer)] = found
    if failed:
        raise answered(answer.decode(errors="replace"))
    return answer
