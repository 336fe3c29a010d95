# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import queue
import socket

import pytest
import tensorflow.compat.v1 as tf

from lingvo_gpipe.launching import local_cluster, private_network
from lingvo_gpipe.training import distributed, user_error

SPEC = {'worker': ['h0:1', 'h1:1'], 'trainer_client': ['h2:1']}


def test_reads_lingvos_form():
  text = 'worker=h0:1,h1:1@trainer_client=h2:1'
  assert distributed.parse_cluster_spec(text) == SPEC


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('h0:1', "'h0:1' is not job=host:port"),
    ('worker=h0', "'h0' of job worker is not host:port"),
    ('worker=h0:1,', "'' of job worker is not host:port"),
    ('worker=h0:1@worker=h1:1', "'worker=h1:1' is not"),
    ('worker=h0:1,h0:1', "'h0:1' of job worker .* is there twice"),
  ],
)
def test_a_mistake_in_the_spec_is_named(text, message):
  with pytest.raises(user_error.UserError, match=message):
    distributed.parse_cluster_spec(text)


@pytest.mark.parametrize(
  ('spec', 'job', 'task', 'message'),
  [
    (SPEC, 'worker', 1, ''),
    (SPEC, 'trainer_client', 0, ''),
    # It uses the worker's server.
    ({'worker': ['h0:1']}, 'trainer_client', 0, ''),
    ({'evaler_test': ['h0:1']}, 'evaler_test', 0, ''),
    (SPEC, 'controller', 0, '--job=controller needs .* worker, trainer_client'),
    (SPEC, 'worker', 2, r'--task=2: .* 2 process\(es\) of job worker'),
    ({'ps': ['h0:1']}, 'trainer_client', 0, 'needs worker='),
  ],
)
def test_a_process_without_a_place_in_the_spec(spec, job, task, message):
  if not message:
    distributed.check_place(spec, job, task)
    return
  with pytest.raises(user_error.UserError, match=message):
    distributed.check_place(spec, job, task)


@pytest.mark.parametrize('private', [False, True])
def test_an_open_port_is_a_warning_unless_the_network_is_private(
  private, monkeypatch, warnings
):
  monkeypatch.setattr(private_network, 'is_private', lambda: private)
  distributed.warn_of_open_port('grpc://localhost:2222')
  start = 'Warning: port 2222 of this machine is open'
  assert warnings.getvalue().startswith(start) != private
  assert warnings.getvalue().count('\n') == (0 if private else 1)


@pytest.fixture(scope='module')
def alive():
  server = tf.distribute.Server({'worker': ['127.0.0.1:0']}, 'worker', 0)
  return server.target.removeprefix('grpc://')


def test_a_port_is_not_shared_with_another_server(alive):
  with pytest.raises(
    user_error.UserError,
    match=rf'worker 0 cannot have {alive} \(Address already in use\); choose '
    'a port that is free',
  ):
    distributed.start_server({'worker': [alive]}, 'worker', 0, 1, 0)


@pytest.mark.parametrize(
  ('job', 'others'),
  [
    ('trainer_client', ['/job:worker', '/job:ps', '/job:input']),
    ('evaler_test', []),
  ],
)
def test_sessions_need_only_the_processes_that_they_use(job, others):
  config = tf.ConfigProto()
  distributed.restrict_session(config, job, 0)
  assert list(config.device_filters) == [f'/job:{job}/task:0', *others]


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
  return distributed.WorkerWatch(addresses, interval=0.1, deadline=1.0)


def test_an_error_is_explained_by_lost_or_hung_workers(alive, gone, hanging):
  error = ValueError('of its own')
  watch = _watch(alive)
  watch.wait_until_up(10)
  assert watch.explain(error) is error
  lost = str(_watch(alive, gone, hanging).explain(error))
  assert lost.startswith(f'worker 1 ({gone}) does not accept connections')
  assert f'; worker 2 ({hanging}) has not answered for 1 s' in lost


@pytest.mark.parametrize('which', ['gone', 'hanging'])
def test_the_watch_reports_a_lost_worker_once(alive, which, request):
  address = request.getfixturevalue(which)
  found = queue.SimpleQueue()
  watch = _watch(alive, address)
  watch.watch(found.put)
  error = found.get(timeout=20)
  watch.stop()
  assert isinstance(error, distributed.WorkerLostError)
  assert f'worker 1 ({address})' in str(error)
  assert error.exit_status == 3
  with pytest.raises(queue.Empty):
    found.get(timeout=0.5)


def test_a_worker_that_never_starts_is_named(alive, gone, capsys):
  with pytest.raises(
    distributed.WorkerLostError, match=r'worker 1 .* has not started within'
  ):
    _watch(alive, gone).wait_until_up(0.5)
  said = f'Waiting for worker 1 ({gone}) to start ...\n'
  assert capsys.readouterr().out == said
