"""The critic `judge` as its tests ask it: what for, and what a server may say."""

from __future__ import annotations

from PIL import Image

from milr.prompts import Prompt
from milr_rewards.judge import Judge
from tests.rewards.endpoint_server import EndpointServer, says

KEY = "sk-canary-5b1c90d7f3a2"
RED, BLUE = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
DOGS = Prompt("two dogs")
FLOWER = Prompt("the flower of Mother's Day", metadata={"Explanation": "a carnation"})
YES, NO = says('{"reason": "two dogs", "answer": "yes"}'), says('{"reason": "one dog", "answer": "no"}')


def judge(server: EndpointServer, preset: str = "gpt-4o-binary", **options: object) -> Judge:
    """A judge that never sleeps."""
    made = Judge(url=server.url, address=preset, **options)
    made._endpoint.sleep = lambda _: None
    return made
