"""A shop, with Flask: ``eventstorm-instrument gunicorn --workers 2 shop:app``.

Requests and log records become events by themselves. Only a sale is one that the shop emits.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from typing import Any

from flask import Blueprint, Flask, Response, abort, redirect, request, stream_with_context, url_for
from flask.typing import ResponseReturnValue

import eventstorm
from goods import GOODS, SoldOut, price_list, total_of

app = Flask(__name__)
admin = Blueprint("admin", __name__, url_prefix="/admin")
log = logging.getLogger("shop")


@app.get("/")
def index() -> str:
    """Show what there is."""
    links = [f'<li><a href="{url_for("show", number=item.number)}">{item.name}</a>' for item in GOODS.values()]
    return f"<!doctype html><title>Shop</title><ul>{''.join(links)}</ul>\n"


@app.get("/item/<int:number>")
def show(number: int) -> dict[str, Any]:
    """Show an item."""
    return asdict(GOODS.get(number) or abort(404))


@app.get("/i/<int:number>")
def short(number: int) -> ResponseReturnValue:
    """Lead from a short address to the long one."""
    return redirect(url_for("show", number=number), 308)


@app.get("/prices.csv")
def prices() -> Response:
    """Send the price list, line by line."""
    return Response(stream_with_context(price_list()), mimetype="text/csv")


@app.post("/order")
def order() -> ResponseReturnValue:
    """Sell something."""
    wanted = request.get_json()
    item = GOODS.get(wanted["item"]) or abort(404)
    total = total_of(item, wanted["count"])
    eventstorm.emit("shop.order", item=item.name, count=wanted["count"], total=total)
    return {"item": item.name, "total": total}, 201


@app.errorhandler(SoldOut)
def sold_out(error: SoldOut) -> ResponseReturnValue:
    """Tell the customer, and whoever reads the log."""
    log.warning("sold out: %s", error)
    return {"error": str(error)}, 409


@admin.put("/item/<int:number>")
def reprice(number: int) -> dict[str, Any]:
    """Try another price; nothing is kept."""
    return asdict(replace(GOODS.get(number) or abort(404), price=float(request.data)))


@admin.delete("/item/<int:number>")
def remove(number: int) -> ResponseReturnValue:
    """Take an item out of the shop; not really."""
    return "", 204 if number in GOODS else 404


@admin.get("/average")
def average() -> dict[str, float]:
    """Tell what an order brings on average; this shop has forgotten all of them, which is its one bug."""
    orders: list[float] = []
    return {"average": sum(orders) / len(orders)}


app.register_blueprint(admin)
