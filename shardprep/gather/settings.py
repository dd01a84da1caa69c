"""The settings of the gathers: what a recipe says of select and pack."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Select:
    """Keep the samples that an expression over their columns is true for; no tar is written."""

    where: str = "true"
    """SQL over the columns, such as `scores.aesthetic >= 5 AND clip.seconds < 15`; where it is null the sample is dropped as `unknown`."""
    sort: str | None = None
    """SQL order, such as `scores.aesthetic DESC`, that `limit` counts in; ties go by key."""
    limit: int | None = None
    """At most so many samples are kept, the first of the order."""
    sample: int | float | None = None
    """A number of samples (an integer) or a share of them (0.0 to 1.0), drawn by hash of seed and key after `where` and before `limit`."""
    seed: int = 0
    """Seed of the draw."""

    def __post_init__(self) -> None:
        if not self.where.strip():
            raise ValueError("where is empty; leave it out to keep all")
        if self.limit is not None and self.limit < 0:
            raise ValueError(f"limit is {self.limit}; expected 0 or more samples")
        if self.sample is not None and (self.sample < 0 or (isinstance(self.sample, float) and self.sample > 1)):
            raise ValueError(f"sample is {self.sample}; expected a number of samples, or a share between 0.0 and 1.0")

    @property
    def is_global(self) -> bool:
        """Whether what is kept of one shard depends on the others."""
        return self.limit is not None or isinstance(self.sample, int)


@dataclass(frozen=True, kw_only=True)
class Pack:
    """Copy whole samples into shuffled training shards of a target size, one tensor shape per shard."""

    shard_mib: int = 512
    """A shard is closed before it would grow beyond this."""
    samples_per_shard: int | None = None
    """A shard is closed after so many samples, where given."""
    seed: int | None = 0
    """Seed of the shuffle; null keeps the order of the keys."""
    bucket_by: tuple[str, ...] = ()
    """Columns whose values, beside the shapes of the tensors, are equal within a shard."""
    roles: tuple[str, ...] | None = None
    """Members that are packed, such as `video`, `latent`, `t5`; null packs all."""

    def __post_init__(self) -> None:
        for name in ("bucket_by", "roles"):
            if isinstance(getattr(self, name), str):
                # One name is a list of one, in Python too.
                object.__setattr__(self, name, (getattr(self, name),))
        if self.shard_mib < 1:
            raise ValueError(f"shard_mib is {self.shard_mib}; expected 1 MiB or more")
        if self.samples_per_shard is not None and self.samples_per_shard < 1:
            raise ValueError(f"samples_per_shard is {self.samples_per_shard}; expected 1 or more")
        if self.roles is not None and not self.roles:
            raise ValueError("roles is empty; name the members to pack, or leave it out to pack all")

    def packs(self, role: str) -> bool:
        """Whether members of this role are packed."""
        return self.roles is None or role in self.roles
