# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Brings the clocks of several machines together by what must hold.

Processes of one machine read one clock; those of two machines may differ by
milliseconds, which is as long as a task. But no task starts before the results
that it needs are made:

```
  clock of A   --[ F0 ]............................[ B0 ]--
                      \\                          /
  clock of B   --------->[ F1 ][ B1 ]-----------'

  end of F0 on A <= start of F1 on B + shift     (forward: shift is not less)
  end of B1 on B + shift <= start of B0 on A     (backward: nor is it more)
```

A clock that breaks none of this is left as it is. One that does is set to the
middle of what is allowed, as if messages took equally long both ways.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence


@dataclasses.dataclass(frozen=True)
class Message:
  """A result that went from one process to another.

  Attributes:
    sender: The process that made it.
    sent: When it was made, in seconds by the sender's clock.
    receiver: The process that used it.
    used: When that started to, in seconds by the receiver's clock.
  """

  sender: str
  sent: float
  receiver: str
  used: float


def align(
  processes: Sequence[str], messages: Iterable[Message]
) -> dict[str, float]:
  """How much to add to the times of each process, in seconds.

  Returns:
    A shift for each process. A process that no messages join to the first is
    not shifted.
  """
  # least[a, b]: what the shift of b must exceed that of a by.
  least: dict[tuple[str, str], float] = {}
  for message in messages:
    pair = (message.sender, message.receiver)
    if pair[0] != pair[1]:
      difference = message.sent - message.used
      least[pair] = max(difference, least.get(pair, difference))
  shifts = dict.fromkeys(processes, 0.0)
  known = list(processes[:1])
  waiting = list(processes[1:])
  for a in known:  # It grows on the way.
    for b in list(waiting):
      if (a, b) in least or (b, a) in least:
        low = least.get((a, b), -math.inf)
        high = -least.get((b, a), -math.inf)
        shifts[b] = shifts[a] + _between(low, high, unchanged=-shifts[a])
        known.append(b)
        waiting.remove(b)
  return shifts


def _between(low: float, high: float, unchanged: float) -> float:
  """A relative shift from `low` to `high`, of which one may be infinite."""
  if low <= unchanged <= high:
    return unchanged
  middle = (low + high) / 2
  if math.isfinite(middle):
    return middle
  return low if math.isinf(high) else high
