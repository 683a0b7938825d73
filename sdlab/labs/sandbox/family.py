"""A submission's processes, seen from outside: how much memory they take, and their end."""


class Family:
    """The processes below `pid`, as far as they were seen.

    peak_mb: the most memory that one of them was seen to take, in MB.
    """

    def __init__(self, pid: int):
        self.pid, self.peak_mb, self._known = pid, 0.0, {}

    def memory_mb(self, limit_mb: float) -> float:
        """Return the MB that all of them take now.

        Above the limit, memory that they share is left out, where the system says how much it is (macOS says
        it only to root).
        """
        import psutil

        try:
            family = psutil.Process(self.pid).children(recursive=True)
        except psutil.Error:
            return 0.0
        self._known.update({process.pid: process for process in family})
        resident = {process: _mb(process, "memory_info", "rss") for process in family}
        self.peak_mb = max(self.peak_mb, *resident.values(), 0.0)
        if sum(resident.values()) <= limit_mb:
            return sum(resident.values())
        return sum(_mb(process, "memory_full_info", "uss", there) for process, there in resident.items())

    def kill(self) -> None:
        """End those that were seen and still run."""
        import psutil

        for process in self._known.values():
            try:
                process.kill()  # psutil checks that the id was not given to another process since
            except psutil.Error:
                pass


def _mb(process, how: str, what: str, otherwise: float = 0.0) -> float:
    """A figure of one process in MB; `otherwise` where the system does not tell it."""
    import psutil

    try:
        return getattr(getattr(process, how)(), what) / 2**20
    except psutil.NoSuchProcess:
        return 0.0
    except psutil.Error:
        return otherwise
