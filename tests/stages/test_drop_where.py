"""drop_where: true drops, false keeps, and null is never decided silently."""

from __future__ import annotations

import pytest

from shardprep.core.outcome import Dropped, Failed, Kept
from shardprep.core.reads import Column
from shardprep.core.sample import Sample
from shardprep.errors import RecipeError
from shardprep.stages.drop_where import DropWhere
from tests.stages.model_stages import run

SAMPLES = [
    Sample("slow", {"scores": {"flow": 0.1}, "media": {"seconds": 4.0}}),
    Sample("quick", {"scores": {"flow": 3.0}, "media": {"seconds": 5.0}}),
    Sample("unknown", {"media": {"seconds": 6.0}}),
]


def test_true_drops_and_false_keeps():
    outcomes = run(DropWhere(expression="scores.flow < 0.5 AND media.seconds > 2"), SAMPLES[:2])
    assert [type(outcome) for outcome in outcomes] == [Dropped, Kept]
    assert (outcomes[0].reason, outcomes[0].detail) == ("where", "scores.flow < 0.5 AND media.seconds > 2")
    assert outcomes[1].sample is SAMPLES[1]


@pytest.mark.parametrize(("null", "kind"), [("keep", Kept), ("drop", Dropped), ("fail", Failed)])
def test_null_is_what_the_setting_says(null, kind):
    outcomes = run(DropWhere(expression="scores.flow < 0.5", null=null), SAMPLES)
    assert [type(outcome) for outcome in outcomes] == [Dropped, Kept, kind]
    if kind is not Kept:
        assert outcomes[2].reason == "null-in-expression"
        assert "no scores.flow" in outcomes[2].detail


def test_by_default_null_is_a_failure():
    assert isinstance(run(DropWhere(expression="scores.flow < 0.5"), SAMPLES)[2], Failed)


def test_null_can_be_asked_for_in_the_expression():
    outcomes = run(DropWhere(expression="scores.flow IS NULL"), SAMPLES)
    assert [type(outcome) for outcome in outcomes] == [Kept, Kept, Dropped]


def test_what_it_reads_is_what_the_expression_names():
    stage = DropWhere(expression="scores.flow < 0.5 OR media.seconds < 2")
    assert stage.reads == (Column(("scores", "flow")), Column(("media", "seconds")))
    assert stage.accepts == ()


@pytest.mark.parametrize("expression", ["scores.flow <", "read_csv('/etc/passwd') IS NULL", "1; DROP TABLE x"])
def test_a_wrong_or_hostile_expression_is_refused_before_anything_runs(expression):
    with pytest.raises(RecipeError):
        DropWhere(expression=expression)
