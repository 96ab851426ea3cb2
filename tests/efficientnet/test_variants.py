"""The scaling rules and tables against the rows of the published networks."""

import pytest

from efficientnet import variants

# Stem and head channels, then (repeats, out channels) of the seven stages.
PUBLISHED = {
    "efficientnet-b0": (
        (32, 1280),
        [(1, 16), (2, 24), (2, 40), (3, 80), (3, 112), (4, 192), (1, 320)],
    ),
    "efficientnet-b3": (
        (40, 1536),
        [(2, 24), (3, 32), (3, 48), (5, 96), (5, 136), (6, 232), (2, 384)],
    ),
    "efficientnet-b7": (
        (64, 2560),
        [(4, 32), (7, 48), (7, 80), (10, 160), (10, 224), (13, 384), (4, 640)],
    ),
    "efficientnet-l1": (
        (128, 4992),
        [(4, 64), (8, 96), (8, 160), (12, 312), (12, 440), (15, 752), (4, 1248)],
    ),
    "efficientnet-l2": (
        (136, 5504),
        [(6, 72), (11, 104), (11, 176), (16, 344), (16, 480), (22, 824), (6, 1376)],
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_rounded_channels_and_repeats_are_the_published_ones(name):
    ends, stages = PUBLISHED[name]
    variant = variants.get_variant(name)
    assert ends == tuple(
        variants.round_filters(channels, variant.width)
        for channels in (variants.STEM_CHANNELS, variants.HEAD_CHANNELS)
    )
    assert stages == [
        (
            variants.round_repeats(stage.repeats, variant.depth),
            variants.round_filters(stage.channels, variant.width),
        )
        for stage in variants.STAGES
    ]


@pytest.mark.parametrize(
    ("filters", "width", "expected"),
    [
        (32, 0.1, 8),  # Never below 8.
        (11, 1.0, 16),  # 8 would lose more than a tenth of 11.
        (20, 1.0, 24),  # Halfway between 16 and 24 goes up.
        (19, 1.0, 24),  # 16 is nearer, but loses more than a tenth.
        (17, 1.0, 16),
        (33, 1.0, 32),
    ],
)
def test_round_filters_at_the_edges_of_its_rule(filters, width, expected):
    assert variants.round_filters(filters, width) == expected


@pytest.mark.parametrize(
    ("name", "resolution", "dropout_rate"),
    [
        ("efficientnet-b0", 224, 0.2),
        ("efficientnet-b1", 240, 0.2),
        ("efficientnet-b2", 260, 0.3),
        ("efficientnet-b3", 300, 0.3),
        ("efficientnet-b4", 380, 0.4),
        ("efficientnet-b5", 456, 0.4),
        ("efficientnet-b6", 528, 0.5),
        ("efficientnet-b7", 600, 0.5),
        ("efficientnet-b8", 672, 0.5),
        ("efficientnet-l2", 800, 0.5),
    ],
)
def test_resolution_and_dropout_are_the_published_ones(name, resolution, dropout_rate):
    variant = variants.get_variant(name)
    assert (variant.resolution, variant.dropout_rate) == (resolution, dropout_rate)


def test_unknown_variant_error_names_value_choices_and_nearest():
    with pytest.raises(ValueError, match="`variant`: expected") as caught:
        variants.get_variant("EfficientNet-B7")
    message = str(caught.value)
    assert "received 'EfficientNet-B7'" in message
    assert "expected one of efficientnet-b0, efficientnet-b1" in message
    with pytest.raises(ValueError, match=r"Did you mean efficientnet-b\d"):
        variants.get_variant("efficientnet-b77")
    with pytest.raises(ValueError, match=r"Did you mean efficientnet-l2"):
        variants.get_variant("efficientnet-l-2")


def test_unknown_variant_without_a_near_one_gets_no_hint():
    with pytest.raises(ValueError, match="received 'zzz'") as caught:
        variants.get_variant("zzz")
    assert "Did you mean" not in str(caught.value)


def test_small_image_stages_differ_in_the_strides_of_stages_2_and_3_only():
    small = variants.small_image_stages()
    assert [stage.stride for stage in small] == [1, 1, 1, 2, 1, 2, 1]
    assert [stage.stride for stage in variants.STAGES] == [1, 2, 2, 2, 1, 2, 1]
    shapes = [(s.repeats, s.kernel, s.expand, s.channels) for s in small]
    assert shapes == [(s.repeats, s.kernel, s.expand, s.channels) for s in variants.STAGES]
