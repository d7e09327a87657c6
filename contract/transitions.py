"""The steps that a job can take, each one atomic script that runs inside Redis (6.2 or newer, not a cluster).

Every script gets the same keys: the job's hash, its heartbeat, its tombstone, its event stream, and the sets of jobs
that wait and that run (scores are times). Time is Redis's own, so the clocks of gateways and workers do not matter.
"""

PRELUDE = """
local job, heartbeat, tombstone, events, queued, running = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]

local function now()
  local time = redis.call('TIME')
  return string.format('%d.%06d', time[1], time[2])
end

local function get(field)
  return redis.call('HGET', job, field)
end

local function announce(state)
  redis.call('XADD', events, 'MAXLEN', '~', 1000, '*', 'event', 'state', 'state', state)
end

-- Ends the job: from here on it lives for result_seconds, and its id a little longer.
local function finish(state, result_seconds, tombstone_seconds)
  local time = now()
  local id = get('id')
  redis.call('HSET', job, 'state', state, 'finished_at', time, 'expires_at', tostring(time + result_seconds))
  redis.call('ZREM', queued, id)
  redis.call('ZREM', running, id)
  redis.call('DEL', heartbeat)
  redis.call('EXPIRE', job, result_seconds)
  redis.call('SET', tombstone, 1, 'EX', result_seconds + tombstone_seconds)
  announce(state)
  redis.call('EXPIRE', events, result_seconds)
end

local function is_terminal(state)
  return state == 'succeeded' or state == 'failed' or state == 'canceled'
end
"""

CREATE = """
-- id, request, queue limit → 'created' | 'full'. Asked twice with the same id, it creates once.
if redis.call('EXISTS', job) == 1 then return 'created' end
if redis.call('ZCARD', queued) >= tonumber(ARGV[3]) then return 'full' end
local time = now()
redis.call('HSET', job, 'id', ARGV[1], 'request', ARGV[2], 'state', 'queued', 'attempt', 0, 'fence', 0,
  'created_at', time)
redis.call('ZADD', queued, time, ARGV[1])
announce('queued')
return 'created'
"""

FORGET = """
-- id → nothing. Takes a job back whose ticket could not be sent, unless somebody has it already.
if get('state') == 'queued' and get('attempt') == '0' then
  redis.call('DEL', job, events)
  redis.call('ZREM', queued, ARGV[1])
end
"""

CLAIM = """
-- token, attempts allowed, lost_after, poison error, result_seconds, tombstone_seconds → {outcome, fence}
local state = get('state')
if not state or is_terminal(state) then return {'over', 0} end
if state == 'running' and redis.call('EXISTS', heartbeat) == 1 then
  -- Asked again by the same claim (its answer was lost), or a second ticket of a job that somebody has.
  if get('claimed_by') == ARGV[1] then return {'claimed', tonumber(get('fence'))} end
  return {'taken', 0}
end
if tonumber(get('attempt')) >= tonumber(ARGV[2]) then
  redis.call('HSET', job, 'error', ARGV[4])
  redis.call('HINCRBY', job, 'fence', 1)
  finish('failed', ARGV[5], ARGV[6])
  return {'over', 0}
end
local time = now()
local id = get('id')
local fence = redis.call('HINCRBY', job, 'fence', 1)
redis.call('HINCRBY', job, 'attempt', 1)
redis.call('HSET', job, 'state', 'running', 'started_at', time, 'claimed_by', ARGV[1])
redis.call('ZREM', queued, id)
redis.call('ZADD', running, time, id)
redis.call('SET', heartbeat, fence, 'PX', ARGV[3])
announce('running')
return {'claimed', fence}
"""

BEAT = """
-- fence, lost_after → 1 while the claim holds, else 0.
if get('fence') ~= ARGV[1] or get('state') ~= 'running' then return 0 end
redis.call('SET', heartbeat, ARGV[1], 'PX', ARGV[2])
return 1
"""

COMMIT = """
-- fence, state, result, error, timings, result_seconds, tombstone_seconds → 1 when the end is this claim's, else 0.
-- A job that was taken for lost, and is waiting again, may still be ended by the worker that had it.
if get('fence') ~= ARGV[1] then return 0 end
if is_terminal(get('state')) then return 1 end
redis.call('HSET', job, 'result', ARGV[3], 'error', ARGV[4], 'timings', ARGV[5])
finish(ARGV[2], ARGV[6], ARGV[7])
return 1
"""

RELEASE = """
-- fence → 1 when the claim held, else 0. Gives a claimed job back to the queue; the attempt counts.
if get('fence') ~= ARGV[1] or get('state') ~= 'running' then return 0 end
redis.call('HSET', job, 'state', 'queued')
redis.call('ZREM', running, get('id'))
redis.call('ZADD', queued, now(), get('id'))
redis.call('DEL', heartbeat)
announce('queued')
return 1
"""

CANCEL = """
-- result_seconds, tombstone_seconds → the state it was in before. The new fence keeps its worker from writing.
local state = get('state')
if not state or is_terminal(state) then return state end
redis.call('HINCRBY', job, 'fence', 1)
finish('canceled', ARGV[1], ARGV[2])
return state
"""

REQUEUE = """
-- attempts allowed, poison error, result_seconds, tombstone_seconds → 'queued' | 'failed' | 'alive'.
-- For a running job: when its heartbeat is gone it waits again, or fails when it has been tried too often.
if get('state') ~= 'running' or redis.call('EXISTS', heartbeat) == 1 then return 'alive' end
if tonumber(get('attempt')) >= tonumber(ARGV[1]) then
  redis.call('HSET', job, 'error', ARGV[2])
  redis.call('HINCRBY', job, 'fence', 1)
  finish('failed', ARGV[3], ARGV[4])
  return 'failed'
end
redis.call('HSET', job, 'state', 'queued')
redis.call('ZREM', running, get('id'))
redis.call('ZADD', queued, now(), get('id'))
announce('queued')
return 'queued'
"""

RESUBMITTED = """
-- id → nothing. The ticket of a waiting job has been sent again now.
if get('state') == 'queued' then redis.call('ZADD', queued, now(), ARGV[1]) end
"""
