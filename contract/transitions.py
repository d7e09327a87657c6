"""The scripts for jobs that there are: a job is picked, kept while it gets on, put back to wait again, canceled, ended.

Two only look: how a job is, and how many wait. Each runs after the prelude (``contract.prelude``), which says what keys
it gets.
"""

PICK = """
-- '', kind, token, 1 when it is worked on alone, attempts allowed, lost_after, poison error, result_seconds,
-- tombstone_seconds, the most pixels that its file may have and its result ('' is any size); where the pick is noted
-- → {'claimed', job, fence} | {'suspect', job, 0} | {'nothing', '', 0}
-- The job whose turn it is, and the right to work on it. One that was tried before (a suspect) is had alone only: one
-- who asks is told so, for the others it is passed over meanwhile, and keeps its turn. Asked twice with the same token
-- (the answer was lost), it picks once.
-- Who picks small ones only passes over the others, as if they were not there. They lose nothing by it: turns and
-- shares are counted by themselves for picks of any size.
local kind, token, noted = ARGV[2], ARGV[3], KEYS[14]
local most_file, most_result = tonumber(ARGV[10]), tonumber(ARGV[11])
local only_small = most_file ~= nil
-- How often each class has been passed over since its last pick.
local passed = only_small and order .. ':small:' .. kind or order .. ':' .. kind
local earlier = redis.call('GET', noted)
if earlier then
  turn_to(earlier)
  return get('claimed_by') == token and {'claimed', id, tonumber(get('fence'))} or {'nothing', '', 0}
end

-- The classes in which somebody waits, the highest first, but before it those that have been passed over too often.
local function classes()
  local owed, others = {}, {}
  for _, priority in ipairs(PRIORITIES) do
    if redis.call('EXISTS', clients_of(kind, priority)) == 1 then
      local is_owed = #others > 0 and tonumber(redis.call('HGET', passed, priority) or 0) >= SHARE - 1
      table.insert(is_owed and owed or others, priority)
    end
  end
  for _, priority in ipairs(others) do table.insert(owed, priority) end
  return owed
end

-- The clients of a class, in the order of their turns. Who has just had one of any size has had one of small ones, too.
local function clients_in_turn(class)
  local clients = clients_of(kind, class)
  if not only_small then return redis.call('ZRANGE', clients, 0, -1) end
  return redis.call('ZUNION', 2, clients, small_turns_of(kind, class), 'AGGREGATE', 'MAX')
end

-- This client of this class has had its turn.
local function pass_on(picked, client)
  for _, priority in ipairs(PRIORITIES) do
    if priority == picked then redis.call('HDEL', passed, priority)
    elseif redis.call('EXISTS', clients_of(kind, priority)) == 1 then redis.call('HINCRBY', passed, priority, 1) end
  end
  if redis.call('ZSCORE', clients_of(kind, picked), client) then  -- it has more that waits
    local turns = only_small and small_turns_of(kind, picked) or clients_of(kind, picked)
    redis.call('ZADD', turns, redis.call('INCR', order), client)
  end
end

-- Whether a job is a suspect that somebody else has been told of.
local function is_spoken_for(other)
  return ARGV[4] == '0' and tonumber(redis.call('HGET', job_of(other), 'attempt') or 0) > 0
    and redis.call('EXISTS', beside('suspect:') .. other) == 1
end

-- Whether a picture is as small as it must be. One whose size nobody has written down counts as small.
local function is_welcome(other)
  if not only_small then return true end
  local file, result = unpack(redis.call('HMGET', job_of(other), 'file_pixels', 'result_pixels'))
  return tonumber(file or 0) <= most_file and tonumber(result or 0) <= most_result
end

-- The first job of a client that is small enough.
local function first_in(line)
  for _, other in ipairs(redis.call('ZRANGE', line, 0, only_small and LOOK_PAST or 0)) do
    if is_welcome(other) then return other end
  end
end

-- The first of a class that may be had, and whose it is.
local function first_of(class)
  for _, client in ipairs(clients_in_turn(class)) do
    local other = first_in(line_of(kind, class, client))
    if other and not is_spoken_for(other) then return other, client end
  end
end

-- Whose turn it is: the job, its class, its client. One that is in no line is of a version of Atelier that knew none,
-- or its record is gone.
local function next_job()
  local oldest = redis.call('ZRANGE', sets[kind][1], 0, 0)[1]
  local in_no_line = oldest and redis.call('HEXISTS', job_of(oldest), 'place') == 0
  if in_no_line and is_welcome(oldest) and not is_spoken_for(oldest) then return oldest end
  for _, class in ipairs(classes()) do
    local other, client = first_of(class)
    if other then return other, class, client end
  end
end

while true do
  local found, class, client = next_job()
  if not found then
    count_one('tickets', kind, 'nothing')
    return {'nothing', '', 0}
  end
  turn_to(found)
  if get('state') ~= 'queued' then
    redis.call('ZREM', sets[kind][1], id)
    if class then leave_line(kind, class, client, id) end
  elseif tonumber(get('attempt')) >= tonumber(ARGV[5]) then
    poison(ARGV[7], ARGV[8], ARGV[9])
  elseif tonumber(get('attempt')) > 0 and ARGV[4] == '0' then
    redis.call('SET', beside('suspect:') .. id, token, 'PX', ARGV[6])
    return {'suspect', id, 0}
  else
    local time = now()
    local fence = redis.call('HINCRBY', job, 'fence', 1)
    redis.call('HINCRBY', job, 'attempt', 1)
    redis.call('HSET', job, 'state', 'running', 'started_at', time, 'claimed_by', token)
    dequeue()
    if class then pass_on(class, client) end
    redis.call('ZADD', running, time, id)
    redis.call('SET', heartbeat, fence, 'PX', ARGV[6])
    redis.call('SET', noted, id, 'PX', ARGV[6])
    redis.call('DEL', beside('suspect:') .. id)
    announce('running')
    settle_batches(ARGV[8], ARGV[9])
    return {'claimed', id, fence}
  end
end
"""

BEAT = """
-- id, fence, lost_after → 1 while the claim holds, else 0.
-- A job that was taken for lost, and is waiting again, is taken back by the worker that still has it.
if get('fence') ~= ARGV[2] or is_terminal(get('state')) then return 0 end
if get('state') == 'queued' then
  redis.call('HSET', job, 'state', 'running')
  dequeue()
  redis.call('ZADD', running, now(), id)
  announce('running')
  settle_batches()
end
redis.call('SET', heartbeat, ARGV[2], 'PX', ARGV[3])
return 1
"""

PROGRESS = """
-- id, fence, progress, 1 when it lasts, previews → 1 while the claim holds, else 0. New previews are an event, too.
-- With progress that the next attempt goes on from, this attempt is the first again: only tries in vain are counted.
if get('fence') ~= ARGV[2] or is_terminal(get('state')) then return 0 end
redis.call('HSET', job, 'progress', ARGV[3])
if ARGV[4] == '1' then redis.call('HSET', job, 'attempt', 1) end
tell(100, 'event', 'progress', 'progress', ARGV[3])
if ARGV[5] ~= (get('previews') or '[]') then
  redis.call('HSET', job, 'previews', ARGV[5])
  tell(100, 'event', 'preview', 'previews', ARGV[5])
end
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
-- id, fence, 1 when the attempt counts, ticket grace → 1 when the claim held, else 0. The job waits again, and for a
-- ticket: the reaper sends one at its next round.
if get('fence') ~= ARGV[2] or get('state') ~= 'running' then return 0 end
redis.call('HINCRBY', job, 'fence', 1)
if ARGV[3] == '0' then redis.call('HINCRBY', job, 'attempt', -1) end
redis.call('HSET', job, 'state', 'queued')
redis.call('ZREM', running, id)
enqueue(tostring(now() - ARGV[4]))
redis.call('DEL', heartbeat)
announce('queued')
settle_batches()
return 1
"""

CANCEL = """
-- id, result_seconds, tombstone_seconds → the state it was in before, or 'shared' when several requests were given it.
-- The new fence keeps its worker from writing. Of a batch, the children that others were given go on.
local state = get('state')
if not state or is_terminal(state) then return state end
if get('sharers') then return 'shared' end
local children = cjson.decode(get('children') or '[]')
redis.call('HINCRBY', job, 'fence', 1)
finish('canceled', ARGV[2], ARGV[3])
local batch = id
for _, child in ipairs(children) do
  turn_to(child.id)
  child.state = get('state') or child.state
  if not is_terminal(child.state) and not get('sharers') then
    redis.call('HINCRBY', job, 'fence', 1)
    finish('canceled', ARGV[2], ARGV[3])
    child.state = 'canceled'
  end
end
turn_to(batch)
if #children > 0 then redis.call('HSET', job, 'children', cjson.encode(children)) end
return state
"""

REQUEUE = """
-- id, attempts allowed, poison error, result_seconds, tombstone_seconds, ticket grace → 'queued' | 'failed' | 'alive'.
-- For a running job: when its heartbeat is gone it waits again, and for a ticket; or fails when it has been tried too
-- often.
if not get('state') then drop() end
if get('state') ~= 'running' or redis.call('EXISTS', heartbeat) == 1 then return 'alive' end
if tonumber(get('attempt')) >= tonumber(ARGV[2]) then
  poison(ARGV[3], ARGV[4], ARGV[5])
  count_one('reaped', get('kind') or 'stylize', 'failed')
  return 'failed'
end
redis.call('HSET', job, 'state', 'queued')
redis.call('ZREM', running, id)
enqueue(tostring(now() - ARGV[6]))
announce('queued')
settle_batches()
count_one('reaped', get('kind') or 'stylize', 'queued')
return 'queued'
"""

SNAPSHOT = """
-- id → {fields and values of the job, its latest event}. Not a transaction: those are refused when memory is short.
local latest = redis.call('XREVRANGE', events, '+', '-', 'COUNT', 1)
return {redis.call('HGETALL', job), latest[1] and latest[1][1] or '0-0'}
"""

WAITING = """
-- '', kind → how many jobs wait in each class of priority.
local found = {}
for number, priority in ipairs(PRIORITIES) do
  found[number] = 0
  for _, client in ipairs(redis.call('ZRANGE', clients_of(ARGV[2], priority), 0, -1)) do
    found[number] = found[number] + redis.call('ZCARD', line_of(ARGV[2], priority, client))
  end
end
return found
"""

SCRIPTS = {
    "PICK": PICK,
    "BEAT": BEAT,
    "PROGRESS": PROGRESS,
    "COMMIT": COMMIT,
    "RELEASE": RELEASE,
    "CANCEL": CANCEL,
    "REQUEUE": REQUEUE,
    "SNAPSHOT": SNAPSHOT,
    "WAITING": WAITING,
}
