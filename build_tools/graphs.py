# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Directed graphs, given as the successors of each node."""

from collections.abc import Callable, Collection, Iterable, Mapping

Graph = Mapping[str, Collection[str]]


def reach(
  start: Iterable[str], successors: Callable[[str], Iterable[str]]
) -> set[str]:
  """The nodes that paths from `start` lead to, those of `start` included."""
  reached: set[str] = set()
  pending = list(start)
  while pending:
    node = pending.pop()
    if node not in reached:
      reached.add(node)
      pending += successors(node)
  return reached


def components(graph: Graph) -> dict[str, frozenset[str]]:
  """The strongly connected component of each node.

  Tarjan, "Depth-first search and linear graph algorithms", SIAM Journal on
  Computing 1(2), 1972.
  """
  result: dict[str, frozenset[str]] = {}
  number: dict[str, int] = {}
  lowest: dict[str, int] = {}
  stack: list[str] = []

  def visit(node: str) -> None:
    number[node] = lowest[node] = len(number)
    stack.append(node)
    for following in graph.get(node, ()):
      if following not in number:
        visit(following)
      if following not in result:
        lowest[node] = min(lowest[node], lowest[following])
    if lowest[node] == number[node]:
      position = stack.index(node)
      component = frozenset(stack[position:])
      del stack[position:]
      result.update(dict.fromkeys(component, component))

  for node in graph:
    if node not in number:
      visit(node)
  return result
