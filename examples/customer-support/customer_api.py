"""The example's data service: customers and their orders as JSON, an HTTP function of functions-framework.

functions-framework --source examples/customer-support/customer_api.py --target customers --host 127.0.0.1 --port 8090

GET /customers                     all customers; ?email= and ?name= look for some
GET /customers/{id}                one customer with all orders
GET /customers/orders/{number}     one order with its customer
"""

from collections.abc import Mapping
from typing import Any

import flask
import functions_framework

CUSTOMERS: tuple[dict[str, Any], ...] = (
    {"id": "c-101", "name": "Ada Lovelace", "email": "ada@example.com", "since": "2021-03-14", "plan": "business"},
    {"id": "c-102", "name": "Grace Hopper", "email": "grace@example.com", "since": "2019-12-09", "plan": "business"},
    {"id": "c-103", "name": "Alan Turing", "email": "alan@example.com", "since": "2023-06-23", "plan": "personal"},
)
ORDERS: tuple[dict[str, Any], ...] = (
    {"number": "1001", "customer": "c-101", "item": "Analytical engine, desk size", "status": "shipped",
     "carrier": "Difference Express", "arrives": "on Thursday", "total": "1840.00 EUR"},
    {"number": "1002", "customer": "c-102", "item": "Nanosecond wire, 30 cm", "status": "delivered",
     "carrier": "Harbor Mail", "arrives": "last Monday", "total": "4.50 EUR"},
    {"number": "1003", "customer": "c-103", "item": "Paper tape, endless", "status": "being packed",
     "carrier": "Enigma Parcels", "arrives": "next week", "total": "79.90 EUR"},
    {"number": "1004", "customer": "c-101", "item": "Punched cards, box of 500", "status": "cancelled",
     "carrier": "none", "arrives": "never", "total": "0.00 EUR"},
)  # fmt: skip


@functions_framework.http
def customers(request: flask.Request) -> flask.Response:
    """Answer one request; what is not found is a 404 that says so."""
    if request.method not in ("GET", "HEAD"):
        return _problem(405, f"{request.method} is not offered here; use GET")
    match request.path.strip("/").split("/"):
        case ["customers"]:
            return flask.jsonify(customers=_search(request.args))
        case ["customers", "orders", number]:
            return _found(_order(number), f"There is no order {number[:32]}")
        case ["customers", customer]:
            return _found(_customer(customer), f"There is no customer {customer[:32]}")
        case _:
            return _problem(404, "There is nothing here; try /customers")


def _search(wanted: Mapping[str, str]) -> list[dict[str, Any]]:
    email, name = wanted.get("email", "").lower(), wanted.get("name", "").lower()
    return [
        customer
        for customer in CUSTOMERS
        if (not email or customer["email"] == email) and name in customer["name"].lower()
    ]


def _customer(wanted: str) -> dict[str, Any] | None:
    found = next((customer for customer in CUSTOMERS if customer["id"] == wanted.lower()), None)
    return found and {**found, "orders": [order for order in ORDERS if order["customer"] == found["id"]]}


def _order(number: str) -> dict[str, Any] | None:
    found = next((order for order in ORDERS if order["number"] == number), None)
    return found and {**found, "customer": next(c for c in CUSTOMERS if c["id"] == found["customer"])}


def _found(value: dict[str, Any] | None, otherwise: str) -> flask.Response:
    return flask.jsonify(value) if value is not None else _problem(404, otherwise)


def _problem(status: int, detail: str) -> flask.Response:
    response = flask.jsonify(status=status, detail=detail)
    response.status_code = status
    return response
