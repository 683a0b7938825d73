"""Types of the charts' signatures."""

from typing import Any, TypeAlias

# A pandas.DataFrame. pandas ships no type stubs, and a checker that reads its source takes `frame["score"]`
# for a Series or a DataFrame, so it would reject most correct uses of a column.
Frame: TypeAlias = Any
# Keyword arguments of one of Altair's calls. Each takes dozens, every one of its own type.
Options: TypeAlias = dict[str, Any]
