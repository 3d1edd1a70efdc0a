"""Query parameters, checked: what is wrong, or not known, is an error that tells the value and the fix."""

from __future__ import annotations

from starlette.requests import Request

from eventstorm.errors import SettingError
from eventstorm.settings import nearest
from eventstorm_sinks.stores.where import Condition, parse_condition

__all__ = ["Parameters", "Problem"]

MAX_CONDITIONS = 20


class Problem(Exception):
    """A request that cannot be answered: becomes ``{"error": …}`` with a status."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


class Parameters:
    """The query parameters of a request; each asked for by name, then `done`."""

    def __init__(self, request: Request) -> None:
        self._given = request.query_params
        self._known: list[str] = []

    def has(self, name: str) -> bool:
        """Tell whether `name` was given."""
        return name in self._given

    def text(self, name: str, default: str = "") -> str:
        """Return the last value of `name`."""
        self._known.append(name)
        return self._given.get(name, default)

    def texts(self, name: str) -> list[str]:
        """Return all values of `name`."""
        self._known.append(name)
        return self._given.getlist(name)

    def conditions(self, name: str) -> list[Condition]:
        """Return all conditions of this name.

        Raises:
            Problem: one is none, or there are too many.
        """
        texts = self.texts(name)
        if len(texts) > MAX_CONDITIONS:
            raise Problem(f"{name}: {len(texts)} conditions; {MAX_CONDITIONS} are allowed")
        try:
            return [parse_condition(each, name) for each in texts]
        except SettingError as error:
            raise Problem(str(error)) from None

    def number(self, name: str, default: int | None = None, least: int = -(2**53), most: int = 2**53) -> int:
        """Return a whole number.

        Raises:
            Problem: it is none, too small or too large, or missing without a default.
        """
        self._known.append(name)
        text = self._given.get(name)
        if text is None:
            if default is None:
                raise Problem(f"{name}: missing; give a whole number")
            return default
        try:
            value = int(text)
        except ValueError:
            raise Problem(f"{name}: {text[:60]!r} is not a whole number") from None
        if not least <= value <= most:
            raise Problem(f"{name}: {value} is not from {least} to {most}")
        return value

    def seconds(self, name: str, default: float) -> float:
        """Return a number of seconds.

        Raises:
            Problem: it is no number.
        """
        text = self.text(name, str(default))
        try:
            return float(text)
        except ValueError:
            raise Problem(f"{name}: {text[:60]!r} is not a number of seconds") from None

    def flag(self, name: str, default: bool) -> bool:
        """Return a truth value.

        Raises:
            Problem: it is neither ``true`` nor ``false``.
        """
        text = self.text(name, "true" if default else "false")
        if text not in ("true", "false"):
            raise Problem(f"{name}: {text[:60]!r} is neither true nor false")
        return text == "true"

    def done(self) -> None:
        """Refuse what nobody asked for.

        Raises:
            Problem: there is a parameter that is not known.
        """
        for name in self._given:
            if name not in self._known:
                known = nearest(name, self._known) if self._known else "; there are none"
                raise Problem(f"{name[:60]!r}: unknown parameter{known}")
