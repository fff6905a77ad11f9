"""Which layers stay in float: the harm is what it is said to be, and a refusal says what would do."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import fx

from lightseg.errors import ParityError
from lightseg.export.graph import ops
from lightseg.export.graph.edit import op_of
from lightseg.export.graph.quantised import FakeQuantise
from lightseg.export.quantization import selection
from lightseg.export.quantization.plan import Photographs, Wish
from lightseg.export.quantization.quantise import convolutions, quantise, with_feeders
from lightseg.export.quantization.recipe import recipe_for
from lightseg.export.quantization.scheme import Scheme
from lightseg.export.quantization.selection import MEANINGFUL, Mix, Search, by_harm, fewest_floats, harms, macs
from lightseg.export.quantization.simulation import wavering
from lightseg.export.rewrites import by_rows, rewrite
from tests.export.graph_builder import Builder
from tests.export.quantization.made import photographs
from tests.export.subjects import graph_of, images, reference

MIX = Mix(("a",), 0.7, 0.5, fits=True)


def recipe(scheme: Scheme) -> tuple[fx.GraphModule, dict[str, FakeQuantise], torch.Tensor]:
    x = images("sinet").float()
    even, found = recipe_for(graph_of("sinet"), [x], scheme)
    return even, {name: found.grid(name, scheme) for name in found.grids}, x


@pytest.mark.parametrize("outputs", [False, True])
def test_the_harm_of_a_layer_is_the_error_of_the_graph_with_it_alone_in_int8(outputs: bool) -> None:
    scheme = Scheme(outputs=outputs)
    even, grids, x = recipe(scheme)
    found = harms(even, grids, scheme, [x])
    names = convolutions(even)
    assert set(found) == set(names)
    exact = copy.deepcopy(even).float()(x)
    for name in names[:: len(names) // 3]:
        others = [other for other in names if other != name]
        alone = quantise(even, grids, scheme, others).float()(x)
        assert found[name] == pytest.approx(float(((alone - exact) ** 2).mean()), rel=1e-3)


def test_work_is_counted_and_a_little_harm_for_much_work_is_taken_first() -> None:
    scheme = Scheme()
    even, grids, x = recipe(scheme)
    work, harm = macs(even, tuple(x.shape)), harms(even, grids, scheme, [x])
    conv = next(n for n in even.graph.nodes if type(op_of(even, n)) is ops.Conv)
    weight = even.get_submodule(str(conv.target)).weight
    assert isinstance(weight, torch.Tensor)
    assert work[conv.name] == weight.numel() * x.shape[2] // 2 * x.shape[3] // 2
    order = by_harm(even, grids, scheme, [x])
    ratios = [harm[name] / work[name] for name in order]
    assert ratios == sorted(ratios, reverse=True)


def test_large_images_are_thinned_out_to_sizes_a_network_takes() -> None:
    assert selection._thinned(torch.zeros(1, 3, 512, 1024)).shape == (1, 3, 128, 256)
    assert selection._thinned(torch.zeros(1, 512, 1024, 3, dtype=torch.uint8)).shape == (1, 128, 256, 3)
    assert selection._thinned(torch.zeros(1, 3, 224, 320)).shape == (1, 3, 224, 320)


@pytest.mark.parametrize(("size", "kept"), [((256, 256), 1), ((64, 64), 4)])
def test_a_graph_tied_to_its_width_takes_one_whole_image_for_the_thinned_ones(size: tuple[int, int], kept: int) -> None:
    graph = graph_of("sinet")
    many = [torch.zeros(1, 3, *size)] * 4
    assert [i.shape for i in selection._affordable(graph, many)] == [selection._thinned(i).shape for i in many]
    graph.meta["input_shape"] = (1, 3, *size)
    rewrite(graph, (by_rows,))
    assert [i.shape for i in selection._affordable(graph, many)] == [many[0].shape] * kept


@pytest.mark.parametrize("limit", [0.5, -1.0])
def test_where_little_is_left_the_search_tells_which_mix_would_do(
    limit: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss is one point per int8 convolution: half a point leaves none of them."""
    scheme = Scheme()
    even, grids, x = recipe(scheme)
    names = convolutions(even)
    monkeypatch.setattr(selection, "by_harm", lambda *_: names)
    search = fewest_floats(
        even, grids, scheme, [x], lambda g: float(len(names) - len(convolutions(g))), limit
    )  # fmt: skip
    assert search.whole.loss == len(names) and search.found.share == 0 and search.least is not None
    assert search.least.share >= MEANINGFUL and search.least.loss == len(names) - len(search.least.floats)
    with pytest.raises(ParityError, match=r"not one int8 convolution keeps the loss .* --max-drop \d+\.?\d*, or"):
        search.check(limit, 0.8)


def test_the_refusal_names_the_loss_and_a_drop_that_leaves_room() -> None:
    Search(MIX, MIX).check(1.0, 0.8)
    found = Search(Mix((), 35.21, 1.0), Mix(("a", "b"), 0.7, 0.04), Mix(("a",), 4.0, 0.12))
    with pytest.raises(ParityError) as caught:
        found.check(1.0, 0.8)
    said = str(caught.value)
    assert "\n" not in said and "only 4.0 % of the multiply-accumulates" in said
    assert "int8 throughout loses 35.2" in said and "12 % in eight bits lose 4.0: --max-drop 5," in said


@pytest.mark.parametrize(
    ("task", "asked", "kept"), [("street", None, 1.0), ("street", 3.0, 3.0), ("portrait", None, None)]
)
def test_street_networks_are_searched_unasked(task: str, asked: float | None, kept: float | None) -> None:
    known = Photographs.__new__(Photographs)
    known.searched = task == "street"
    assert known.max_drop(Wish(photographs(), max_drop=asked)) == kept
    assert reference("sinet").model.spec.task == "portrait"


def test_a_float_convolution_between_two_int8_ones_takes_the_one_before_it_along() -> None:
    b = Builder((1, 8, 8, 8))
    first = b.call(b.conv(8, 8), b.image)
    second = b.call(b.conv(8, 8), first)
    graph = b.finish(b.call(b.conv(8, 2), second))
    one, two, three = convolutions(graph)
    assert with_feeders(graph, [two]) == (two, one)
    assert with_feeders(graph, [one]) == (one,) and with_feeders(graph, [three]) == (three,)
    assert with_feeders(graph, [two, three]) == (two, three)


def test_a_mix_that_is_not_sound_does_not_count() -> None:
    scheme = Scheme()
    even, grids, x = recipe(scheme)
    enough = len(convolutions(even)) // 2
    search = fewest_floats(even, grids, scheme, [x], lambda g: 0.0, 1.0, (), lambda g: len(convolutions(g)) >= enough)
    assert search.found.fits and len(search.found.floats) == enough and not search.whole.fits


def test_what_rounding_alone_moves_is_told_from_what_it_does_not() -> None:
    scheme = Scheme()
    even, grids, x = recipe(scheme)
    labels = reference("sinet").model.spec.labels
    moved = wavering(quantise(even, grids, scheme).float(), [x], labels)
    assert 0 <= moved < 0.5 and wavering(copy.deepcopy(even).float(), [x], labels) == 0
