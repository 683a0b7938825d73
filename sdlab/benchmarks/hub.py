"""Read the rows of a data set of the hub by its name (org/dataset:split)."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from sdlab.benchmarks.sources import need_libraries, why_unread
from sdlab.errors import SdlabError

if TYPE_CHECKING:
    from datasets import Dataset

_NAME = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+){0,2}")
_FILES = (".json", ".jsonl", ".ndjson", ".gz", ".parquet", ".txt", ".csv")


def is_hub_name(name: str) -> bool:
    """Return whether `name` has the form of a data set's name: org/dataset, with :config:split or without."""
    return bool(_NAME.fullmatch(name)) and not name.startswith(".") and not name.lower().endswith(_FILES)


def hub_rows(name: str) -> list[dict]:
    """Return the rows of a data set of the hub.

    name: org/dataset, org/dataset:split or org/dataset:config:split.

    Raises SdlabError when a package is missing, when the hub cannot be reached or has no such data set, and
    when the data set has several splits and none is named.
    """
    need_libraries()
    import datasets

    from sdlab.hub import cache_if_unreachable

    repo, *parts = name.split(":")
    config, split = (parts[0] if len(parts) == 2 else None), (parts[-1] if parts else None)
    unreachable = None
    try:
        with cache_if_unreachable(repo) as unreachable:
            loaded = datasets.load_dataset(repo, config, split=split)
    except Exception as error:  # requests, httpx, huggingface_hub and datasets each raise their own
        why = unreachable or why_unread(error)
        raise SdlabError(
            f"no file {name}, and it could not be read from the hub as a data set ({why}); "
            f"check the name ({repo}:SPLIT or {repo}:CONFIG:SPLIT) and the network, or give a file"
        ) from error
    if isinstance(loaded, Mapping):
        if len(loaded) > 1:
            splits = ", ".join(map(str, loaded))
            raise SdlabError(
                f"{name} has the splits {splits}; name one, for example {repo}:{next(iter(loaded))}"
            )
        loaded = next(iter(loaded.values()))
    return cast("Dataset", loaded).to_list()
