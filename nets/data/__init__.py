"""Data sets, data augmentation and batches.

datasets   `Dataset`, and the data sets that a config names: `load`, `shapes`
cifar      CIFAR-10 and CIFAR-100: the published archives, their checksums, a safe reader, the download
digest     digests of a data set's samples and labels
validation a share of the training samples is held out
images     `decode`: one image file to bytes
tree       `scan`: the files of an image tree, one folder per class; `FileList`
left_out   `LeftOut`: what of an image tree is not read, by reason
folder     an image tree held in memory, with a cache file
stream     an image tree that is decoded while the net trains: `ImageStream`
decoder    what a stream's worker processes do, how many there are, the time spent waiting for them
sampler    `epoch_plan`: the order and the random augmentation of an epoch
augment    crop, flip, normalize, resize, cutout, color jitter, random resized crop
selection  `Selection`: a part of the easy samples skips an epoch
tta        test-time augmentation: `predict_tta`, ten-crop

The parameter `config` is the [data] table of a config, `nets.training.config.Data`.
"""
