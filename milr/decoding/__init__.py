"""Decoding of reasoning and pictures from a frozen unified model."""

from milr.decoding.rollout import Proposal, Rollout, Sampling
from milr.decoding.rollouts import Request, decode_rollouts

__all__ = ["Proposal", "Request", "Rollout", "Sampling", "decode_rollouts"]
