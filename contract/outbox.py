"""The outbox: calls of webhooks that are still to be made, and those that were, for as long as their job is kept.

The script that changes a job's state puts the calls for it here in the same step (``call`` in ``contract.prelude``), so
none is lost, whoever dies. A gateway that takes one has it for a while; if it is not heard of again, another takes it.
"""

import json
from datetime import UTC, datetime
from typing import Any, cast

import structlog
from redis import Redis

from contract.errors import DeliveryNotFoundError
from contract.jobbook import PREFIX, queue_errors
from contract.jobs import JobRecord
from contract.webhooks import Attempt, Delivery

log = structlog.get_logger()

OUTBOX = PREFIX + "outbox"
DELIVERIES = PREFIX + "deliveries:"
"""Of each job: under their numbers what happened, and under ``number:attempts`` what was tried: JSON, with commas."""

LOG_BYTES = 16_384
"""Of the attempts at one call, beyond which no more are written down: a hundred, and clients may ask for more."""

NOW = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
local function due(seconds) return string.format('%.6f', now + seconds) end
"""

TAKE = (
    NOW
    + """
-- The outbox; the prefix of deliveries, how many, for how many seconds → {{job, number, what happened, attempts}, …}
local taken = {}
for _, call in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', due(0), 'LIMIT', 0, ARGV[2])) do
  local job, number = string.match(call, '^(.*)/(%d+)$')
  local happened, attempts = unpack(redis.call('HMGET', ARGV[1] .. job, number, number .. ':attempts'))
  if happened then
    redis.call('ZADD', KEYS[1], due(ARGV[3]), call)
    taken[#taken + 1] = {job, number, happened, attempts or ''}
  else
    redis.call('ZREM', KEYS[1], call)  -- the time of its job is over
  end
end
return taken
"""
)

PUT_BACK = (
    NOW
    + """
-- The outbox, the deliveries of the job; the call, its number, an attempt ('' is none), seconds ('' is never again),
-- how many bytes of attempts are kept
-- A call that would come after the job is gone is not made, nor one that another gateway has delivered meanwhile.
if ARGV[3] ~= '' and redis.call('HEXISTS', KEYS[2], ARGV[2]) == 1 then
  local field = ARGV[2] .. ':attempts'
  local earlier = redis.call('HGET', KEYS[2], field) or ''
  if #earlier < tonumber(ARGV[5]) then
    redis.call('HSET', KEYS[2], field, earlier == '' and ARGV[3] or earlier .. ',' .. ARGV[3])
  end
end
local left = redis.call('PTTL', KEYS[2])
if ARGV[4] == '' or left == -2 or (left >= 0 and ARGV[4] * 1000 >= left) then
  redis.call('ZREM', KEYS[1], ARGV[1])
else
  redis.call('ZADD', KEYS[1], 'XX', due(ARGV[4]), ARGV[1])
end
"""
)

AGAIN = (
    NOW
    + """
-- The outbox, the deliveries of the job; the call, its number → 1, or 0 when there is none. It is due now.
if redis.call('HEXISTS', KEYS[2], ARGV[2]) == 0 then return 0 end
redis.call('ZADD', KEYS[1], due(0), ARGV[1])
return 1
"""
)


class Outbox:
    """Safe to share between threads. Every method raises QueueUnavailableError."""

    def __init__(self, client: Redis) -> None:
        self._redis = client
        self._take, self._put_back, self._again = map(client.register_script, (TAKE, PUT_BACK, AGAIN))

    def take(self, at_most: int, seconds: float) -> list[Delivery]:
        """Calls that are due. Nobody else takes them within this long.

        One that cannot be read, as a newer gateway wrote it, is left to that one, and keeps no other from being made.
        """
        with queue_errors():
            taken = cast(Any, self._take(keys=[OUTBOX], args=[DELIVERIES, at_most, seconds]))
        return [delivery for each in taken if (delivery := _readable(*each))]

    def attempted(self, delivery: Delivery, attempt: Attempt, again_in: float | None) -> None:
        """Notes an attempt. Another is made after so many seconds, unless the job is gone by then; None is none."""
        self._return(delivery, attempt.model_dump_json(), again_in)

    def put_back(self, delivery: Delivery, seconds: float) -> None:
        """To be taken again after so many seconds: nothing has been attempted."""
        self._return(delivery, "", seconds)

    def deliveries(self, job_id: str) -> list[Delivery]:
        """All calls of a job, in the order in which they came to be due."""
        with queue_errors():
            fields = cast(dict[str, str], self._redis.hgetall(DELIVERIES + job_id))
            numbers = sorted(int(field) for field in fields if field.isdecimal())
            calls = [_call(job_id, number) for number in numbers]
            scores = self._redis.zmscore(OUTBOX, calls) if calls else []
        return [
            _delivery(job_id, number, fields[str(number)], fields.get(f"{number}:attempts", ""), score)
            for number, score in zip(numbers, scores, strict=True)
        ]

    def redeliver(self, job_id: str, number: int) -> Delivery:
        """Has a call made once more, now. Raises DeliveryNotFoundError."""
        with queue_errors():
            found = self._again(keys=[OUTBOX, DELIVERIES + job_id], args=[_call(job_id, number), number])
        for delivery in self.deliveries(job_id) if found else ():
            if delivery.number == number:
                return delivery
        raise DeliveryNotFoundError("The job has no such delivery: GET /jobs/{id}/deliveries lists those that it has.")

    def _return(self, delivery: Delivery, attempt: str, seconds: float | None) -> None:
        number, wait = delivery.number, "" if seconds is None else f"{seconds:.3f}"
        with queue_errors():
            self._put_back(
                keys=[OUTBOX, DELIVERIES + delivery.job_id],
                args=[_call(delivery.job_id, number), number, attempt, wait, LOG_BYTES],
            )


def _call(job_id: str, number: int) -> str:
    return f"{job_id}/{number}"


def _readable(job_id: str, number: str, happened: str, attempts: str) -> Delivery | None:
    try:
        return _delivery(job_id, number, happened, attempts)
    except (ValueError, KeyError) as error:
        log.warning("webhook cannot be read", job=job_id, number=number, reason=str(error))
        return None


def _delivery(job_id: str, number: str | int, happened: str, attempts: str, due: float | None = None) -> Delivery:
    """From what the scripts wrote down: the job is the flat list of its fields."""
    about = json.loads(happened)
    record = about.pop("record")
    return Delivery(
        job_id=job_id,
        number=int(number),
        event=about["event"],
        at=datetime.fromtimestamp(float(about["at"]), UTC),
        url=about["url"],
        record=JobRecord.from_hash(dict(zip(record[::2], record[1::2], strict=True))),
        attempts=tuple(Attempt.model_validate(each) for each in json.loads(f"[{attempts}]")),
        next_attempt_at=None if due is None else datetime.fromtimestamp(due, UTC),
    )
