"""The try of a transformers detection class: optimal matching, the class's own loss, and a toy run that reports."""

from __future__ import annotations

import itertools
import json

import pytest
import torch
from click.testing import CliRunner
from transformers import RTDetrConfig
from transformers.loss.loss_rt_detr import RTDetrLoss

from milr_benchmarks.scenes.sprites import drawn_sprites
from milr_benchmarks.scenes.transformers_detector import Truth, box_and_class_loss, draw, main, matched, overlaps
from milr_benchmarks.scenes.world import Painter


def test_the_matching_is_the_cheapest_that_uses_no_query_twice() -> None:
    generator = torch.Generator().manual_seed(0)
    present = torch.tensor([[True, True, True], [True, True, False]])
    none = torch.zeros(2, 3, dtype=torch.long)
    truth = Truth(present, none, none, 0.2 + 0.02 * torch.rand(2, 3, 4, generator=generator))  # all want the same query
    boxes = 0.2 + 0.1 * torch.rand(2, 1, 6, 4, generator=generator)
    chosen = matched(torch.zeros(2, 1, 6, 1), boxes, truth)[:, 0]
    for row, things in enumerate(present.sum(1).tolist()):
        one, other = boxes[row, 0, :, None], truth.box[row, None, :things]
        cost = 5 * (one - other).abs().sum(-1) - 2 * overlaps(one, other)[1]
        every = {match: cost[list(match), range(things)].sum() for match in itertools.permutations(range(6), things)}
        assert tuple(chosen[row, :things].tolist()) == min(every, key=lambda match: every[match])


def test_a_box_overlaps_itself_and_nothing_beside_it() -> None:
    box = torch.tensor([[0.25, 0.5, 0.5, 1.0], [0.75, 0.5, 0.5, 1.0]])
    assert torch.stack(overlaps(box, box[:1])).tolist() == [[1, 0], [1, 0]]  # side by side: no hull beyond the union


def test_the_loss_of_matched_queries_is_the_loss_of_the_class() -> None:
    pytest.importorskip("scipy")
    painter, generator = Painter(drawn_sprites(), "cpu"), torch.Generator().manual_seed(0)
    classes = len(painter.classes)
    criterion = RTDetrLoss(RTDetrConfig(num_labels=classes))
    _, truth = draw(painter, 8, generator)
    logits, boxes = torch.randn(8, 1, 30, classes, generator=generator), torch.rand(8, 1, 30, 4, generator=generator)
    labels = [
        {"class_labels": label[here], "boxes": box[here]}
        for here, label, box in zip(truth.present, truth.label, truth.box, strict=True)
    ]
    theirs = criterion({"logits": logits[:, 0], "pred_boxes": boxes[:, 0]}, labels)
    ours = box_and_class_loss(logits, boxes, matched(logits, boxes, truth), truth)
    assert ours.item() == pytest.approx(sum(term.item() for term in theirs.values()), rel=1e-4)


def test_a_toy_run_prints_one_line_of_figures() -> None:
    result = CliRunner().invoke(main, ["--toy", "--seconds", "1", "--device", "cpu"], catch_exceptions=False)
    line = json.loads(result.stdout)
    assert line["class"] == "RTDetrForObjectDetection"
    assert line["steps"] == line["on the way"][-1]["steps"] > 0
    assert {"single_object", "counting", "mean"} <= line["accuracy"].keys()
