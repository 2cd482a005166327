"""From a config to a trained net: configs, the step, the loop, metrics, logs and checkpoints.

In reading order:

    config.py      the sections of a config, and its errors
    toml.py        reads and writes TOML
    renamed.py     old names of keys, refused with the new ones
    validate.py    rules about several keys, the data and the net
    build.py       a config's list of layers as a net
    make.py        a config's net, loss and optimizer
    step.py        the train step as one function of tensors
    guard.py       a step that isn't finite changes nothing
    learn.py       the step of a run: metrics, skipped samples, CUDA graph
    cuda_graph.py  captures a function once for each shape, then replays it
    feed.py        an epoch's batches on the device
    samples.py     tensors, Datasets, DataLoaders and image trees as a data set
    loader.py      batches from a DataLoader, in a reproducible order
    metrics.py     running means of training, and the metrics of a test
    evaluate.py    a net's outputs for many samples
    run.py         a run: everything above, with its hooks and its folder
    loop.py        epochs of steps
    hooks/         log, evaluation, checkpoints, signals, guard, CUDA graphs, time
    checkpoint.py  the state of a run, saved and loaded
    log.py         metrics.jsonl and times.jsonl
    result.py      result.json
    lock.py        one process at a time uses a run's folder
    signals.py     signals that stop a run between two steps
    world.py       the processes of a run; here one
    predict.py     a finished run, to test and to classify images
    pretrained.py  a torchvision model, to classify images
"""
