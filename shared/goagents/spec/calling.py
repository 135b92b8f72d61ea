"""How calls of a tool are made, declared beside it: retries, circuit breaker, rate limit."""

from collections.abc import Mapping
from typing import Any

from pydantic import (
    Field,
    GetJsonSchemaHandler,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from .types import Duration, Integer, Model

MAX_RETRIES = 10


class RetrySpec(Model):
    """A number alone is `max`."""

    max: Integer = Field(0, ge=0, le=MAX_RETRIES, description="Most repeats of a call that failed.")
    backoff: Duration = Field(
        0.5, gt=0, le=60, description="Pause before the first repeat, doubled with each further one, with jitter."
    )
    max_backoff: Duration = Field(
        30.0,
        gt=0,
        le=600,
        description="Longest pause. A server that asks for a longer one (`Retry-After`) is not called again.",
    )

    @model_validator(mode="before")
    @classmethod
    def _number(cls, value: Any) -> Any:
        return value if isinstance(value, Mapping | RetrySpec) else {"max": value}

    @model_serializer(mode="wrap")
    def _as_written(self, write: SerializerFunctionWrapHandler, info: SerializationInfo) -> Any:
        fields = write(self)
        if info.mode == "json" and self.model_fields_set <= {"max"}:
            return self.max
        return fields

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"type": "integer", "minimum": 0, "maximum": MAX_RETRIES}, handler(core)]}


class CircuitBreakerSpec(Model):
    failures: Integer = Field(
        5, ge=0, le=1000, description="Failures of the server in a row after which it is not called. 0: never."
    )
    reset: Duration = Field(
        30.0, gt=0, le=3600, description="How long it is not called; then one call tries whether it is back."
    )

    @model_validator(mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        if value is False:
            raise PydanticCustomError("circuit_breaker", "must be a mapping; `failures: 0` in it turns it off")
        return value


class RateLimitSpec(Model):
    calls: Integer = Field(ge=1, le=1_000_000, description="Most calls in `per`, in each process.")
    per: Duration = Field(1.0, gt=0, le=86_400, description="The time they are counted over.")
