"""The steps that a job can take, each one atomic script that runs inside Redis (6.2 or newer, not a cluster).

Every script gets the same keys: the job's hash, its heartbeat, its tombstone, its event stream, the names of styles
that are being trained, and for each kind of job the sets of those that wait and that run (scores are times). The first
argument is the job's id. Time is Redis's own, so the clocks of gateways and workers do not matter.
"""

PRELUDE = """
local job, heartbeat, tombstone, events, names = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local sets = {stylize = {KEYS[6], KEYS[7]}, train = {KEYS[8], KEYS[9]}}
local id = ARGV[1]
local queued, running = unpack(sets[redis.call('HGET', job, 'kind') or 'stylize'])

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

-- The name of a style that the job was to train is free again.
local function free_name()
  local name = get('name')
  if name and redis.call('HGET', names, name) == id then redis.call('HDEL', names, name) end
end

-- Ends the job: from here on it lives for result_seconds, and its id a little longer.
local function finish(state, result_seconds, tombstone_seconds)
  local time = now()
  redis.call('HSET', job, 'state', state, 'finished_at', time, 'expires_at', tostring(time + result_seconds))
  redis.call('ZREM', queued, id)
  redis.call('ZREM', running, id)
  redis.call('DEL', heartbeat)
  free_name()
  redis.call('EXPIRE', job, result_seconds)
  redis.call('SET', tombstone, 1, 'EX', result_seconds + tombstone_seconds)
  announce(state)
  redis.call('EXPIRE', events, result_seconds)
end

-- An id without a job (it was evicted: the memory policy of this Redis is wrong) leaves the sets.
local function drop()
  for _, of_kind in pairs(sets) do
    redis.call('ZREM', of_kind[1], id)
    redis.call('ZREM', of_kind[2], id)
  end
end

local function is_terminal(state)
  return state == 'succeeded' or state == 'failed' or state == 'canceled'
end
"""

CREATE = """
-- id, request, queue limit, kind, name → 'created' | 'full' | 'taken'. Asked twice with the same id, it creates once.
-- A name (of a style to train) may be that of one job at a time; '' is none.
if redis.call('EXISTS', job) == 1 then return 'created' end
queued, running = unpack(sets[ARGV[4]])
if ARGV[5] ~= '' then
  local holder = redis.call('HGET', names, ARGV[5])
  local state = holder and redis.call('HGET', string.sub(job, 1, -#id - 1) .. holder, 'state')
  if state and not is_terminal(state) then return 'taken' end
end
if redis.call('ZCARD', queued) >= tonumber(ARGV[3]) then return 'full' end
if ARGV[5] ~= '' then
  redis.call('HSET', names, ARGV[5], id)
  redis.call('HSET', job, 'name', ARGV[5])
end
local time = now()
redis.call('HSET', job, 'id', id, 'kind', ARGV[4], 'request', ARGV[2], 'state', 'queued', 'attempt', 0, 'fence', 0,
  'created_at', time)
redis.call('ZADD', queued, time, id)
announce('queued')
return 'created'
"""

FORGET = """
-- id → nothing. Takes a job back whose ticket could not be sent, unless somebody has it already.
if get('state') == 'queued' and get('fence') == '0' then
  free_name()
  redis.call('DEL', job, events)
  redis.call('ZREM', queued, id)
end
"""

CLAIM = """
-- id, token, attempts allowed, lost_after, poison error, result_seconds, tombstone_seconds → {outcome, fence}
local state = get('state')
if not state or is_terminal(state) then return {'over', 0} end
if state == 'running' and redis.call('EXISTS', heartbeat) == 1 then
  -- Asked again by the same claim (its answer was lost), or a second ticket of a job that somebody has.
  if get('claimed_by') == ARGV[2] then return {'claimed', tonumber(get('fence'))} end
  return {'taken', 0}
end
if tonumber(get('attempt')) >= tonumber(ARGV[3]) then
  redis.call('HSET', job, 'error', ARGV[5])
  redis.call('HINCRBY', job, 'fence', 1)
  finish('failed', ARGV[6], ARGV[7])
  return {'over', 0}
end
local time = now()
local fence = redis.call('HINCRBY', job, 'fence', 1)
redis.call('HINCRBY', job, 'attempt', 1)
redis.call('HSET', job, 'state', 'running', 'started_at', time, 'claimed_by', ARGV[2])
redis.call('ZREM', queued, id)
redis.call('ZADD', running, time, id)
redis.call('SET', heartbeat, fence, 'PX', ARGV[4])
announce('running')
return {'claimed', fence}
"""

BEAT = """
-- id, fence, lost_after → 1 while the claim holds, else 0.
-- A job that was taken for lost, and is waiting again, is taken back by the worker that still has it.
if get('fence') ~= ARGV[2] or is_terminal(get('state')) then return 0 end
if get('state') == 'queued' then
  redis.call('HSET', job, 'state', 'running')
  redis.call('ZREM', queued, id)
  redis.call('ZADD', running, now(), id)
  announce('running')
end
redis.call('SET', heartbeat, ARGV[2], 'PX', ARGV[3])
return 1
"""

PROGRESS = """
-- id, fence, progress, 1 when it lasts → 1 while the claim holds, else 0.
-- With progress that the next attempt goes on from, this attempt is the first again: only tries in vain are counted.
if get('fence') ~= ARGV[2] or is_terminal(get('state')) then return 0 end
redis.call('HSET', job, 'progress', ARGV[3])
if ARGV[4] == '1' then redis.call('HSET', job, 'attempt', 1) end
redis.call('XADD', events, 'MAXLEN', '~', 100, '*', 'event', 'progress')
return 1
"""

COMMIT = """
-- id, fence, state, result, error, timings, result_seconds, tombstone_seconds → 1 when the end is this one, else 0.
-- Asked twice (the answer was lost), it ends the job once; a second end of another kind is refused.
-- A job that was taken for lost, and is waiting again, may still be ended by the worker that had it.
if get('fence') ~= ARGV[2] then return 0 end
local state = get('state')
if is_terminal(state) then return state == ARGV[3] and 1 or 0 end
redis.call('HSET', job, 'result', ARGV[4], 'error', ARGV[5], 'timings', ARGV[6])
finish(ARGV[3], ARGV[7], ARGV[8])
return 1
"""

RELEASE = """
-- id, fence, 1 when the attempt counts, ticket grace → 1 when the claim held, else 0. The job waits again.
-- Its score is that of a job whose ticket is missing, so that the reaper sends one at its next round.
if get('fence') ~= ARGV[2] or get('state') ~= 'running' then return 0 end
redis.call('HINCRBY', job, 'fence', 1)
if ARGV[3] == '0' then redis.call('HINCRBY', job, 'attempt', -1) end
redis.call('HSET', job, 'state', 'queued')
redis.call('ZREM', running, id)
redis.call('ZADD', queued, tostring(now() - ARGV[4]), id)
redis.call('DEL', heartbeat)
announce('queued')
return 1
"""

CANCEL = """
-- id, result_seconds, tombstone_seconds → the state it was in before. The new fence keeps its worker from writing.
local state = get('state')
if not state or is_terminal(state) then return state end
redis.call('HINCRBY', job, 'fence', 1)
finish('canceled', ARGV[2], ARGV[3])
return state
"""

REQUEUE = """
-- id, attempts allowed, poison error, result_seconds, tombstone_seconds → 'queued' | 'failed' | 'alive'.
-- For a running job: when its heartbeat is gone it waits again, or fails when it has been tried too often.
if not get('state') then drop() end
if get('state') ~= 'running' or redis.call('EXISTS', heartbeat) == 1 then return 'alive' end
if tonumber(get('attempt')) >= tonumber(ARGV[2]) then
  redis.call('HSET', job, 'error', ARGV[3])
  redis.call('HINCRBY', job, 'fence', 1)
  finish('failed', ARGV[4], ARGV[5])
  return 'failed'
end
redis.call('HSET', job, 'state', 'queued')
redis.call('ZREM', running, id)
redis.call('ZADD', queued, now(), id)
announce('queued')
return 'queued'
"""

RESUBMITTED = """
-- id → nothing. The ticket of a waiting job has been sent again now.
if not get('state') then drop()
elseif get('state') == 'queued' then redis.call('ZADD', queued, now(), id)
else redis.call('ZREM', queued, id) end
"""
