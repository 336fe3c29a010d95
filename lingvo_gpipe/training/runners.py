# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Lingvo's runners, made to run pipelines and to fail at once.

What they do stays Lingvo's; what differs:

- Sessions on CPU have as many devices as the pipeline, see `cpu_devices`.
- A cell's function stays one function: the first step comes much sooner.
- An error ends the run. Lingvo takes InvalidArgument, FailedPrecondition and
  others as temporary and retries them forever, so that a NaN or a tensor
  of the wrong shape looks like a hang.
- The last step is saved.
- With random_seed set, in the task's or the model's Params, initial weights are
  the same in each run; Lingvo has that only where a test seeds the graph.
"""

import functools
import time

import lingvo.compat as tf
from lingvo import runners
from lingvo.core import py_utils, summary_utils
from tensorflow.core.protobuf import rewriter_config_pb2

from lingvo_gpipe import cpu_devices
from lingvo_gpipe.training import (
  checkpoints,
  distributed,
  first_error,
  listeners,
  loss_guard,
  summaries,
)

FLAGS = tf.flags.FLAGS

_INIT_POLL_SECONDS = 0.2


def _random_seed(params):
  """The seed for initial weights that Params ask for, None if they don't."""
  for p in (params, params.task) if 'task' in params else (params,):
    if p.random_seed is not None:
      return p.random_seed
  return None


class PipelineRunner:
  """What all runners share; stands before Lingvo's class among the bases."""

  def _GetSession(self, **kwargs):
    # The first session is made to look at devices, before the model is built.
    self._graph.seed = _random_seed(self.params)
    graph = kwargs.pop('graph', self._graph)
    config = py_utils.SessionConfig(**kwargs)
    # It makes a copy of a cell for each micro-batch that brings a constant, a
    # weight of 1 for instance, and then optimises each of the copies.
    rewrites = config.graph_options.rewrite_options
    rewrites.function_optimization = rewriter_config_pb2.RewriterConfig.OFF
    spec = self._cluster.job_spec
    if FLAGS.cluster_spec and self._tf_master:
      # The devices and threads are those of the servers.
      distributed.restrict_session(config, FLAGS.job, FLAGS.task)
    elif not (spec.gpus_per_replica or spec.tpus_per_replica):
      config = cpu_devices.session_config(spec.cpus_per_replica, config)
    return self._MakeSession(self._tf_master, graph=graph, config=config)

  def _MakeSession(self, *args, **kwargs):
    return first_error.Session(*args, **kwargs)

  def _CreateSummaryWriter(self, log_dir):
    return summaries.SummaryWriter(
      functools.partial(super()._CreateSummaryWriter, log_dir)
    )

  def _CreateCheckpointer(self, train_dir, model):
    return checkpoints.TrainingCheckpointer(train_dir, model)

  def _WaitUntilInit(self, sess=None, start_up_delay_steps=None):
    """Waits for another runner to initialise the variables; returns the step.

    Lingvo sleeps for 30 seconds before it looks.
    """
    while True:
      try:
        step = sess.run(py_utils.GetGlobalStep())
        if step >= (start_up_delay_steps or 0):
          return step
      except tf.errors.FailedPreconditionError:
        pass  # Not yet.
      time.sleep(_INIT_POLL_SECONDS)

  def _RunLoop(self, job_name, loop_func, loop_args=(), cleanup_func=None):
    """Runs the loop of a job once; whatever it raises goes to the caller."""
    del cleanup_func  # What is tidied up before a retry.
    tf.logging.info('%s started.', job_name)
    loop_func(*loop_args)
    tf.logging.info('%s done.', job_name)


class Controller(PipelineRunner, runners.Controller):
  """Lingvo's controller: checkpoints and summaries, beside a trainer."""


class Trainer(PipelineRunner, runners.Trainer):
  """Lingvo's trainer, which no loss that is not finite can harm."""

  def __init__(self, *args, **kwargs):
    self._guard = None
    # A listener may set it, see `LossGuard.session`.
    self.around_step = None
    super().__init__(*args, **kwargs)
    with self._graph.as_default():
      self._guard = loss_guard.LossGuard(self._model, FLAGS.on_nan_loss)
    # Lingvo leaves this to the controller, which need not be there.
    analysis, self.num_weights = summary_utils.ModelAnalysis(
      self._model, FLAGS.inspect_model_topn, FLAGS.inspect_model_part_regex
    )
    if self.params.cluster.task == 0:
      self._WriteToLog(analysis, self._train_dir, 'model_analysis.txt')
    if isinstance(self._trial, listeners.ObservingTrial):
      self._trial.trainer_built(self)

  @property
  def model(self):
    """The model, with its graph."""
    return self._model

  @property
  def uses_servers(self):
    """Whether steps run on TensorFlow's servers, not in this process alone."""
    return bool(self._tf_master)

  @property
  def summary_writer(self):
    """What writes to the train directory for TensorBoard; None if not here."""
    return self._summary_writer

  def _MakeSession(self, *args, **kwargs):
    if self._guard is None:  # To look at the devices; the graph is empty.
      return super()._MakeSession(*args, **kwargs)
    return self._guard.session(self.around_step, *args, **kwargs)
