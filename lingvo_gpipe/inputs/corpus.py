# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Documents for a language model: text files, or Python's own manual."""

import glob
import hashlib
import os
import pathlib
import re
from collections.abc import Collection, Iterable, Sequence

# Shorter ones ("The following rules apply:") may well occur twice by chance.
_MIN_SHARED_BYTES = 40
_BLANK_LINES = re.compile(r'(\n[^\S\n]*\n\s*)')


def read_files(pattern: str, separator: str = '') -> list[str]:
  """Reads the documents of text files, in the order of their paths.

  Glob patterns are separated by commas; `**` stands for any folders. Without a
  separator each file is one document. ValueError if no file matches or has
  text, or one is not UTF-8.
  """
  paths: set[str] = set()
  for part in filter(None, (x.strip() for x in pattern.split(','))):
    found = glob.glob(os.path.expanduser(part), recursive=True)
    files = set(filter(os.path.isfile, found))
    if not files:
      raise ValueError(
        f'No file matches {part!r} (in the directory {os.getcwd()}). Give a '
        "path or a glob pattern of UTF-8 text files, such as 'texts/*.txt'."
      )
    paths |= files
  documents: list[str] = []
  for path in sorted(paths):
    try:
      text = pathlib.Path(path).read_bytes().decode('utf-8')
    except UnicodeDecodeError as e:
      raise ValueError(
        f'{path} is not UTF-8: {e}. Convert it, for instance with iconv.'
      ) from e
    documents += text.split(separator) if separator else [text]
  documents = [x for x in documents if x.strip()]
  if not documents:
    raise ValueError(
      f'The {len(paths)} file(s) that match {pattern!r} hold no text.'
    )
  return documents


def python_topics() -> list[str]:
  """Reads the topics of Python's interactive help: 80 documents, 0.5 MB."""
  from pydoc_data import topics

  return [x for _, x in sorted(topics.topics.items()) if x.strip()]


def hold_out(
  documents: Sequence[str], fraction: float
) -> tuple[list[str], list[str]]:
  """Splits documents into some to train on and some to hold out.

  Documents are held out in the order of their texts' SHA-256 hashes, until
  their bytes make up the fraction as nearly as whole documents can; at least
  one is held out and one is left. Equal documents stay together. ValueError if
  there are fewer than two different ones.
  """
  sizes: dict[bytes, int] = {}
  for document in documents:
    key = _hash(document)
    sizes[key] = sizes.get(key, 0) + num_bytes([document])
  if len(sizes) < 2:
    raise ValueError(
      'The corpus is a single document, so none can be held out. Name the '
      'held-out files, or a separator that cuts files into documents.'
    )
  wanted = fraction * sum(sizes.values())
  held_out: set[bytes] = set()
  total = 0
  for key in sorted(sizes)[:-1]:
    # Nearer to what is wanted without it, and it comes too late to be the one.
    if held_out and total + sizes[key] - wanted > wanted - total:
      break
    held_out.add(key)
    total += sizes[key]
  train = [x for x in documents if _hash(x) not in held_out]
  return train, [x for x in documents if _hash(x) in held_out]


def without_shared_paragraphs(
  train: Iterable[str], test: Iterable[str]
) -> list[str]:
  """Removes each paragraph of 40 bytes or more that is held out, too.

  In Python's topics some are chapters and others their sections. White space
  makes no difference.
  """
  paragraphs = (_normal_form(x) for t in test for x in _BLANK_LINES.split(t))
  held_out = {x for x in paragraphs if len(x.encode()) >= _MIN_SHARED_BYTES}
  kept = [_without(text, held_out) for text in train]
  kept = [text for text in kept if text.strip()]
  if not kept:
    raise ValueError(
      'All that is in the training documents is held out as well. Name other '
      'files to hold out.'
    )
  return kept


def _without(text: str, held_out: Collection[str]) -> str:
  # Paragraphs and what lies between them in turn.
  parts = [*_BLANK_LINES.split(text), '']
  pairs = zip(parts[::2], parts[1::2], strict=True)
  return ''.join(
    paragraph + blank
    for paragraph, blank in pairs
    if _normal_form(paragraph) not in held_out
  )


def _normal_form(paragraph: str) -> str:
  return ' '.join(paragraph.split())


def num_bytes(documents: Iterable[str]) -> int:
  return sum(len(document.encode()) for document in documents)


def digest(documents: Iterable[str]) -> str:
  return hashlib.sha256(b''.join(map(_hash, documents))).hexdigest()


def _hash(document: str) -> bytes:
  return hashlib.sha256(document.encode()).digest()
