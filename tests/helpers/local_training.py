# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Trainings over two CPU devices in this process."""

import contextlib
from unittest import mock

import lingvo.compat as tf
from absl import logging
from absl.testing import flagsaver
from lingvo.core import cluster_factory, py_utils

from lingvo_gpipe import cluster, trainer
from lingvo_gpipe.training import listeners, model_lookup, runner_manager

FLAGS = tf.flags.FLAGS


@contextlib.contextmanager
def settings(logdir, **flags):
  """Inside, flags and Lingvo's cluster are those of a run in this process."""
  before, eager = cluster_factory.Cluster, py_utils.IsEagerMode()
  saved = flagsaver.save_flag_values()
  for name, value in {
    'run_locally': 'cpu',
    'worker_split_size': 2,
    'logdir': str(logdir),
    **flags,
  }.items():
    FLAGS[name].value = value
  cluster.install()
  py_utils.SetEagerMode(False, test_mode=True)
  try:
    yield
  finally:
    flagsaver.restore_flag_values(saved)
    cluster_factory.SetCluster(before)
    py_utils.SetEagerMode(eager, test_mode=True)


class Losses(listeners.StepListener):
  def __init__(self):
    self.losses = {}

  def after_step(self, step, metrics):
    self.losses[step] = float(metrics['loss'][0])


def manager(model, trial=None):
  found = runner_manager.RunnerManager(model_lookup.find_model(model), trial)
  found.MaybeConfigRunLocally()
  return found


def train(model, *more_listeners):
  """Trains in `settings`; returns the runner and {step: loss}."""
  losses = Losses()
  the_manager = manager(
    model, listeners.ObservingTrial([losses, *more_listeners])
  )
  (runner,) = the_manager.CreateRunners(['trainer_client'], FLAGS.logdir)
  the_manager.StartRunners([runner])
  return runner, losses.losses


def checkpoint(logdir, step):
  reader = tf.train.load_checkpoint(f'{logdir}/train/ckpt-{step:08d}')
  return {
    name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()
  }


def in_process(main, argv):
  """Runs a command in this process as if it were alone; returns its status."""
  trainer.preload()  # Flags defined after they are saved would be lost.
  flags_before, cluster_before = set(FLAGS), cluster_factory.Cluster
  with (
    mock.patch.object(py_utils, 'SetEagerMode'),
    mock.patch.object(logging, 'use_absl_handler'),
    flagsaver.flagsaver(),
    # As outside of pytest: what it is given goes where descriptor 2 does.
    open(2, 'w', closefd=False) as stderr,
    contextlib.redirect_stderr(stderr),
  ):
    try:
      return main(argv)
    finally:
      cluster_factory.SetCluster(cluster_before)
      for name in set(FLAGS) - flags_before:
        delattr(FLAGS, name)


def refused(main, argv, capfd):
  """What a refused command says on stdout, and its one line of complaint."""
  assert in_process(main, argv) == 2
  FLAGS.mark_as_parsed()
  out, err = capfd.readouterr()
  assert err.count('\n') == 1, err
  return out, err
