"""What both shops sell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["GOODS", "Item", "SoldOut", "price_list", "total_of"]


@dataclass(frozen=True)
class Item:
    """One kind of goods."""

    number: int
    name: str
    price: float
    stock: int


class SoldOut(Exception):
    """More is wanted than there is."""


GOODS = {
    item.number: item
    for item in (
        Item(1, "kettle", 39.5, 12),
        Item(2, "teapot", 24.0, 5),
        Item(3, "cup", 4.25, 80),
        Item(4, "bagful of Earl Grey", 6.75, 40),
        Item(5, "samovar", 480.0, 0),
    )
}


def total_of(item: Item, count: int) -> float:
    """Return what so many cost.

    Raises:
        SoldOut: there are not so many.
    """
    if count > item.stock:
        raise SoldOut(f"{count} x {item.name} wanted, {item.stock} left")
    return round(count * item.price, 2)


def price_list() -> Iterator[str]:
    """Yield all items as lines of CSV."""
    yield "number,name,price\n"
    for item in GOODS.values():
        yield f"{item.number},{item.name},{item.price:.2f}\n"
