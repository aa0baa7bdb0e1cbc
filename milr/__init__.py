"""milr improves the images of a frozen unified model by searching its latents at test time.

    model = milr.load_model("mini")
    result = milr.refine(model, "a photo of a red apple left of a dog")
    result.image.save("apple.png")

Each public name is imported when it is first used, so that `import milr` is quick and needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from milr.api import Result, refine
    from milr.errors import (
        MilrError,
        ModelError,
        PromptError,
        ResumeError,
        RunError,
        UnknownNameError,
        UsageError,
    )
    from milr.models import load_model
    from milr.prompts import Prompt
    from milr.rewards import Reward, Score, load_reward

__version__ = "0.1.0"

__all__ = [
    "MilrError",
    "ModelError",
    "Prompt",
    "PromptError",
    "Result",
    "ResumeError",
    "Reward",
    "RunError",
    "Score",
    "UnknownNameError",
    "UsageError",
    "__version__",
    "load_model",
    "load_reward",
    "refine",
]

_HOMES = {
    "Prompt": "milr.prompts",
    "Result": "milr.api",
    "Reward": "milr.rewards",
    "Score": "milr.rewards",
    "load_model": "milr.models",
    "load_reward": "milr.rewards",
    "refine": "milr.api",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'milr' has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "milr.errors")), name)


def __dir__() -> list[str]:
    return sorted(__all__)
