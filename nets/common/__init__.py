"""What every other folder uses. It imports no other folder.

In reading order:

    errors.py      errors that a command prints in one line, with their exit codes
    extras.py      optional dependencies
    device.py      devices: selection, names, memory, random states
    ranges.py      ranges of settings, for configs and calls
    files.py       files that are written completely or not at all
    tensorfile.py  tensors and metadata in a safetensors file, with a checksum
"""
