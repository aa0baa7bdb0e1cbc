"""Loading a checkpoint folder or hub id into the backend that fits its architecture, with errors one can act on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoTokenizer, JanusForConditionalGeneration
from transformers.utils.hub import cached_file

from milr.errors import ModelError, UsageError
from milr.hub import hub_or_cache
from milr.models.base import ModelFacts, UnifiedModel
from milr.models.eyes import Preprocessing
from milr.models.janus import Janus, Templates
from milr.models.weights import Precision
from milr.quiet import quiet

_FACTS_IN_FILE = (
    "guidance",
    "temperature",
    "reasoning_temperature",
    "max_reasoning_tokens",
    "text_ratio",
    "image_ratio",
    "default_reward",
    "licence",
    "reads_tokens",
)


def resolve_device(device: str) -> torch.device:
    """The torch device of a name; "auto" takes the fastest that is there.

    Raises:
        UsageError: there is no such device here.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        if resolved.type not in ("cpu", "cuda", "mps"):
            raise RuntimeError
        torch.empty(1, device=resolved)
    except (RuntimeError, AssertionError):
        there = ["cpu"] + [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        there += ["mps"] if torch.backends.mps.is_available() else []
        raise UsageError(f"there is no device {device!r} here; available: {', '.join(there)}.") from None
    return resolved


def resolve_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The torch dtype of a name; "auto" is exact on the CPU and fast elsewhere.

    Raises:
        UsageError: not a floating dtype.
    """
    if dtype == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype not in known:
        raise UsageError(f"unknown dtype {dtype!r}; available: auto, {', '.join(known)}.")
    return known[dtype]


def load_from(
    source: str,
    device: str,
    dtype: str,
    revision: str | None,
    name: str | None = None,
    quantize: Precision | None = None,
) -> UnifiedModel:
    """The frozen model of a folder or hub id; arguments and errors as in `milr.models.load_model`."""
    target = resolve_device(device)
    precision = resolve_dtype(dtype, target)
    where = source
    if is_folder(source):
        path = Path(source).expanduser()
        if not (path / "config.json").exists():
            raise ModelError(f"the folder {source!r} has no config.json; it does not hold a checkpoint.")
        where = str(path)
    elif source.startswith((".", "/", "~")):
        raise ModelError(f"there is no folder {source[:200]!r}.")
    with _readable_errors(where), quiet():
        config = AutoConfig.from_pretrained(where, revision=revision)
    if config.model_type != "janus":
        raise ModelError(f"{source!r} is a {config.model_type!r} model; milr runs 'janus' models (Janus, Janus-Pro).")
    with _readable_errors(where), quiet():
        network, report = JanusForConditionalGeneration.from_pretrained(
            where, revision=revision, dtype=precision, output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(where, revision=revision)
        extra = _read_json(where, "milr.json", revision)
        processor = _read_json(where, "preprocessor_config.json", revision)
        processor = processor or _read_json(where, "processor_config.json", revision).get("image_processor", {})
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise ModelError(f"the weights in {source!r} lack {len(missing)} tensors, {missing[0]!r} among them.")
    with _readable_errors(where):
        name = name or extra.get("name") or Path(source).name
        return _janus(network.to(target), tokenizer, extra, processor, name, quantize)


def is_folder(source: str) -> bool:
    """Whether a source names a folder here.

    Raises:
        ModelError: it names a file.
    """
    try:
        path = Path(source).expanduser()
        if path.is_file():
            raise ModelError(f"{source!r} is a file; give the folder that holds config.json and the weights.")
        return path.is_dir()
    except (RuntimeError, ValueError, OSError):  # an unknown home, a NUL, a name that is too long
        return False


def _janus(
    network: Any,
    tokenizer: Any,
    extra: dict[str, Any],
    processor: dict[str, Any],
    name: str,
    quantize: Precision | None,
) -> Janus:
    config = network.config
    side = config.vq_config.num_patches
    defaults = Templates()
    facts = ModelFacts(
        name=name,
        hidden_size=config.text_config.hidden_size,
        image_tokens=side * side,
        text_vocabulary=config.text_config.vocab_size,
        image_vocabulary=config.vq_config.num_embeddings,
        grid=(side, side),
        resolution=config.vision_config.image_size,
        context_length=config.text_config.max_position_embeddings,
        **{key: extra[key] for key in _FACTS_IN_FILE if key in extra},
    )
    templates = Templates(
        reasoning=extra.get("reasoning_prompt", defaults.reasoning),
        image=extra.get("image_prompt", defaults.image),
        direct=extra.get("direct_prompt", defaults.direct),
        # A checkpoint with conventions of its own reads only if it says how.
        question=extra.get("question_prompt", None if extra else defaults.question),
        describe=extra.get("describe_prompt", None if extra else defaults.describe),
    )
    stops = frozenset(tokenizer.convert_tokens_to_ids(token) for token in extra.get("reasoning_stop", []))
    if stops & {None, tokenizer.unk_token_id}:
        raise ModelError(f"milr.json of {name!r} names a reasoning_stop that its tokenizer does not know.")
    return Janus(network, tokenizer, facts, templates, stops, Preprocessing.from_config(processor), quantize)


def _read_json(source: str, name: str, revision: str | None) -> dict[str, Any]:
    """A JSON file of a checkpoint; empty when the checkpoint has none."""
    path = cached_file(
        source,
        name,
        revision=revision,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return json.loads(Path(path).read_text("utf-8")) if path else {}


@contextmanager
def _readable_errors(source: str) -> Iterator[None]:
    """Turns what transformers raises over a bad checkpoint, or one that it cannot fetch, into one line."""
    try:
        with nullcontext() if Path(source).is_dir() else hub_or_cache():
            yield
    except ModelError:
        raise
    except ConnectionError as error:
        raise ModelError(
            f"cannot load {source!r}: {error}. Fetch it where there is a network, and give its folder: --model FOLDER."
        ) from error
    except (SafetensorError, EOFError) as error:
        raise ModelError(f"the weights in {source!r} are truncated or damaged: {error}.") from error
    except json.JSONDecodeError as error:
        raise ModelError(f"a JSON file in {source!r} is damaged: {error}.") from error
    except HFValidationError:
        raise ModelError(f"{source!r} is neither a folder nor a hub id.") from None
    except torch.OutOfMemoryError:
        raise ModelError(f"{source!r} does not fit on the device; choose another --device or --dtype.") from None
    except Exception as error:  # transformers and its libraries refuse in many ways; each means a bad checkpoint
        reason = " ".join(str(error).split())[:200] or "no reason given"
        raise ModelError(f"cannot load {source!r}: {type(error).__name__}: {reason}") from error
