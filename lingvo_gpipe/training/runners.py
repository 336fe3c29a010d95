# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Lingvo's runners, made to run pipelines and to fail at once:

- Sessions on CPU have as many devices as the pipeline, see `cpu_devices`.
- An error ends the run. Lingvo retries some forever, as if they were temporary,
  so that a NaN or a tensor of the wrong shape looks like a hang.
- With random_seed set, initial weights are the same in each run.
- Evaler and decoder pass over damaged checkpoints, and look for new ones often.
"""

import functools
import os
import time

import lingvo.compat as tf
from lingvo import base_runner, runners
from lingvo.core import base_model, py_utils, summary_utils
from tensorflow.core.protobuf import rewriter_config_pb2

from lingvo_gpipe import cpu_devices
from lingvo_gpipe.training import (
  checkpoints,
  distributed,
  first_error,
  listeners,
  logs,
  loss_guard,
  summaries,
  user_error,
)

FLAGS = tf.flags.FLAGS

_INIT_POLL_SECONDS = 0.2
_CHECKPOINT_POLL_SECONDS = 1.0


class PipelineRunner(base_runner.BaseRunner):
  """What all runners share; stands before Lingvo's class among the bases."""

  def _GetSession(self, **kwargs):
    params = self.params
    seeds = [params.random_seed]
    if 'task' in params:
      seeds.append(params.task.random_seed)
    # The first session is made to look at devices, before the model is built.
    self._graph.seed = next((s for s in seeds if s is not None), None)
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
    """As Lingvo's, which sleeps for 30 seconds before it looks."""
    while True:
      try:
        step = sess.run(py_utils.GetGlobalStep())
        if step >= (start_up_delay_steps or 0):
          return step
      except tf.errors.FailedPreconditionError:
        pass  # Not initialised yet.
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
  """Lingvo's trainer, which no loss that is not finite can harm.

  A listener may set `around_step`, see `loss_guard.Session`.
  """

  def __init__(self, *args, **kwargs):
    self._steps = None
    self.around_step = None
    super().__init__(*args, **kwargs)
    # The writer is None if this process writes no summaries.
    self.model, self.summary_writer = self._model, self._summary_writer
    self.uses_servers = bool(self._tf_master)  # Or steps run in this process.
    with self._graph.as_default():
      self._steps = loss_guard.gate(self._model)
    # Lingvo leaves this to the controller, which need not be there.
    analysis, self.num_weights = summary_utils.ModelAnalysis(
      self._model, FLAGS.inspect_model_topn, FLAGS.inspect_model_part_regex
    )
    if self.params.cluster.task == 0:
      self._WriteToLog(analysis, self._train_dir, 'model_analysis.txt')
    if isinstance(self._trial, listeners.ObservingTrial):
      self._trial.trainer_built(self)

  def _MakeSession(self, *args, **kwargs):
    if self._steps is None:  # To look at the devices; the graph is empty.
      return super()._MakeSession(*args, **kwargs)
    how = self._model, self._steps, FLAGS.on_nan_loss, self.around_step
    return loss_guard.Session(*how, *args, **kwargs)


class CheckpointFollower:
  """Finds the checkpoints that a job is to run on, while a training writes.

      in the directory    10  20  30, damaged
      the newest          30 can't be read: a warning, then 20
      every one           10, 20; of 30 a warning

  One that was damaged is looked at again once it has been replaced. `processed`
  are paths of those that were done before; the directory may have been moved.
  """

  def __init__(self, directory, processed=(), every=False):
    self._directory = directory
    self._processed = {os.path.basename(path) for path in processed}
    self._every = every  # Or only the newest.
    self._damaged = {}

  @property
  def newest_step(self):
    """Of the newest checkpoint, damaged or not; 0 if there is none."""
    paths = checkpoints.newest_first(self._directory)
    return checkpoints.step_of(paths[0]) if paths else 0

  def next(self):
    """The path to run on now, None if none; UserError if all are damaged."""
    paths = checkpoints.newest_first(self._directory)
    whole = [p for p in paths if self._damaged.get(p, -1) != _written_at(p)]
    if paths and not whole:
      raise user_error.UserError(
        f'Every checkpoint in {self._directory} is damaged; copy a whole one '
        'there, or train again in another --logdir.'
      )
    for path in whole[::-1] if self._every else whole[:1]:
      if os.path.basename(path) not in self._processed:
        self._processed.add(os.path.basename(path))
        return path
    return None

  def leave_out(self, path, problem):
    """The last path can't be read; `problem` says why, without full stop."""
    self._processed.remove(os.path.basename(path))
    self._damaged[path] = _written_at(path)
    # The training may just have removed it.
    if path in checkpoints.newest_first(self._directory):
      otherwise = 'it is left out' if self._every else 'trying an older one'
      logs.warn(f'{problem}; {otherwise}.')


def _written_at(path):
  try:
    return tf.io.gfile.stat(path + '.index').mtime_nsec
  except tf.errors.OpError:
    return None


class EvaluationRunner(PipelineRunner):
  """What evaler and decoder share: they follow a training's checkpoints."""

  def _Follow(self, sess, run, directory, every=False):
    """Runs on checkpoints until that of the last step has had its turn."""
    follower = CheckpointFollower(
      self._train_dir, py_utils.GetProcessedCheckpoints(directory), every
    )
    said = ran = False
    while True:
      path = follower.next()
      if path is None:
        if self._ShouldStop(sess, step=follower.newest_step):
          break
        if not said:
          what = f'waiting for a new checkpoint in {self._train_dir} ...'
          print(f'{self._job_name}: {what}', flush=True)
        said = True
        time.sleep(_CHECKPOINT_POLL_SECONDS)
        continue
      try:
        run(sess, path)
      except checkpoints.DamagedCheckpointError as error:
        follower.leave_out(path, error.problem)
        continue
      py_utils.UpdateProcessedCheckpoints(directory, path)
      said = ran = True
    if not ran:
      logs.warn(
        f'{self._job_name} has already processed the last checkpoint; to '
        f'repeat it, remove {directory}/processed_ckpts.txt.'
      )

  _RunOnLatestCheckpoints = _Follow
  _RunOnAllCheckpoints = functools.partialmethod(_Follow, every=True)


class Evaler(EvaluationRunner, runners.Evaler):
  def __init__(self, *args, **kwargs):
    super().__init__(*args, **kwargs)
    if isinstance(self._trial, listeners.ObservingTrial):
      # Which prints them, whatever --vizier_reporting_job is.
      self._should_report_metrics = True


class Decoder(EvaluationRunner, runners.Decoder):
  """Lingvo's decoder; UserError if the task decodes nothing."""

  def __init__(self, decoder_type, params, *args, **kwargs):
    # Before the graph is built, which may fail at what is missing then.
    none = base_model.BaseTask.CreateDecoderMetrics
    if 'task' in params and params.task.cls.CreateDecoderMetrics is none:
      raise user_error.UserError(
        f'--job=decoder_{decoder_type}: task {params.task.cls.__name__} '
        'decodes nothing, its CreateDecoderMetrics() has no metrics. To '
        'evaluate it: --job=evaler_...'
      )
    super().__init__(decoder_type, params, *args, **kwargs)

  def _ExportMetrics(self, **kwargs):
    # Lingvo tells a trial of the evaler's metrics only.
    if not self._should_report_metrics and 'dec_metrics' in kwargs:
      self._trial.ReportEvalMeasure(
        kwargs['decode_checkpoint'], kwargs['dec_metrics'], ''
      )
    super()._ExportMetrics(**kwargs)
