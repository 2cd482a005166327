"""Data sets, data augmentation and batches.

| module | holds |
|---|---|
| `datasets` | `Dataset`, and the data sets that a config names: `load(config)`, `shapes(config)` |
| `cifar` | CIFAR-10 and CIFAR-100: the published archives, their checksums, a safe reader, the download |
| `images` | `decode`: one image file to bytes |
| `tree` | `scan`: the files of an image tree, one folder per class; `FileList` |
| `folder` | an image tree held in memory, with a cache file |
| `stream` | an image tree that is decoded while the net trains: `ImageStream` |
| `decoder` | what the worker processes of a stream do; how many there are; the time spent waiting for them |
| `sampler` | `epoch_plan`: the order and the random augmentation of one epoch |
| `augment` | crop, flip, normalize, resize, cutout, color jitter, random resized crop |
| `selection` | `Selection`: easy samples skip an epoch |
| `tta` | test-time augmentation: `predict_tta`, ten-crop |

A function that takes `config` reads the `[data]` table of a config, `nets.training.config.Data`.
This module imports nothing, so `import nets.data` is free.
"""
