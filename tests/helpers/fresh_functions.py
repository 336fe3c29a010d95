# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import math
import os
import sys
import time

from tools.common import fresh

MB = 2**20


class Counter:
  def __init__(self, start):
    self._number = start

  def add(self, more):
    self._number += more
    return self._number

  def pid(self):
    return os.getpid()

  def fail(self):
    raise ValueError('no more beer')

  def end(self):
    print('last words', file=sys.stderr, flush=True)
    os._exit(3)


def grow(size, budget, seconds=0):
  with fresh.watching([os.getpid()], budget):
    data = b'x' * size
    time.sleep(seconds)
    del data


def leave_worker(seconds=60):
  pid = os.fork()
  if not pid:
    time.sleep(seconds)
    os._exit(1)
  return pid


def lose_worker():
  with fresh.watching([leave_worker(0.2)], math.inf):
    time.sleep(30)


def tell_and_sleep(file):
  with open(f'{file}.part', 'w') as told:
    told.write(str(os.getpid()))
  os.rename(f'{file}.part', file)
  time.sleep(60)
