"""The same shop, with FastAPI: ``eventstorm-instrument uvicorn fast_shop:app``."""

from __future__ import annotations

import logging
from dataclasses import replace

from fastapi import Body, FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, StreamingResponse

import eventstorm
from goods import GOODS, Item, SoldOut, price_list, total_of

app = FastAPI()
admin = FastAPI()
log = logging.getLogger("shop")


def find(number: int) -> Item:
    """Return an item, or answer that there is none."""
    if number not in GOODS:
        raise HTTPException(404)
    return GOODS[number]


@app.api_route("/", methods=["GET", "HEAD"])
async def index() -> HTMLResponse:
    """Show what there is."""
    links = [f'<li><a href="/item/{item.number}">{item.name}</a>' for item in GOODS.values()]
    return HTMLResponse(f"<!doctype html><title>Shop</title><ul>{''.join(links)}</ul>\n")


@app.get("/item/{number}")
async def show(number: int) -> Item:
    """Show an item."""
    return find(number)


@app.get("/i/{number}")
async def short(number: int) -> RedirectResponse:
    """Lead from a short address to the long one."""
    return RedirectResponse(app.url_path_for("show", number=number), 308)


@app.get("/prices.csv")
def prices() -> StreamingResponse:
    """Send the price list, line by line."""
    return StreamingResponse(price_list(), media_type="text/csv")


@app.post("/order", status_code=201)
def order(item: int = Body(), count: int = Body()) -> dict[str, object]:
    """Sell something; in a thread, as FastAPI does with what is not async."""
    wanted = find(item)
    total = total_of(wanted, count)
    eventstorm.emit("shop.order", item=wanted.name, count=count, total=total)
    return {"item": wanted.name, "total": total}


@app.exception_handler(SoldOut)
async def sold_out(request: Request, error: Exception) -> JSONResponse:
    """Tell the customer, and whoever reads the log."""
    log.warning("sold out: %s", error)
    return JSONResponse({"error": str(error)}, 409)


@admin.put("/item/{number}")
async def reprice(number: int, request: Request) -> Item:
    """Try another price; nothing is kept."""
    return replace(find(number), price=float(await request.body()))


@admin.delete("/item/{number}")
async def remove(number: int) -> Response:
    """Take an item out of the shop; not really."""
    return Response(status_code=204 if number in GOODS else 404)


@admin.get("/average")
async def average() -> dict[str, float]:
    """Tell what an order brings on average; this shop has forgotten all of them, which is its one bug."""
    orders: list[float] = []
    return {"average": sum(orders) / len(orders)}


app.mount("/admin", admin)
