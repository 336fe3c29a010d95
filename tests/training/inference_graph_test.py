# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0

import subprocess
import sys

import lingvo.compat as tf
import local_training
import numpy as np

FLAGS = tf.flags.FLAGS

# Loads a graph and a checkpoint with TensorFlow alone.
_PLAIN = """
import sys
sys.modules['lingvo'] = sys.modules['lingvo_gpipe'] = None
import numpy as np
import tensorflow.compat.v1 as tf
from google.protobuf import text_format
graph_file, checkpoint, inputs, outputs = sys.argv[1:]
graph_def = tf.GraphDef()
text_format.Parse(open(graph_file).read(), graph_def)
with tf.Graph().as_default(), tf.Session() as session:
  tf.import_graph_def(graph_def, name='')
  assert len(session.list_devices()) == 1
  session.run('save/restore_all', {'save/Const:0': checkpoint})
  result = session.run(
    'inference/Softmax:0', {'inference/images:0': np.load(inputs)}
  )
np.save(outputs, result)
"""


def _expected(checkpoint, images):
  """What the stand-in model computes, in NumPy."""
  read = tf.train.load_checkpoint(checkpoint).get_tensor
  x = images.reshape(len(images), 64)
  prefix = 'small/pipeline/'
  x = np.maximum(
    x @ read(f'{prefix}first/w/var') + read(f'{prefix}first/b/var'), 0
  )
  x = x @ read(f'{prefix}last/w/var') + read(f'{prefix}last/b/var')
  x = np.exp(x - x.max(axis=1, keepdims=True))
  return x / x.sum(axis=1, keepdims=True)


def test_plain_tensorflow_gives_the_same_outputs(local_run, capsys):
  FLAGS.max_steps = 2
  local_training.train('stand_in_pipeline.Small')
  checkpoint = tf.train.latest_checkpoint(local_run / 'train')

  FLAGS.graph_def_filename = [str(local_run / 'graph.pbtxt')]
  capsys.readouterr()
  local_training.manager('stand_in_pipeline.Small').WriteInferenceGraph()
  directory = local_run / 'inference_graphs'
  assert capsys.readouterr().out == (
    f'Inference graph: {directory}/inference.pbtxt\n'
    f'Inference graph: {directory}/inference_tpu.pbtxt\n'
    f'Inference graph: {local_run}/graph.pbtxt\n'
  )
  # A number of images that does not divide into micro-batches.
  images = np.random.RandomState(1).rand(7, 8, 8, 1).astype(np.float32)
  np.save(local_run / 'images.npy', images)
  files = [local_run / f'{name}.npy' for name in ('images', 'out')]
  command = [sys.executable, '-c', _PLAIN, local_run / 'graph.pbtxt']
  subprocess.run([*command, checkpoint, *files], check=True)
  result = np.load(local_run / 'out.npy')
  np.testing.assert_allclose(
    result, _expected(checkpoint, images), rtol=1e-5, atol=1e-6
  )
