"""The callback for `fit`, of tf_keras and of Keras 3. Imports neither of them; imports TensorFlow."""

from distckpt.keras.callback import DistributedCheckpoint

__all__ = ["DistributedCheckpoint"]
