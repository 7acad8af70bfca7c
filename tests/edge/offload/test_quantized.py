import numpy as np
import pytest

from lkd.edge.offload.quantized import BITS, pack, quantized, unpack


def features(*shape):
    return np.random.default_rng(0).normal(0, 2, shape).astype(np.float32)


def test_32_bits_are_the_tensor_itself():
    x = features(3, 4, 5)
    restored, size = quantized(x, 32)
    np.testing.assert_array_equal(restored, x)
    assert size == 4 * x.size


def test_16_bits_are_half_floats():
    x = features(3, 4, 5)
    restored, size = quantized(x, 16)
    np.testing.assert_array_equal(restored, x.astype(np.float16).astype(np.float32))
    assert size == 2 * x.size


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_levels_against_a_formula(bits, axis):
    x = features(3, 5, 7)
    restored, size = quantized(x, bits, axis)
    others = None if axis is None else tuple(i for i in range(3) if i != axis % 3)
    low, high = (f(x, axis=others, keepdims=True).astype(np.float64) for f in (np.min, np.max))
    step = (high - low) / (2**bits - 1)
    expected = low + np.rint((x - low) / step) * step
    np.testing.assert_allclose(restored, expected, rtol=0, atol=1e-6)
    assert np.abs(restored - x).max() <= step.max() / 2 + 1e-6
    ranges = 1 if axis is None else x.shape[axis]
    assert size == 8 * ranges + -(-x.size * bits // 8)


def test_fewer_bits_cost_less_and_err_more():
    x = features(4, 9, 9)
    found = [quantized(x, bits) for bits in BITS]
    sizes = [size for _, size in found]
    errors = [float(np.square(restored - x).mean()) for restored, _ in found]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == len(BITS)
    assert errors == sorted(errors) and len(set(errors)) == len(BITS)


def test_a_range_a_channel_serves_channels_of_other_sizes():
    x = features(2, 6, 6)
    x[0] *= 100
    one, each = (quantized(x, 4, axis)[0] for axis in (None, 0))
    assert np.abs(each[1] - x[1]).max() < 0.1 * np.abs(one[1] - x[1]).max()


@pytest.mark.parametrize("bits", BITS)
def test_a_constant_comes_back_exactly(bits):
    np.testing.assert_array_equal(quantized(np.full((2, 3), 0.5, np.float32), bits)[0], 0.5)


def test_a_range_as_wide_as_float32():
    x = np.array([-3e38, 3e38], np.float32)
    np.testing.assert_allclose(quantized(x, 8)[0], x, rtol=1e-6)


@pytest.mark.parametrize("bits", [4, 2])
def test_the_last_byte_may_be_part_full(bits):
    x = np.array([0, 1, 2**bits - 1], np.float32)
    message = pack(x, bits)
    np.testing.assert_allclose(unpack(message, (3,), bits), x, atol=1e-6)


def test_integers_and_strides_are_taken():
    x = np.arange(24).reshape(4, 6).T[::2]
    np.testing.assert_allclose(quantized(x, 8)[0], x, atol=0.05)


@pytest.mark.parametrize(
    ("x", "bits", "message"),
    [
        (np.ones(3), 3, "bits=3 must be 32, 16, 8, 4 or 2"),
        (np.ones((0, 3)), 8, r"a tensor of shape \(0, 3\) is empty"),
        (np.array([1.0, np.nan]), 8, "NaN or infinity"),
        (np.array([1.0, np.inf]), 32, "NaN or infinity"),
        (np.array([1.0, 7e4]), 16, "reaches 7e\\+04, and 16 bits end at 65504"),
    ],
)
def test_refuses_what_no_level_stands_for(x, bits, message):
    with pytest.raises(ValueError, match=message):
        quantized(x, bits)
