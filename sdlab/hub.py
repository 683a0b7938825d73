"""Recognise within seconds that the Hugging Face hub cannot be reached, and then use only its local cache."""

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

from sdlab.errors import first_line

PAUSES = (1.0, 2.0)  # seconds before the second and the third try, when a connection is refused
CONNECT = 5.0  # seconds for one connection, where packets are dropped
LONGEST = 10.0  # seconds for all tries: a name with several addresses, or a name server that is silent


def why_unreachable(url: str) -> str | None:
    """Return why no connection to the hub can be made, or None when there is one.

    huggingface_hub repeats each of its requests for half a minute, and longer where packets are dropped. This
    one asks for the head of `url` with huggingface_hub's own client, so that mirrors, proxies and tokens
    apply as in the download. Only a connection that fails counts: any answer, a slow hub, or an error of a
    proxy is left to the download itself.
    """
    reasons: list[str | None] = []
    # The request waits in a thread, because asking for the hub's address has no time limit of its own.
    thread = threading.Thread(target=lambda: reasons.append(_connect(url)), daemon=True)
    thread.start()
    thread.join(LONGEST)
    return reasons[0] if reasons else f"no connection within {LONGEST:g} seconds"


def _connect(url: str) -> str | None:
    """Return the error of the last try to connect, or None after an answer."""
    from huggingface_hub import get_hf_file_metadata

    for pause in (*PAUSES, None):
        try:
            get_hf_file_metadata(url, timeout=CONNECT)
            return None
        except Exception as error:  # its class depends on huggingface_hub's version of httpx
            kind = type(error).__name__
            if kind == "ConnectTimeout":  # the system has already repeated its packets
                return f"no connection within {CONNECT:g} seconds"
            if kind != "ConnectError":
                return None
            if pause is None:
                return first_line(error)
            time.sleep(pause)
    return None


@contextmanager
def cache_if_unreachable(repository: str) -> Generator[str | None]:
    """Yield why the hub cannot be reached, or None; in the first case `datasets` reads only its cache inside.

    repository: a data set of the hub, org/dataset. With HF_HUB_OFFLINE no connection is tried.
    """
    from datasets import config
    from huggingface_hub import constants, hf_hub_url, is_offline_mode
    from huggingface_hub.errors import HFValidationError

    try:
        url = hf_hub_url(repository, "README.md", repo_type="dataset")
    except HFValidationError:  # no possible name, which loading explains
        url = ""
    reason = None if is_offline_mode() or not url else why_unreachable(url)
    if reason is None:
        yield None
        return
    before = constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = config.HF_HUB_OFFLINE = True
    try:
        yield f"{url.split('/datasets/')[0]} cannot be reached: {reason}"
    finally:
        constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE = before
