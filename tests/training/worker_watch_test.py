# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import queue
import socket

import pytest
import tensorflow.compat.v1 as tf

from lingvo_gpipe.launching import local_cluster
from lingvo_gpipe.training import worker_watch


@pytest.fixture(scope='module')
def alive():
  """The address of a worker's server."""
  server = tf.distribute.Server({'worker': ['127.0.0.1:0']}, 'worker', 0)
  return server.target.removeprefix('grpc://')


@pytest.fixture
def gone():
  """An address that nobody listens on."""
  return f'127.0.0.1:{local_cluster.free_ports(1)[0]}'


@pytest.fixture
def hanging():
  """An address that takes connections and never says a word."""
  with socket.create_server(('127.0.0.1', 0)) as server:
    yield f'127.0.0.1:{server.getsockname()[1]}'


def _watch(*addresses):
  return worker_watch.WorkerWatch(addresses, interval=0.1, deadline=1.0)


def test_a_worker_that_answers_is_not_lost(alive):
  watch = _watch(alive)
  watch.wait_until_up(10)
  assert watch.lost() == []
  error = ValueError('of its own')
  assert watch.explain(error) is error


def test_workers_that_are_gone_or_hang_are_named(alive, gone, hanging):
  lost = _watch(alive, gone, hanging).lost()
  assert len(lost) == 2
  assert f'worker 1 ({gone}) does not accept connections' in lost[0]
  assert lost[1].startswith(f'worker 2 ({hanging}) ')


@pytest.mark.parametrize('which', ['gone', 'hanging'])
def test_the_watch_reports_a_lost_worker_once(alive, which, request):
  address = request.getfixturevalue(which)
  found = queue.SimpleQueue()
  watch = _watch(alive, address)
  watch.watch(found.put)
  error = found.get(timeout=20)
  watch.stop()
  assert isinstance(error, worker_watch.WorkerLostError)
  assert f'worker 1 ({address})' in str(error)
  assert error.exit_status == 3
  with pytest.raises(queue.Empty):
    found.get(timeout=0.5)


def test_a_worker_that_never_starts_is_an_error_that_names_it(alive, gone):
  said = []
  with pytest.raises(
    worker_watch.WorkerLostError, match=r'worker 1 .* has not started within'
  ):
    _watch(alive, gone).wait_until_up(0.5, said.append)
  assert said == [f'Waiting for worker 1 ({gone}) to start ...']
