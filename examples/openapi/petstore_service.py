"""The example's service: what the agent uses of petstore.yaml. `python petstore_service.py` serves port 8094.

GET  /v2/store/inventory, /v2/pet/{id}     need the header `api_key` with the value of PETSTORE_KEY (`special-key`)
POST /v2/store/order                       {"petId": 2, "quantity": 1}
GET  /v2/store/order/{id}

It is no function of functions-framework: servers of WSGI drop a header whose name has an underscore.
"""

import hmac
import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

from aiohttp import web

PETS: dict[str, dict[str, Any]] = {
    "1": {"id": 1, "name": "Rex", "photoUrls": [], "status": "available"},
    "2": {"id": 2, "name": "Goldie", "photoUrls": [], "status": "available"},
    "3": {"id": 3, "name": "Tom", "photoUrls": [], "status": "sold"},
}


class Petstore:
    """The shop. `key` is the one that may see pets and stock."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._orders: dict[str, dict[str, Any]] = {}

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/v2/store/inventory", self.inventory)
        app.router.add_get("/v2/pet/{id:[0-9]+}", self.pet)
        app.router.add_post("/v2/store/order", self.order)
        app.router.add_get("/v2/store/order/{id:[0-9]+}", self.ordered)
        return app

    async def inventory(self, request: web.Request) -> web.Response:
        self._check(request)
        return web.json_response(Counter(pet["status"] for pet in PETS.values()))

    async def pet(self, request: web.Request) -> web.Response:
        self._check(request)
        return _found(PETS, request, "Pet not found")

    async def order(self, request: web.Request) -> web.Response:
        order = await request.json()
        pet = PETS.get(str(order.get("petId")))
        if pet is None or pet["status"] != "available":
            return _problem(400, "Invalid Order")
        number = len(self._orders) + 1
        placed = {"id": number, "petId": pet["id"], "quantity": order.get("quantity", 1), "status": "placed"}
        self._orders[str(number)] = placed
        return web.json_response(placed)

    async def ordered(self, request: web.Request) -> web.Response:
        return _found(self._orders, request, "Order not found")

    def _check(self, request: web.Request) -> None:
        if not hmac.compare_digest(request.headers.get("api_key", "").encode(), self._key.encode()):
            raise web.HTTPUnauthorized(text="The header api_key lacks, or has another key")


def _found(values: Mapping[str, dict[str, Any]], request: web.Request, otherwise: str) -> web.Response:
    value = values.get(request.match_info["id"])
    return web.json_response(value) if value is not None else _problem(404, otherwise)


def _problem(status: int, message: str) -> web.Response:
    return web.json_response({"code": status, "message": message}, status=status)


if __name__ == "__main__":
    shop = Petstore(os.environ.get("PETSTORE_KEY", "special-key"))
    web.run_app(shop.application(), host="127.0.0.1", port=int(os.environ.get("PETSTORE_PORT", "8094")))
