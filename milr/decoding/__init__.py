"""Decoding of reasoning and pictures from a frozen unified model."""

from milr.decoding.describe import describe
from milr.decoding.engine import Engine
from milr.decoding.rollout import Drawn, Proposal, Request, Rollout, Sampling, Undeveloped, Written

__all__ = ["Drawn", "Engine", "Proposal", "Request", "Rollout", "Sampling", "Undeveloped", "Written", "describe"]
