"""T2I-CompBench: 300 prompts in each of eight categories, and a scorer for each kind.

Huang et al., arXiv 2307.06350; 3d_spatial and numeracy came with T2I-CompBench++. Two means are in use, and they do not
compare: that of six categories, MILR's, and that of the three attributes. So each has its name, and none is called
overall; a mean whose categories are not all there is not reported.

Layout, as the official scorers read it: color/samples/PROMPT_000000.png. They take the prompt from the name, up to the
first "_", and the number behind the last one counts on through the category: ten pictures a prompt are 0 to 9, 10 to
19, ... Only so does `3_in_1.py` add up scores of the same prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from glob import escape
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from milr.errors import PromptError
from milr.evaluation.contract import Benchmark, Figure, Role, Roles, Source, SourceFile
from milr.prompts import Prompt

from .official import at, official_file, tags_of, text_lines, whole

if TYPE_CHECKING:
    from milr.models.base import ModelFacts

TAGS = ("color", "shape", "texture", "spatial", "3d_spatial", "numeracy", "non_spatial", "complex")
ATTRIBUTES = ("color", "shape", "texture")
SIX = (*ATTRIBUTES, "spatial", "non_spatial", "complex")
LONGEST_NAME = 200  # bytes of a file's name that are the prompt

# By file: which scores count for the complex prompts that it lists.
COMPLEX_LISTS = {
    "complex_val_spatial.txt": ("attributes", "space"),
    "complex_val_action.txt": ("attributes", "action"),
    "complex_val_spatialaction.txt": ("attributes", "space", "action"),
}


def _file(name: str, sha256: str, size: int) -> SourceFile:
    return SourceFile(name, f"examples/dataset/{name}", sha256, size)


class T2ICompBench(Benchmark):
    """T2I-CompBench's prompts and layout; one critic sends each picture to the scorer of its category."""

    name = "t2i-compbench"
    description = "300 prompts in each of 8 categories: attributes, places, numbers, actions; a scorer for each kind"
    licence = "MIT"
    source = Source(
        "Karine-Huang/T2I-CompBench",
        "1b7094991a57f3c22abdd4f6e8ba6c1a15517073",
        "MIT",
        (
            _file("color_val.txt", "1634259756dbc77d13093d907d414480080ec9790a8c97ad09efaea7b2534f2d", 11871),
            _file("shape_val.txt", "37e1a276906c7ea9516cbd7ac8501be896006c0c17ca7344f260562834455bae", 15935),
            _file("texture_val.txt", "fbb5363515b4a28009e360afaaaf389d2dd2289e50dbb0c6ef4ea0c7fe4f3d4f", 14211),
            _file("spatial_val.txt", "8707a1d7e42ce3002d95363cf55f74bd043c843ae27108f5125aaaa7840ca988", 9213),
            _file("3d_spatial_val.txt", "c9953597315f36a5fcb41291bb19bdc6ab5f64a0fa760d691b4854a73f5d1fe9", 7851),
            _file("numeracy_val.txt", "dad8df141604b70ba7554bec724e3db0a80023680769b5c514854ea2d2527bbe", 10863),
            _file("non_spatial_val.txt", "04c56cc9ac441dc9ea6c5157652058bd1635b5308526dd31bb29a1caab9a758d", 17750),
            _file("complex_val.txt", "1b808018b8d9916db3d47d5aa2ef18377a3549a56901a474156f799824cdf3b4", 22724),
            _file("complex_val_spatial.txt", "6c7ac0ab75c7c9080cfc7b421fb059b9b0febb98471707aeedf58771088abc02", 2898),
            _file("complex_val_action.txt", "d49ee4c7f99e3f3379fb8704a54ff5288b83bb412971edf616a4721c2473308e", 17698),
            _file(
                "complex_val_spatialaction.txt",
                "e02ddc7fed812e6577e7386ec2137ce0a994a5ce19771661f68df7ac349a6ca9",
                2128,
            ),
        ),
    )
    categories = TAGS
    images_per_prompt = 10
    figures = (
        Figure("six categories", whole(SIX)),
        Figure("attributes", whole(ATTRIBUTES)),
        Figure("eight categories", whole(TAGS)),
    )
    paper_targets = dict.fromkeys((*ATTRIBUTES, "spatial"), 0.9) | {"non_spatial": 0.35, "complex": 0.4}

    def load(self, path: Path | None = None, categories: Sequence[str] = ()) -> list[Prompt]:
        """The prompts; only files of these categories are read. Those of "complex" know which scores count: `parts`."""
        prompts: list[Prompt] = []
        for tag in tags_of(self, categories):
            lines = text_lines(official_file(self, path, f"{tag}_val.txt"))
            listed = self._listed(path) if tag == "complex" else {}
            for index, (where, text) in enumerate(lines):
                metadata: dict[str, object] = {"tag": tag}
                with at(where):
                    if tag == "complex":
                        metadata["parts"] = _parts(text, listed)
                    prompts.append(Prompt(text, f"{tag}-{index:04}", metadata))
        return prompts

    def image_path(self, prompt: Prompt, image_index: int, images: int) -> PurePosixPath:
        number = int(prompt.id.rpartition("-")[2]) * images + image_index
        return PurePosixPath(prompt.metadata["tag"], "samples", f"{file_name(prompt.text)}_{number:06}.png")

    def find_images(self, folder: Path, prompt: Prompt) -> list[Path]:
        """All numbered pictures of the prompt, whatever stride their numbers have."""
        name = file_name(prompt.text)
        found = (folder / prompt.metadata["tag"] / "samples").glob(f"{escape(name)}_*.png")
        return sorted(path for path in found if path.stem.removeprefix(f"{name}_").isdigit() and path.is_file())

    def roles(self, facts: ModelFacts | None) -> Roles:
        return Roles(Role("t2i-compbench"), Role("vqascore"), Role("unified-reward"))

    def _listed(self, path: Path | None) -> dict[str, list[tuple[str, ...]]]:
        """By complex prompt, as `_key` spells it: what the lists that have it say."""
        listed: dict[str, list[tuple[str, ...]]] = {}
        for name, parts in COMPLEX_LISTS.items():
            for _, text in text_lines(official_file(self, path, name)):
                listed.setdefault(_key(text), []).append(parts)
        return listed


def file_name(text: str) -> str:
    """A prompt as part of a file's name: what has a meaning there ("/", "_", control characters) becomes a blank."""
    plain = "".join(" " if c in "/\\_" or not c.isprintable() else c for c in text)
    return plain.encode()[:LONGEST_NAME].decode("utf-8", "ignore")


def _key(text: str) -> str:
    """As `3_in_1.py` compares prompts: the first sentence, without case."""
    return text.partition(".")[0].strip().lower()


def _parts(text: str, listed: dict[str, list[tuple[str, ...]]]) -> list[str]:
    found = listed.get(_key(text), [])
    if len(found) != 1:
        problem = "in none" if not found else f"in {len(found)}"
        raise PromptError(
            f"a complex prompt stands in exactly one of {', '.join(COMPLEX_LISTS)}; this one is {problem}."
        )
    return list(found[0])
