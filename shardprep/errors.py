"""The errors a user can meet, as one tree: catch `ShardprepError` for all of them."""

from shardprep.redaction import redact

REPAIR = "Run the recipe again with --repair"
"""The remedy for a damaged shard, in one place because many messages end with it."""


def _sayable(text: str) -> str:
    """Return a text that ledgers and terminals hold: the name of a file may be no UTF-8."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


class ShardprepError(Exception):
    """Something the user can mend. The message names the thing, what came, what was expected and the next step, and no secret."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(_sayable(redact(argument)) if isinstance(argument, str) else argument for argument in args))


class RecipeError(ShardprepError, ValueError):
    """A recipe or a setting is wrong; raised before anything runs."""


class MissingExtra(ShardprepError, ImportError):
    """An optional dependency is absent; the message holds the command that installs it."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(f'{what} needs {package}. Install it with: pip install "shardprep[{extra}]"')
        self.extra = extra


class SourceError(ShardprepError):
    """A source folder, list or tar cannot be read at all."""


class SourceChanged(SourceError):
    """A file of a source is no longer the one that was listed: it was changed, replaced or removed since."""


class WrongSource(SourceError, RecipeError):
    """What the recipe says of its source leads to nothing, or to something of another kind; raised before anything runs."""


class ShardError(ShardprepError):
    """A tar or a ledger is damaged, hostile or does not belong to its set."""


class Damaged(ShardError):
    """A file that carries its digest was changed after it was written."""


class IncompleteSet(ShardError):
    """A shard set lacks shards that its `set.json` lists."""


class StoreError(ShardprepError):
    """The store refuses: no space, read-only, no permission, not found."""


class UnknownStore(StoreError, RecipeError):
    """A URL names no kind of store that is understood, or what reads it is not installed; raised before anything runs."""


class Forbidden(StoreError):
    """The store refuses the access: it is not for these credentials, or they are absent, wrong or expired.

    `is_of_credentials` says that no other file would fare better.
    """

    def __init__(self, message: str, *, is_of_credentials: bool = False) -> None:
        super().__init__(message)
        self.is_of_credentials = is_of_credentials


class Unavailable(ShardprepError):
    """The environment failed, not the sample: a server is down, a store unreachable, a device lost.

    A stage raises it to give the shard back; the shard is tried again later and no sample is blamed.
    """


class FailureBudgetExceeded(ShardprepError):
    """More samples failed than `--max-failed` allows."""


class RunFailed(ShardprepError):
    """A shard could not be made after all its attempts."""


class OutputInUse(ShardprepError):
    """Another run works on the same output with other settings."""


class Stopped(ShardprepError):
    """The run was asked to stop. `finished` says whether the shards in work were finished or given up."""

    def __init__(self, message: str, *, finished: bool) -> None:
        super().__init__(message)
        self.finished = finished
