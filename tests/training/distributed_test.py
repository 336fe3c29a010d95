# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0

import pytest
import tensorflow.compat.v1 as tf

from lingvo_gpipe.launching import private_network
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
    ('worker=h0:1,h0:1', 'h0:1 is there twice'),
  ],
)
def test_a_mistake_in_the_spec_is_named(text, message):
  with pytest.raises(user_error.UserError, match=message):
    distributed.parse_cluster_spec(text)


@pytest.mark.parametrize(
  ('spec', 'job', 'task'),
  [
    (SPEC, 'worker', 1),
    (SPEC, 'trainer_client', 0),
    ({'worker': ['h0:1']}, 'trainer_client', 0),  # Uses the worker's server.
    ({'evaler_test': ['h0:1']}, 'evaler_test', 0),
  ],
)
def test_a_process_of_the_spec_has_a_place(spec, job, task):
  distributed.check_place(spec, job, task)


@pytest.mark.parametrize(
  ('spec', 'job', 'task', 'message'),
  [
    (SPEC, 'controller', 0, '--job=controller: .* worker, trainer_client'),
    (SPEC, 'worker', 2, r'--task=2: .* 2 process\(es\) of job worker'),
    ({'ps': ['h0:1']}, 'trainer_client', 0, 'needs worker='),
  ],
)
def test_one_without_a_place_is_told_why(spec, job, task, message):
  with pytest.raises(user_error.UserError, match=message):
    distributed.check_place(spec, job, task)


@pytest.mark.parametrize('private', [False, True])
def test_an_open_port_is_a_warning_unless_the_network_is_private(
  private, monkeypatch, warnings
):
  monkeypatch.setattr(private_network, 'is_private', lambda: private)
  distributed.warn_of_open_port('grpc://localhost:2222')
  warning = warnings.getvalue()
  if private:
    assert warning == ''
  else:
    assert warning.startswith('Warning: port 2222 of this machine is open')
    assert 'has no authentication' in warning
    assert warning.count('\n') == 1


def test_a_port_is_not_shared_with_another_server():
  server = tf.distribute.Server({'worker': ['127.0.0.1:0']}, 'worker', 0)
  address = server.target.removeprefix('grpc://')
  with pytest.raises(
    user_error.UserError,
    match=rf'worker 0 cannot have {address} \(Address already in use\); choose '
    'a port that is free',
  ):
    distributed.start_server({'worker': [address]}, 'worker', 0, 1, 0)


@pytest.mark.parametrize(
  ('job', 'filters'),
  [
    (
      'trainer_client',
      ['/job:trainer_client/task:0', '/job:worker', '/job:ps', '/job:input'],
    ),
    ('evaler_test', ['/job:evaler_test/task:0']),
  ],
)
def test_sessions_need_only_the_processes_that_they_use(job, filters):
  config = tf.ConfigProto()
  distributed.restrict_session(config, job, 0)
  assert list(config.device_filters) == filters
