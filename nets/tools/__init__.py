"""Tools around training.

every_kill.py    kills a run after every call that changes a file, and resumes it
survive.py       kills and resumes runs, and compares their results
soak.py          does memory grow in a long run?
stream_bench.py  the speed of streaming, by the number of workers
enlarge.py       makes a tree of larger images
"""
