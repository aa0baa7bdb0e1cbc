"""Presets: named settings of a whole run, which options given beside them override.

Keys are those of `milr generate` (with underscores) or `method.NAME.OPTION`, as `--set` takes them.
"""

from __future__ import annotations

from typing import Any

# The published recipe as its code runs it (arXiv 2509.22761): the log-probability of the most likely token, rewards
# shifted to <= 0, no baseline, latents of the first picture that replace the model's states, bias of Adam and all.
PAPER: dict[str, Any] = {
    "method": "milr",
    "steps": 20,
    "samples": 1,
    "guidance": 5.0,
    "temperature": 1.0,
    "reasoning_temperature": 0.0,
    "keep": "last",
    "method.milr.prefix": "replace",
    "method.milr.action": "argmax",
    "method.milr.baseline": False,
    "method.milr.scale": False,
    "method.milr.offset": -1.0,
    "method.milr.lr": 0.03,
    "method.milr.text_ratio": 0.2,
    "method.milr.image_ratio": 0.02,
    "method.milr.clip": 0.0,
}

PRESETS: dict[str, dict[str, Any]] = {"paper": PAPER}
