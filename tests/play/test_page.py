"""The page in a browser: its controls, its address, its code, its looks and its speed."""

import contextlib
import io
import json
import statistics

import pytest
import torch

from nets.play.weights import read
from tests.play.engine import SCENES, scene, settle, wait_until


def address(tab) -> dict:
    tab.evaluate("play.write()")
    return dict(part.split("=") for part in tab.evaluate("location.hash.slice(1)").split("&"))


def test_tabs_and_keys_choose_a_scene_and_run_it(tab):
    page = tab()
    titles = [link.inner_text() for link in page.query_selector_all("nav a .long-title")]
    for key, title in zip("1234", titles):
        page.keyboard.press(key)
        assert page.inner_text("h2") == title
    page.click(f"nav a:has-text('{titles[1]}')")
    page.keyboard.press("s")
    settle(page)
    assert scene(page, "smallest", "scene.trainer.passes") == 1
    page.keyboard.press(" ")
    wait_until(page, "play.scenes[1].trainer.passes > 5")
    page.keyboard.press(" ")
    assert not scene(page, "smallest", "scene.running")
    page.keyboard.press("n")
    settle(page)
    assert scene(page, "smallest", "scene.trainer.passes") == 0


def test_everything_can_be_reached_with_the_keyboard(tab):
    page = tab("scene=neuron")
    page.locator("input[type=range]").first.focus()
    page.keyboard.press("ArrowRight")
    settle(page)
    assert scene(page, "neuron", "scene.weights[0]") == pytest.approx(1.05)
    page.locator("[role=radio]").first.focus()
    page.keyboard.press("ArrowRight")
    settle(page)
    assert scene(page, "neuron", "scene.asWeight")
    page = tab("scene=digits")
    page.click("button:has-text('Clear')")
    page.locator(".pad").focus()
    for key in ("ArrowUp", "Enter", "ArrowLeft", "Enter"):
        page.keyboard.press(key)
    assert scene(page, "digits", "scene.levels.filter((v) => v).length") == 2


def test_a_finger_draws_and_a_bar_shows_its_gradient(tab):
    page = tab("scene=digits", 390, 844)
    page.click("button:has-text('Clear')")
    box = page.locator(".pad").bounding_box()
    finger, x = page.context.new_cdp_session(page), box["x"] + box["width"] / 2
    for k in range(12):
        y = box["y"] + box["height"] * (0.15 + 0.06 * k)
        touch = {"type": "touchMove" if k else "touchStart", "touchPoints": [{"x": x, "y": y}]}
        finger.send("Input.dispatchTouchEvent", touch)
    finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    settle(page)
    assert page.locator(".bars .name").first.inner_text() == "1"
    page.locator(".bars button").first.click()
    wait_until(page, "play.scenes[3].shown <= 0")
    assert scene(page, "digits", "scene.found.slopes.length") == len(read().net)


def test_training_on_the_drawing_moves_the_bars(tab):
    page = tab("scene=digits&is=8")
    before = scene(page, "digits", "scene.compute().p[8]")
    page.click("button:has-text('Train 10 steps')")
    assert scene(page, "digits", "scene.compute().p[8]") > max(0.5, before)
    page.click("button:has-text('Trained weights')")
    assert scene(page, "digits", "scene.compute().p[8]") == before


def test_dragging_on_the_map_moves_the_weights(tab):
    page = tab("scene=smallest")
    page.locator(".map").scroll_into_view_if_needed()
    box = page.locator(".map").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + box["height"] * 0.25, steps=4)
    page.mouse.up()
    w1, _, w2, _ = scene(page, "smallest", "scene.weights")
    assert (w1, w2) == pytest.approx((5, 5), abs=0.2)


def test_a_net_of_ones_own_is_loaded_and_a_wrong_file_is_refused(tab, tmp_path):
    page = tab("scene=digits")
    wrong, own = tmp_path / "wrong.json", tmp_path / "own.json"
    wrong.write_text('{"format": 1, "layers": [{"type": "GELU", "tensors": {}}]}')
    tensors = {"weight": {"shape": [2, 12], "float32": "AACAPw" + "A" * 122}}  # 1, 0, 0, …
    layers = [
        {"type": "Flatten", "options": {}, "tensors": {}},
        {"type": "Linear", "options": {}, "tensors": tensors},
    ]
    about = {
        "format": 1,
        "name": "mine",
        "classes": ["a", "b"],
        "shape": [3, 2, 2],
        "mean": [0] * 3,
        "std": [1] * 3,
    }
    own.write_text(json.dumps(about | {"layers": layers}))
    page.set_input_files("[type=file]", str(wrong))
    page.wait_for_selector("text=this page has no layer GELU")
    page.set_input_files("[type=file]", str(own))
    page.wait_for_selector("text=This is “mine”.")
    settle(page)
    assert page.locator(".bars .name").all_inner_texts() == ["a", "b"]


STATES = [
    "scene=neuron&w=-1,0.5&t=-0.25&x=01&form=weight",
    "scene=smallest&task=repeat&w=0.1,0.2,-0.3,0.4&n=12&rule=adaptive&rate=0.5&speed=10&sample=0",
    "scene=smallest&task=hill&w=-1,0,1,0&n=3&rule=every&rate=1.5&speed=1&sample=4",
    "scene=cross&d=00011011&w=1,2,3,4,5,6,7,8,9,0.1,0.2,0.3&n=7&links=1&rate=2&speed=1&sample=3&stage=8&wide=5&deep=7",
    "scene=digits&px=" + "0123456789abcdefg" * 3 + "0" * 13 + "&bar=4&is=7&rate=0.05&steps=2",
]


@pytest.mark.parametrize("state", STATES, ids=lambda s: s.split("&")[0].removeprefix("scene="))
def test_the_address_holds_the_state(tab, state):
    page = tab(state + "&theme=dark")
    settle(page)
    wanted = dict(part.split("=") for part in state.split("&"))
    assert address(page) == wanted | {"theme": "dark"}


@pytest.mark.deep
@pytest.mark.parametrize("name", SCENES)
def test_an_address_with_nonsense_opens_the_scene(tab, name):
    page = tab(
        f"scene={name}&w=1,x&t=&rate=-3&n=1e99&px=zz&bar=99&is=-4&steps=x&sample=77&stage=-1&task=no&d=2"
    )
    settle(page)
    assert page.locator("h2").count() == 1


def run(code: str) -> str:
    dtype, out = torch.get_default_dtype(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            exec(compile(code, "<the page's code>", "exec"), {"__name__": "__main__"})
    finally:
        torch.set_default_dtype(dtype)
    return out.getvalue()


@pytest.mark.deep
@pytest.mark.parametrize("state", ["w=-1,-1&t=-1.5", "w=1,1&t=0.5&x=11"])
def test_the_neurons_code_prints_its_table(tab, state):
    page = tab(f"scene=neuron&{state}")
    table = scene(
        page,
        "neuron",
        "play.modules.neuron.POINTS.map((x) => play.modules.neuron.fires(scene.weights, scene.threshold, x))",
    )
    assert run(scene(page, "neuron", "scene.code()")) == f"{table}\n"


@pytest.mark.deep
@pytest.mark.parametrize("rule, rate", [("fixed", 5), ("adaptive", 0.5), ("every", 1)])
@pytest.mark.parametrize("task", ["repeat", "hill"])
def test_the_smallest_nets_code_prints_what_is_shown(tab, task, rule, rate):
    page = tab(f"scene=smallest&task={task}&rule={rule}&rate={rate}")
    p, gradient = scene(
        page, "smallest", "Object.values(play.modules.chain.slopes(scene.weights, scene.task.samples))"
    )
    code = scene(page, "smallest", "scene.code()")
    scene(
        page,
        "smallest",
        "(() => { while (scene.trainer.solvedAt === null && scene.trainer.passes < 2000) scene.step(); })()",
    )
    passes = scene(page, "smallest", "scene.trainer.solvedAt")
    printed = run(code).splitlines()
    w1, t1, w2, t2 = gradient
    wanted = [p, w1, -t1, w2, -t2] if task == "repeat" else [p, w1, w2]
    assert [float(line.split()[1]) for line in printed[: len(wanted)]] == pytest.approx(wanted, rel=1e-12)
    assert printed[len(wanted) :] == [f"right after {passes} passes"]


@pytest.mark.deep
@pytest.mark.parametrize("links", [1, 0])
def test_the_cross_nets_code_prints_what_is_shown(tab, links):
    page = tab(f"scene=cross&d=00011011&links={links}")
    p = scene(page, "cross", "play.modules.cross.crossPass(scene.weights, scene.wanted, scene.links).p")
    code = scene(page, "cross", "scene.code()")
    scene(page, "cross", "(() => { while (scene.solvedAt === null) scene.step(); })()")
    printed = run(code).splitlines()
    assert float(printed[0].split()[1]) == pytest.approx(p, rel=1e-12)
    assert printed[1:] == [f"right after {scene(page, 'cross', 'scene.solvedAt')} passes"]


@pytest.mark.deep
@pytest.mark.parametrize("state", ["", "&is=8&steps=5&rate=0.05"], ids=["trained", "trained on the drawing"])
def test_the_digits_code_prints_the_five_bars(tab, state):
    page = tab("scene=digits" + state)
    settle(page)
    names = page.locator(".bars .name").all_inner_texts()
    shares = [float(t.rstrip("%")) for t in page.locator(".bars .share").all_inner_texts()]
    printed = [line.split() for line in run(scene(page, "digits", "scene.code()")).splitlines()]
    assert [name for name, _ in printed] == names
    assert [100 * float(share) for _, share in printed] == pytest.approx(shares, abs=0.06)


@pytest.mark.deep
@pytest.mark.parametrize("name", ["smallest", "cross"])
def test_a_frame_of_training_takes_less_than_a_sixtieth_second(tab, name):
    """The work of a frame, of which other programs can only make some longer: the lower quartile."""
    page = tab(f"scene={name}&rate=0.05")
    page.keyboard.press(" ")
    wait_until(page, "play.frames.count > 60")
    work = page.evaluate("play.frames.work")
    assert statistics.quantiles(work, n=4)[0] < 1000 / 60
