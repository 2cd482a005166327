"""nets gradcheck --plot: every case is drawn, and every file is named."""

from pathlib import Path

from matplotlib.image import imread

from nets.commands.gradcheck import main

ROOT = Path(__file__).parents[2]


CONFIGS = sorted(ROOT.glob("configs/*.toml"))


def command(*args):
    main([*map(str, args)])


def test_every_case_is_drawn_and_every_file_is_named(tmp_path, capsys):
    for targets, files in (
        (["Tanh"], ["a.png"]),
        (["Tanh", CONFIGS[-1]], ["b-Tanh.png", "b-two_weight.png"]),
        (["Linear"], ["c.png", "c-2.png"]),
    ):
        command(*targets, "--device", "cpu", "--plot", tmp_path / (files[0][0] + ".png"))
        written = [line for line in capsys.readouterr().out.splitlines() if line.startswith("wrote ")]
        assert written == [f"wrote {tmp_path / file}" for file in files]
        for file in files:
            picture = imread(tmp_path / file)
            assert picture.shape[0] > 300 and picture.std() > 0.05
