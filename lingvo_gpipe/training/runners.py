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
from lingvo.core import base_model, py_utils, summary_utils
from tensorflow.core.protobuf import rewriter_config_pb2

from lingvo_gpipe import cpu_devices
from lingvo_gpipe.training import (
  checkpoint_files,
  checkpoint_follower,
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
      distributed.session_config(config, FLAGS.job, FLAGS.task)
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


class EvaluationRunner(PipelineRunner):
  """What evaler and decoder share: they follow a training's checkpoints.

  Lingvo waits up to five minutes before it looks for the next one, and fails
  at one that is damaged.
  """

  def _RunOnLatestCheckpoints(self, sess=None, runner_fn=None, runner_dir=None):
    self._Follow(sess, runner_fn, runner_dir, every=False)

  def _RunOnAllCheckpoints(self, sess=None, runner_fn=None, runner_dir=None):
    self._Follow(sess, runner_fn, runner_dir, every=True)

  def _Follow(self, sess, run, directory, *, every):
    """Runs on checkpoints until that of the last step has had its turn.

    Args:
      sess: A `tf.Session`.
      run: A function of the session and a checkpoint's path.
      directory: The job's own directory, which knows what has been done.
      every: Whether to run on all checkpoints, or on the newest ones only.

    Raises:
      UserError: if all checkpoints are damaged.
    """
    follower = checkpoint_follower.CheckpointFollower(
      self._train_dir, py_utils.GetProcessedCheckpoints(directory), every
    )
    waited = ran = False
    while True:
      path = follower.next()
      if path is not None:
        try:
          run(sess, path)
        except checkpoints.DamagedCheckpointError as error:
          follower.leave_out(path, error.problem)
          continue
        py_utils.UpdateProcessedCheckpoints(directory, path)
        follower.done(path)
        ran = True
      elif self._ShouldStop(sess, step=follower.newest_step):
        break
      else:
        if not (waited or ran):
          print(
            f'{self._job_name}: waiting for a new checkpoint in '
            f'{self._train_dir} ...',
            flush=True,
          )
        waited = True
        time.sleep(_CHECKPOINT_POLL_SECONDS)
    if not ran:
      logs.warn(
        f'{self._job_name} has already processed the last checkpoint; to '
        f'repeat it, remove {directory}/processed_ckpts.txt.'
      )

  def _SayIfLeftOut(self, path, first, name):
    """Says if Lingvo leaves a checkpoint out for its step.

    Args:
      path: The checkpoint's path.
      first: The first step that is not left out.
      name: The Param that says so.
    """
    if checkpoint_files.step_of(path) < first:
      print(
        f'{self._job_name}: {path} is left out: {name}={first}.', flush=True
      )


class Evaler(EvaluationRunner, runners.Evaler):
  """Lingvo's evaler."""

  def __init__(self, *args, **kwargs):
    super().__init__(*args, **kwargs)
    if isinstance(self._trial, listeners.ObservingTrial):
      # Which prints them, whatever --vizier_reporting_job is.
      self._should_report_metrics = True

  def _EvalOnce(self, sess, path):
    first = self._task.params.eval.start_eval_after
    self._SayIfLeftOut(path, first, 'task.eval.start_eval_after')
    super()._EvalOnce(sess, path)


class Decoder(EvaluationRunner, runners.Decoder):
  """Lingvo's decoder.

  Raises:
    UserError: if the task decodes nothing.
  """

  def __init__(self, decoder_type, params, *args, **kwargs):
    # Before the graph is built, which may fail at what is missing then.
    none = base_model.BaseTask.CreateDecoderMetrics
    if 'task' in params and params.task.cls.CreateDecoderMetrics is none:
      raise _decodes_nothing(params.task.cls, f'decoder_{decoder_type}')
    super().__init__(decoder_type, params, *args, **kwargs)

  def DecodeCheckpoint(self, sess, checkpoint_path):
    """Decodes as Lingvo does; says so if there is nothing to decode."""
    if not self._task.CreateDecoderMetrics():
      raise _decodes_nothing(type(self._task), self._job_name)
    first = self._task.params.eval.start_decoder_after
    self._SayIfLeftOut(checkpoint_path, first, 'task.eval.start_decoder_after')
    super().DecodeCheckpoint(sess, checkpoint_path)

  def _ExportMetrics(self, **kwargs):
    # Lingvo tells a trial of the evaler's metrics only.
    if not self._should_report_metrics and 'dec_metrics' in kwargs:
      self._trial.ReportEvalMeasure(
        kwargs['decode_checkpoint'], kwargs['dec_metrics'], ''
      )
    super()._ExportMetrics(**kwargs)


def _decodes_nothing(task, job):
  return user_error.UserError(
    f'--job={job}: task {task.__name__} decodes nothing, its '
    'CreateDecoderMetrics() has no metrics. To evaluate it: --job=evaler_...'
  )
