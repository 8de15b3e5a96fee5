from __future__ import annotations

import copy
import itertools
import warnings

import pytest
import torch
from pytorch_samples import component

from parity.agents.errors import ActionError, ConfigError, IgnoredTokensWarning
from parity.agents.interface import Feature
from parity.agents.pytorch.actions import ActionTable
from parity.agents.pytorch.features import FeatureTable
from parity.agents.pytorch.layers import ActionEmbedding, ActionHead, Normalizer, TokensToBox
from parity.agents.pytorch.stages import ValidConv2d


def box_by_loop(tokens: torch.Tensor, layers: int, width: int, height: int, remap: list[int]) -> torch.Tensor:
    box = torch.zeros(len(tokens), layers, width, height, dtype=torch.float64)
    for row, token in itertools.product(range(len(tokens)), range(tokens.shape[1])):
        place, feature, value = tokens[row, token].tolist()
        x, y, layer = place // 16, place % 16, remap[feature]
        if place != 0xFF and x < width and y < height and layer < layers:
            box[row, layer, x, y] = max(box[row, layer, x, y].item(), value)
    return box


@pytest.mark.parametrize(("layers", "width", "height"), [(25, 11, 11), (3, 5, 2), (1, 1, 1), (255, 16, 16)])
@pytest.mark.parametrize("remapped", [False, True])
def test_box_equals_the_loop_on_any_bytes(layers: int, width: int, height: int, remapped: bool) -> None:
    generator = torch.Generator().manual_seed(layers)
    tokens = torch.randint(0, 256, (6, 300, 3), generator=generator).to(torch.uint8)
    tokens[0, :, 0] = 0  # duplicates in one cell
    tokens[1, :, :2] = 0
    tokens[2, :, 0] = 0xFF
    tokens[3, :, 1] %= layers
    remap = torch.randperm(256, generator=generator).tolist() if remapped else list(range(256))
    box = TokensToBox(layers, width, height, dtype=torch.float64)
    box.set_feature_remap(remap)
    before = tokens.clone()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IgnoredTokensWarning)
        assert torch.equal(box(tokens), box_by_loop(tokens, layers, width, height, remap))
    assert torch.equal(tokens, before)


def plain_box(layers: int, width: int, height: int) -> TokensToBox:
    """A box that takes ids as they are."""
    box = TokensToBox(layers, width, height, dtype=torch.float32)
    box.set_feature_remap(range(256))
    return box


@pytest.mark.parametrize("token", [(0x20, 0, 9), (0x02, 0, 9), (0x00, 3, 9), (0xFE, 0, 9), (0x00, 255, 0)])
def test_box_warns_once_of_ignored_tokens(token: tuple[int, int, int]) -> None:
    box = plain_box(3, 2, 2)
    tokens = torch.tensor([[[0x11, 2, 7], token]], dtype=torch.uint8)
    with pytest.warns(IgnoredTokensWarning, match=r"2 x 2 box.*feature id of 3 or more"):
        first = box(tokens)
    assert first.count_nonzero() == 1 and first[0, 2, 1, 1] == 7
    assert torch.equal(box(tokens), first)  # a second warning would be an error here


def test_box_takes_padding_silently_whatever_its_other_numbers_are() -> None:
    tokens = torch.tensor([[[0xFF, 0, 0], [0xFF, 255, 255], [0xFF, 1, 3]]], dtype=torch.uint8)
    assert not plain_box(2, 16, 16)(tokens).any()


def test_box_follows_the_policy_dtype() -> None:
    assert plain_box(1, 1, 1).double()(torch.zeros(1, 1, 3).byte()).dtype == torch.float64


def test_normalizer_divides_each_layer_and_keeps_the_others() -> None:
    normalizer = Normalizer(3, dtype=torch.float64)
    normalizer.set_normalizations({0: 3.0, 2: 255.0, 7: 9.0})
    normalizer.set_normalizations({0: 10.0})
    box = torch.full((2, 3, 1, 1), 7.0, dtype=torch.float64)
    assert normalizer(box).flatten(1).tolist() == [[7.0 / 10.0, 7.0, 7.0 / 255.0]] * 2


@pytest.mark.parametrize(("kernel", "stride"), [(4, 1), (4, 3), (3, 2)])
def test_convolution_over_the_whole_map_equals_the_general_one(kernel: int, stride: int) -> None:
    torch.manual_seed(0)
    fast = ValidConv2d(3, 5, kernel, stride=stride, dtype=torch.float64)
    image = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    expected = torch.nn.functional.conv2d(image, fast.weight, fast.bias, stride)
    torch.testing.assert_close(fast(image), expected, rtol=1e-12, atol=1e-12)
    grads = [torch.autograd.grad(out.sin().sum(), [image, *fast.parameters()]) for out in (fast(image), expected)]
    torch.testing.assert_close(*grads, rtol=1e-12, atol=1e-12)


def test_action_head_equals_the_loop_over_rows_and_actions() -> None:
    head = ActionHead(component("_action_"), 4, 3, seed=1, dtype=torch.float64)
    hidden, rows = torch.randn(5, 4, dtype=torch.float64), torch.randn(6, 3, dtype=torch.float64)
    logits = head(hidden, rows)
    for n, a in itertools.product(range(5), range(6)):
        query = [torch.stack([hidden[n, i] * head.W[i, e] for i in range(4)]).sum().tanh() for e in range(3)]
        expected = sum(query[e] * rows[a, e] for e in range(3)) + head.bias[0]
        torch.testing.assert_close(logits[n, a], expected, rtol=1e-12, atol=1e-12)


def test_action_embedding_keeps_each_names_row() -> None:
    table = ActionEmbedding(
        component("_action_embeds_", sizes={"num_embeddings": 4, "embedding_dim": 2}), seed=1, dtype=torch.float32
    )
    table.activate(["a_0", "b_0"])
    assert torch.equal(table(), table.weight[[0, 1]])
    table.activate(["c_0", "b_0", "a_0"])
    assert torch.equal(table(), table.weight[[2, 1, 0]])
    with pytest.raises(ActionError, match=r"a\.yaml: component '_action_embeds_': .*'e_0', number 5.*is 4, raise it"):
        table.activate(["d_0", "e_0"])
    assert torch.equal(table(), table.weight[[2, 1, 0]])
    table.activate(["e_0"])  # the refused activation took no row
    assert torch.equal(table(), table.weight[[3]])


@pytest.mark.parametrize("max_args", [[8, 0, 1, 3, 0, 0, 0], [0], [4], [0, 0, 5], [2, 7, 1]])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.int8, torch.uint16])
def test_action_conversion_is_a_bijection(max_args: list[int], dtype: torch.dtype) -> None:
    table = ActionTable()
    table.activate(max_args)
    pairs = [[kind, arg] for kind, largest in enumerate(max_args) for arg in range(largest + 1)]
    actions, indices = torch.tensor(pairs).to(dtype), torch.arange(len(pairs))
    for kind, arg in pairs:
        offset = ([0, *itertools.accumulate(max_args)])[kind]
        assert table.to_logit(torch.tensor([kind, arg])) == kind + offset + arg
    assert torch.equal(table.to_logit(actions), indices)
    assert torch.equal(table.to_action(indices.to(dtype)), torch.tensor(pairs, dtype=torch.int32))
    assert table.to_action(indices).dtype == torch.int32
    assert table.to_logit(actions.expand(2, 3, -1, -1)).shape == (2, 3, len(pairs))
    assert table.to_action(indices.expand(2, -1)).shape == (2, len(pairs), 2)


@pytest.mark.parametrize("action", [[0, 3], [1, 1], [2, 2], [3, 0], [-1, 0], [0, -1]])
def test_illegal_actions_are_named(action: list[int]) -> None:
    table = ActionTable()
    table.activate([2, 0, 1])
    with pytest.raises(ActionError, match=rf"action \[{action[0]}, {action[1]}\] is illegal.*\[2, 0, 1\]"):
        table.to_logit(torch.tensor([[0, 0], action]))


@pytest.mark.parametrize("index", [-1, 6])
def test_illegal_indices_are_named(index: int) -> None:
    table = ActionTable()
    table.activate([2, 0, 1])
    with pytest.raises(ActionError, match=rf"logit index {index} is illegal; there are 6 logits"):
        table.to_action(torch.tensor([0, index]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bool])
def test_conversions_refuse_what_is_not_integer(dtype: torch.dtype) -> None:
    table = ActionTable()
    table.activate([2])
    with pytest.raises(ActionError, match=rf"actions are {dtype} of shape \[1, 2\]"):
        table.to_logit(torch.zeros(1, 2, dtype=dtype))
    with pytest.raises(ActionError, match=rf"logit indices are {dtype}; give integers"):
        table.to_action(torch.zeros(1, dtype=dtype))
    with pytest.raises(ActionError, match=r"shape \[3\]; give integers of shape \[\.\.\., 2\]"):
        table.to_logit(torch.zeros(3, dtype=torch.int64))


@pytest.mark.parametrize(
    ("names", "max_args", "message"),
    [
        ([], [], "non-empty and without repetition"),
        (["a", "a"], [0, 0], "non-empty and without repetition"),
        (["a"], [0, 1], r"1 action names but 2 maxima \[0, 1\]"),
        (["a"], [-1], "largest argument of action 'a' is -1"),
    ],
)
def test_malformed_action_spaces_are_refused(names: list[str], max_args: list[int], message: str) -> None:
    with pytest.raises(ActionError, match=message):
        ActionTable.full_names(names, max_args)


def test_first_activation_is_the_identity() -> None:
    table = FeatureTable()
    remap, normalizations = table.activate({"a": Feature(4, 2.0), "b": Feature(1)}, learn=False)
    assert remap == list(range(256))
    assert normalizations == {4: 2.0, 1: 1.0}
    assert table.stored == {"a": 4, "b": 1}


@pytest.mark.parametrize(
    ("learn", "mapped", "stored"),
    [
        (False, {9: 4, 1: 255, 4: 255}, {"a": 4, "b": 1}),
        (True, {9: 4, 1: 0, 4: 2, 7: 7}, {"a": 4, "b": 1, "new": 0, "newer": 2, "newest": 7}),
    ],
)
def test_later_activations_remap_by_name(learn: bool, mapped: dict[int, int], stored: dict[str, int]) -> None:
    table = FeatureTable()
    table.activate({"a": Feature(4), "b": Feature(1)}, learn=True)
    later = {"a": Feature(9, 5.0), "new": Feature(1, 6.0), "newer": Feature(4, 7.0), "newest": Feature(7, 8.0)}
    remap, normalizations = table.activate(later, learn=learn)
    assert remap == [mapped.get(number, 255) for number in range(256)]
    assert normalizations == ({4: 5.0, 0: 6.0, 2: 7.0, 7: 8.0} if learn else {4: 5.0})
    assert table.stored == stored


def test_restored_mapping_makes_the_next_activation_a_later_one() -> None:
    table = FeatureTable()
    table.restore({"a": 3})
    remap, _ = table.activate({"a": Feature(0), "b": Feature(3)}, learn=False)
    assert (remap[0], remap[3], remap[1]) == (3, 255, 255)
    table.restore({})
    assert table.activate({"b": Feature(3)}, learn=False)[0] == list(range(256))


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"a": Feature(255)}, "feature 'a' has id 255; ids are whole numbers in 0..254"),
        ({"a": Feature(1), "b": Feature(1)}, "features 'a' and 'b' share id 1"),
        ({"a": Feature(1, 0.0)}, "feature 'a' has normalization 0.0"),
        ({"a": Feature(1, -1.0)}, "feature 'a' has normalization -1.0"),
        ({"a": Feature(1, float("nan"))}, "feature 'a' has normalization nan"),
    ],
)
def test_illegal_features_change_nothing(features: dict[str, Feature], message: str) -> None:
    table = FeatureTable()
    table.activate({"old": Feature(0)}, learn=True)
    before = copy.deepcopy(table.stored)
    with pytest.raises(ConfigError, match=message):
        table.activate(features, learn=True)
    assert table.stored == before


def test_learning_beyond_the_last_id_is_refused() -> None:
    table = FeatureTable()
    table.restore({f"f{number}": number for number in range(255)})
    with pytest.raises(ConfigError, match="no id is left for the new feature 'extra'"):
        table.activate({"extra": Feature(3)}, learn=True)
