"""Rewards: what scores a picture, how scores compose, and how a failing critic is kept from hurting the run.

contract.py     Reward and Score: what a plugin implements
composition.py  several critics as one
cache.py        a critic that remembers
loading.py      from names to critics
"""

from milr.rewards.cache import CachedReward
from milr.rewards.composition import Combine, Composite, Part, Scale
from milr.rewards.contract import (
    Memory,
    Reward,
    Score,
    check_prompt,
    image_hash,
    kin_of,
    one_line,
    score_safely,
    settle_safely,
    total_cost,
)
from milr.rewards.loading import Named, load_reward, parse_gates, parse_reward, parse_scale, parse_settings

__all__ = [
    "CachedReward",
    "Combine",
    "Composite",
    "Memory",
    "Named",
    "Part",
    "Reward",
    "Scale",
    "Score",
    "check_prompt",
    "image_hash",
    "kin_of",
    "load_reward",
    "one_line",
    "parse_gates",
    "parse_reward",
    "parse_scale",
    "parse_settings",
    "score_safely",
    "settle_safely",
    "total_cost",
]
