"""Tools around training.

survive.py       kills and resumes runs, and compares their results
soak.py          does memory grow in a long run?
stream_bench.py  the speed of streaming, by the number of workers
enlarge.py       makes a tree of larger images
"""
