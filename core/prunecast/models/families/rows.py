"""What each row of the projections of a layer is: a query, a key, a value or a channel, and of which head or group.

Derivatives tell it. What an attention returns for the last token depends on the queries of this token alone, and on the
keys and values of earlier tokens; a value reaches one number of each head of its group, a key all of them.

Notation:
    B, T      rows of the batch, tokens of a row
    head_dim  width of a head
    W         channels of the MLP
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from prunecast.errors import ModelError
from prunecast.models.families.dataflow import LayerFlow

Role = Literal["query", "key", "value"]

_MOST_DEAD = 0.3
"""Largest part of the channels of a small MLP whose activation may be zero for all tokens."""


class Row(NamedTuple):
    """One row of a projection.

    Attributes:
        role: what it computes.
        block: its query head, or its KV group.
    """

    role: Role
    block: int


@dataclass(frozen=True)
class AttentionRows:
    """Rows of the projections of an attention.

    Attributes:
        groups, heads: number of KV groups and of query heads.
        head_dim: width of a head.
        rows: the rows of each projection, by its name.
    """

    groups: int
    heads: int
    head_dim: int
    rows: Mapping[str, Sequence[Row]]

    def owner(self, role: Role) -> str:
        """Name of the projection that has the rows of a role. Raises ModelError if it is not a single one."""
        names = [name for name, rows in self.rows.items() if any(row.role == role for row in rows)]
        if len(names) != 1:
            raise ModelError(f"its {role} rows are in {' and '.join(names) or 'no projection'}, not in one")
        return names[0]

    @property
    def fused(self) -> Literal["stack", "groups"]:
        """Order of the rows of projections that have several roles.

        Raises:
            ModelError: it is neither, or heads and groups are not in order.
        """
        return "groups" if any(self._order(name) == "groups" for name in self.rows) else "stack"

    def _order(self, name: str) -> Literal["stack", "groups"]:
        rows, per_group = list(self.rows[name]), self.heads // self.groups
        counts: dict[Role, int] = {"query": self.heads, "key": self.groups, "value": self.groups}
        roles = [role for role in counts if any(row.role == role for row in rows)]
        stack = [Row(role, block) for role in roles for block in range(counts[role])]
        if rows == self._wide(stack):
            return "stack"
        by_group: list[Row] = []
        for group in range(self.groups):
            by_group += [Row("query", group * per_group + head) for head in range(per_group)]
            by_group += [Row("key", group), Row("value", group)]
        if rows == self._wide(by_group):
            return "groups"
        found = [f"{row.role} {row.block}" for row, _ in groupby(rows)]
        raise ModelError(
            f"the rows of {name} are in the order {', '.join(found[:6])}, ..., neither all queries, keys and values in "
            "turn nor group by group"
        )

    def _wide(self, blocks: Sequence[Row]) -> list[Row]:
        return [block for block in blocks for _ in range(self.head_dim)]


def mixes_tokens(flow: LayerFlow, output: str, readers: Sequence[str], shape: tuple[int, int]) -> bool:
    """True if the input of a projection depends on other tokens, of earlier positions.

    Args:
        flow: the layer.
        output: name of the projection.
        readers: names of the projections of the residual stream whose outputs it reads.
        shape: rows and tokens of the batch, (B, T).

    Raises:
        ModelError: it depends on tokens of later positions.
    """
    value = flow.input(output).reshape(*shape, -1)[0]
    made = [flow.output(name) for name in readers]
    for gradient in _gradients(value[0].sum(), made, shape):
        if gradient[0, 1:].any():
            raise ModelError(f"{flow.name}.{output} reads later tokens, as in an encoder")
    return any(gradient[0, :-1].any() for gradient in _gradients(value[-1].sum(), made, shape))


def attention_rows(flow: LayerFlow, output: str, readers: Sequence[str], shape: tuple[int, int]) -> AttentionRows:
    """Rows of the projections of an attention; arguments as for :func:`mixes_tokens`.

    Raises:
        ModelError: a row is neither a query nor a key nor a value of one head or group.
    """
    value = flow.input(output).reshape(*shape, -1)[0, -1]
    made = [flow.output(name) for name in readers]
    gradients = [_gradients(number, made, shape) for number in value]
    reach = {
        name: torch.stack([each[place][0] for each in gradients]).ne(0)  # (heads x head_dim, T, rows)
        for place, name in enumerate(readers)
    }
    queries = [part[:, -1, row] for part in reach.values() for row in _queries(part)]
    if not queries:
        raise ModelError(f"{output} reads no queries")
    head_dim = min(int(query.sum()) for query in queries)
    heads, rest = divmod(len(value), head_dim)
    if rest or head_dim == 1:
        raise ModelError(_gated(flow, reach))
    rows = {name: _rows(name, part, heads, head_dim) for name, part in reach.items()}
    groups = 1 + max(row.block for part in rows.values() for row in part if row.role == "key")
    return AttentionRows(groups, heads, head_dim, rows)


def _gradients(number: Tensor, made: Sequence[Tensor], shape: tuple[int, int]) -> list[Tensor]:
    """Derivatives of a number by the outputs of projections, each of shape (B, T, rows)."""
    found = torch.autograd.grad(number, made, retain_graph=True, allow_unused=True)
    pairs = zip(found, made, strict=True)
    return [(torch.zeros_like(one) if each is None else each).reshape(*shape, -1) for each, one in pairs]


def _queries(reach: Tensor) -> list[int]:
    """Rows of which only those of the last token matter."""
    earlier, last = reach[:, :-1].any(dim=1).any(dim=0), reach[:, -1].any(dim=0)
    return (last & ~earlier).nonzero().flatten().tolist()


def _gated(flow: LayerFlow, reach: Mapping[str, Tensor]) -> str:
    name = next(name for name, part in reach.items() if any(part[:, -1, row].sum() == 1 for row in _queries(part)))
    return f"{flow.name}.{name} gates the output of the attention"


def _rows(name: str, reach: Tensor, heads: int, head_dim: int) -> list[Row]:
    queries = set(_queries(reach))
    return [
        _row(name, row, reach[..., row], query=row in queries, heads=heads, head_dim=head_dim)
        for row in range(reach.shape[-1])
    ]


def _row(name: str, row: int, reach: Tensor, *, query: bool, heads: int, head_dim: int) -> Row:
    """Role of one row, from the outputs that it reaches, shape (heads x head_dim, T); ``query`` if it is a query's."""
    numbers = (reach[:, -1] if query else reach[:, :-1].any(dim=1)).view(heads, head_dim)
    reached = numbers.any(dim=1).nonzero().flatten().tolist()
    if not reached:
        raise ModelError(f"row {row} of {name} has no part in the attention")
    each = numbers[reached].sum(dim=1)
    if query and len(reached) == 1 and each[0] == head_dim:
        return Row("query", reached[0])
    groups = heads // len(reached)
    own = range(reached[0], reached[0] + len(reached))
    if query or list(own) != reached or reached[0] % len(reached) or groups * len(reached) != heads:
        raise ModelError(f"row {row} of {name} belongs to heads {reached}: neither one head nor a group side by side")
    if (each == 1).all() and numbers[reached, row % head_dim].all():
        return Row("value", reached[0] // len(reached))
    if (each == head_dim).all():
        return Row("key", reached[0] // len(reached))
    raise ModelError(f"row {row} of {name} is neither a key nor a value")


def channel_rows(flow: LayerFlow, output: str, readers: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Parts of an MLP, by projection: ``("up",)``, ``("gate",)``, or both if it is fused, in a stack.

    Args:
        flow: the layer.
        output: name of the projection back into the residual stream, of W inputs.
        readers: names of the projections of the residual stream whose outputs it reads.

    Raises:
        ModelError: a row belongs to several channels, or the rows are not in the order of the channels.
    """
    channels = flow.input(output).flatten(0, -2)
    made = [flow.output(name) for name in readers]
    width = channels.shape[-1]
    totals = channels.sum(dim=0)
    gradients = [torch.autograd.grad(each, made, retain_graph=True, allow_unused=True) for each in totals]
    parts: dict[str, int] = {}
    for place, name in enumerate(readers):
        columns = [each[place] for each in gradients]
        rows = made[place].shape[-1]
        none = made[place].new_zeros(rows, dtype=torch.bool)
        reach = torch.stack([none if each is None else each.flatten(0, -2).ne(0).any(dim=0) for each in columns])
        parts[name] = _stacked(name, reach, width, rows)
    if sum(parts.values()) > 2:
        raise ModelError(f"{output} reads {sum(parts.values())} projections of {width} channels, not one or two")
    if sum(parts.values()) == 1:
        return dict.fromkeys(parts, ("up",))
    if len(parts) == 1:
        return dict.fromkeys(parts, ("gate", "up"))
    up = next((name for name in readers if _is_factor(channels, flow.output(name))), readers[-1])
    return {name: ("up",) if name == up else ("gate",) for name in readers}


def _stacked(name: str, reach: Tensor, width: int, rows: int) -> int:
    """How many times a projection has a row for each channel; ``reach`` is of shape (W, rows).

    Some rows may reach no channel, as an activation can be zero for all tokens.
    """
    times, rest = divmod(rows, width)
    if rest or times == 0:
        raise ModelError(f"{name} has {rows} rows for {width} channels of the MLP")
    channels = reach.sum(dim=0)
    if (channels > 1).any() or (channels == 0).float().mean() > _MOST_DEAD:
        raise ModelError(f"a row of {name} belongs to several channels of the MLP, or many to none")
    if ((reach.int().argmax(dim=0) != torch.arange(rows) % width) & (channels == 1)).any():
        raise ModelError(f"the rows of {name} are not in the order of the channels of the MLP")
    return times


def _is_factor(channels: Tensor, factor: Tensor) -> bool:
    """True if the channels are linear in a projection, each in its own row."""
    (slope,) = torch.autograd.grad(channels.sum(), factor, retain_graph=True)
    return torch.allclose((slope * factor).flatten(0, -2), channels, rtol=1e-3, atol=1e-6)
