"""A training whose data and random numbers go on exactly where they stopped, in the middle of a shuffled epoch.

    distckpt run --workers 2 --max-restarts 3 -- python examples/exact_resume.py DIRECTORY

Each worker has iterators and a random generator of its own, and saves them as `worker_state`. Kill a worker
(`kill -9`): the lines that all workers print, step for step, are those of a training that nobody disturbed.
"""

from __future__ import annotations

import sys
from typing import Any

import tensorflow as tf

import distckpt

STEPS = 30
SAVE_EVERY = 4
EXAMPLES = 200  # of which each worker sees its part: an epoch has 12.5 steps
BATCH = 16
SHUFFLE = 50


def example(number: Any) -> tuple[Any, Any, Any]:
    features = tf.random.stateless_normal([8], seed=tf.stack([number, 1]))
    return number, features, tf.reduce_sum(features) ** 2


def batches(context: Any) -> Any:
    """This worker's part of the data, as `strategy.distribute_datasets_from_function` would ask for it; shuffled anew
    in each epoch.
    """
    numbers = tf.data.Dataset.range(EXAMPLES).shard(context.num_input_pipelines, context.input_pipeline_id)
    shuffled = numbers.shuffle(SHUFFLE, seed=7).repeat()
    return shuffled.map(example, num_parallel_calls=2).batch(context.get_per_replica_batch_size(BATCH)).prefetch(2)


def main(directory: str) -> None:
    tf.config.experimental.enable_op_determinism()
    tf.random.set_seed(7)
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    worker, workers = strategy.cluster_resolver.task_id or 0, strategy.num_replicas_in_sync  # one replica each
    with strategy.scope():
        weights = tf.Variable(tf.random.stateless_normal([8, 1], seed=[1, 2]))
        step = tf.Variable(0, dtype=tf.int64)

    # Of each worker's own. TensorFlow cannot save the iterator of a distributed dataset: this one is in its place.
    iterator = iter(batches(tf.distribute.InputContext(workers, worker, strategy.num_replicas_in_sync)))
    replay = iter(tf.data.Dataset.range(EXAMPLES).shuffle(SHUFFLE, seed=worker).repeat().map(example).batch(2))
    rng = tf.random.Generator.from_seed(worker)
    worker_state = tf.train.Checkpoint(iterator=iterator, replay=replay, rng=rng)

    def gradient(batch: Any, mixed_in: Any, noise: Any) -> Any:
        with tf.GradientTape() as tape:
            features = tf.concat([batch[1] + noise, mixed_in[1]], axis=0)
            targets = tf.concat([batch[2], mixed_in[2]], axis=0)
            loss = tf.reduce_mean((tf.square(features) @ weights - targets[:, tf.newaxis]) ** 2) / workers
        gradients = tape.gradient(loss, [weights])
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, [loss, *gradients])

    @tf.function
    def train(batch: Any, mixed_in: Any, noise: Any) -> Any:
        loss, change = strategy.run(gradient, args=(batch, mixed_in, noise))
        strategy.extended.update(weights, lambda value, by: value.assign_sub(0.001 * by), args=(change,))
        step.assign_add(1)
        return loss

    checkpoint = tf.train.Checkpoint(weights=weights, step=step)
    with distckpt.CheckpointManager(
        checkpoint,
        directory,
        max_to_keep=3,
        strategy=strategy,
        save_policy=distckpt.EverySteps(SAVE_EVERY),
        async_save=True,
        worker_state=worker_state,
    ) as manager:
        manager.restore_or_initialize()
        sys.stdout.write(f"worker {worker}: {int(step.numpy())} of {STEPS} steps are done\n")
        for number in range(int(step.numpy()) + 1, STEPS + 1):
            batch, mixed_in, noise = next(iterator), next(replay), rng.normal([8])
            loss = train(batch, mixed_in, noise)
            manager.step_end(number)
            seen = f"{batch[0].numpy().tolist()} and {mixed_in[0].numpy().tolist()}, noise {float(noise[0])!r}"
            sys.stdout.write(f"worker {worker}, step {number}: examples {seen}, loss {float(loss)!r}\n")
            sys.stdout.flush()
        manager.save(checkpoint_number=STEPS)


if __name__ == "__main__":
    main(sys.argv[1])
