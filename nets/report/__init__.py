"""Reports: figures, curves, the terminal plot and tables of text.

tables.py       aligned tables and short numbers
curves.py       the curves in a run's log
figure.py       a run's figures: its curves, and images with their five best guesses
text.py         fonts for any script, names cut to a width
run_figures.py  draws a run's figures after its result
braille.py      curves in a terminal
progress.py     how far a run is, and its result
watch.py        shows a run while it trains
summary.py      a net's layers in a table
differences.py  the figure of a gradient check
bench.py        the figures of a benchmark
"""
