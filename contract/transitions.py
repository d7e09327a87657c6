"""The steps that a job can take, each one atomic script that runs inside Redis (6.2 or newer, not a cluster).

Every script gets the same keys: the job's hash, its heartbeat, its tombstone, its event stream, the names of styles
that are being trained, the stream that says which jobs have events, how long jobs take, how many there were, for each
kind of job the sets of those that wait and that run (scores are times), and under which name those that wait have their
order; those that take a request in get two more. The first argument is the job's id. Time is Redis's own, so the clocks
of gateways and workers do not matter.

The order of those that wait, of each kind: a set of clients for each class of priority (scores are the order of their
turns), and a set of jobs for each client of a class (scores are the order in which they came). Under the bare name
stands the latest number that was given out as such a score.

A batch is a job that nobody works on: its record holds its children, jobs like all others, as JSON with their states.
Whatever script moves a child moves its batches along, and ends them with the last child.
"""

ANNOUNCEMENTS_KEPT = 10_000
"""How many of the latest events can still be heard of by a process that was busy meanwhile."""
SHARE = 8
"""A class of priority in which somebody waits is given one pick in so many, whatever waits in higher ones."""

MAX_BATCHES = 8
"""Of which one job that waits or runs may be a child."""

CLIENT_SHARE = 0.75
"""How much of the queue may be filled by one client, where clients are told apart."""

PRELUDE = (
    f"local ANNOUNCEMENTS_KEPT, SHARE = {ANNOUNCEMENTS_KEPT}, {SHARE}\n"
    f"local MAX_BATCHES, CLIENT_SHARE = {MAX_BATCHES}, {CLIENT_SHARE}"
    + """
local job, heartbeat, tombstone, events, names, announcements, durations, counts = unpack(KEYS, 1, 8)
local order = KEYS[13]
local sets = {stylize = {KEYS[9], KEYS[10]}, train = {KEYS[11], KEYS[12]}, batch = {order .. ':none', order .. ':none'}}
local PRIORITIES = {'interactive', 'normal', 'batch'}
local id = ARGV[1]
local queued, running = unpack(sets[redis.call('HGET', job, 'kind') or 'stylize'])

local function now()
  local time = redis.call('TIME')
  return string.format('%d.%06d', time[1], time[2])
end

local function get(field)
  return redis.call('HGET', job, field)
end

-- One more: what has happened to jobs of this kind, how.
local function count_one(what, kind, how)
  redis.call('HINCRBY', counts, what .. ':' .. kind .. ':' .. how, 1)
end

-- An event of the job, of which so many are kept, and that there is one.
local function tell(kept, ...)
  redis.call('XADD', events, 'MAXLEN', '~', kept, '*', ...)
  redis.call('XADD', announcements, 'MAXLEN', '~', ANNOUNCEMENTS_KEPT, '*', 'job', id)
  redis.call('EXPIRE', announcements, 3600)
end

-- Another job of the same deployment.
local function job_of(other)
  return string.sub(job, 1, -#id - 1) .. other
end

-- What belongs to a job, or to all of them, under a name of its own (contract/outbox.py).
local function beside(name)
  return string.sub(job, 1, -#id - #'job:' - 1) .. name
end

-- The webhooks of a job: JSON, with commas between them.
local function webhooks_of(other)
  return cjson.decode('[' .. (redis.call('HGET', job_of(other), 'webhooks') or '') .. ']')
end

-- Puts a call for an event of a job, as it is now, into the outbox for each of the webhooks that is to hear of it.
local function call(other, event, webhooks)
  for _, webhook in ipairs(webhooks) do
    for _, wanted in ipairs(webhook.events) do
      if wanted == event then
        local number = redis.call('HINCRBY', job_of(other), 'calls', 1)
        local happened = {event = event, at = now(), url = webhook.url, record = redis.call('HGETALL', job_of(other))}
        redis.call('HSET', beside('deliveries:') .. other, number, cjson.encode(happened))
        redis.call('ZADD', beside('outbox'), now(), other .. '/' .. number)
      end
    end
  end
end

local function announce(state)
  tell(1000, 'event', 'state', 'state', state, 'attempt', get('attempt') or 0)
  if not get('webhooks') or state == 'queued' then return end
  if state ~= 'running' then return call(id, 'job.' .. state, webhooks_of(id)) end
  if redis.call('HSETNX', job, 'start_called', 1) == 1 then call(id, 'job.started', webhooks_of(id)) end
end

-- From here on it is about another job.
local function turn_to(other)
  local function its(key) return string.sub(key, 1, -#id - 1) .. other end
  job, heartbeat, tombstone, events = its(job), its(heartbeat), its(tombstone), its(events)
  id = other
  queued, running = unpack(sets[get('kind') or 'stylize'])
end

-- Where the clients of a class have their turns, and the jobs of one client theirs.
local function clients_of(kind, priority)
  return order .. ':' .. kind .. ':' .. priority
end

local function line_of(kind, priority, client)
  return clients_of(kind, priority) .. ':' .. client
end

-- Where the job waits: kind, class, client.
local function whereabouts()
  return get('kind') or 'stylize', get('priority') or 'normal', get('client') or ''
end

-- The job waits (again), since then, where its place is in the line of its client. A client that had nothing waiting
-- has its turn after those that have.
local function enqueue(since)
  local kind, priority, client = whereabouts()
  redis.call('ZADD', queued, since, id)
  redis.call('ZADD', line_of(kind, priority, client), get('place') or 0, id)
  redis.call('ZADD', clients_of(kind, priority), 'NX', redis.call('INCR', order), client)
end

-- Takes a job out of a line, and its client out of the class with the last one.
local function leave_line(kind, priority, client, which)
  local line = line_of(kind, priority, client)
  redis.call('ZREM', line, which)
  if redis.call('EXISTS', line) == 0 then redis.call('ZREM', clients_of(kind, priority), client) end
end

-- The job waits no more.
local function dequeue()
  local kind, priority, client = whereabouts()
  redis.call('ZREM', queued, id)
  leave_line(kind, priority, client, id)
end

-- The name of a style that the job was to train is free again.
local function free_name()
  local name = get('name')
  if name and redis.call('HGET', names, name) == id then redis.call('HDEL', names, name) end
end

-- The same request is to find the job no more: or no longer than the job can be found itself.
local function free_same(seconds)
  local same = get('same')
  if not same or redis.call('GET', same) ~= id then return end
  if seconds then redis.call('EXPIRE', same, seconds) else redis.call('DEL', same) end
end

-- Each idempotency key under which the job is known.
local function for_keys(command, ...)
  for key in string.gmatch(get('keys') or '', '%S+') do redis.call(command, key, ...) end
end

-- How long a job of this kind takes from its last start to its success: a mean to which the latest adds a fifth.
local function learn(time)
  local kind, took = get('kind') or 'stylize', time - get('started_at')
  local mean = redis.call('HGET', durations, kind)
  redis.call('HSET', durations, kind, tostring(mean and 0.8 * mean + 0.2 * took or took))
  redis.call('EXPIRE', durations, 86400)
end

-- The job has ended: from this time on it lives for result_seconds, and its id a little longer.
local function live_on(time, result_seconds, tombstone_seconds)
  redis.call('HSET', job, 'expires_at', tostring(time + result_seconds))
  free_same(get('state') == 'succeeded' and result_seconds)
  for_keys('EXPIRE', result_seconds)
  redis.call('EXPIRE', job, result_seconds)
  redis.call('SET', tombstone, 1, 'EX', result_seconds + tombstone_seconds)
  redis.call('EXPIRE', events, result_seconds)
  redis.call('EXPIRE', beside('deliveries:') .. id, result_seconds)
end

local function is_terminal(state)
  return state == 'succeeded' or state == 'failed' or state == 'canceled'
end

local settle_batches

-- Ends the job, and with the last of its children a batch.
local function finish(state, result_seconds, tombstone_seconds)
  local time = now()
  local kind = get('kind') or 'stylize'
  if state == 'succeeded' and kind ~= 'batch' then learn(time) end
  count_one('finished', kind, state)
  redis.call('HSET', job, 'state', state, 'finished_at', time, 'expires_at', tostring(time + result_seconds))
  dequeue()
  redis.call('ZREM', running, id)
  redis.call('DEL', heartbeat)
  free_name()
  announce(state)
  live_on(time, result_seconds, tombstone_seconds)
  settle_batches(result_seconds, tombstone_seconds)
end

-- The batch has so many children in each state, and all of them have ended. As long as it is kept, they are.
local function end_batch(children, count, result_seconds, tombstone_seconds)
  local outcome = (count.succeeded > 0 and 'succeeded') or (count.failed > 0 and 'failed') or 'canceled'
  if outcome == 'succeeded' then
    redis.call('HSET', job, 'result', cjson.encode({succeeded = count.succeeded, failed = count.failed,
      canceled = count.canceled}))
  elseif outcome == 'failed' then
    redis.call('HSET', job, 'error', cjson.encode({code = 'batch-failed',
      detail = 'No picture of the batch could be made: the jobs of its document say why.'}))
  end
  finish(outcome, result_seconds, tombstone_seconds)
end

-- Writes down how the children of a batch are now, and ends it when they have. Whenever one has ended, those that had
-- ended before are kept for as long as that one.
local function settle(batch, result_seconds, tombstone_seconds)
  local child = id
  turn_to(batch)
  if not get('children') or is_terminal(get('state')) then return turn_to(child) end
  local children = cjson.decode(get('children'))
  local count = {queued = 0, running = 0, succeeded = 0, failed = 0, canceled = 0}
  for _, other in ipairs(children) do
    local gone = is_terminal(other.state) and other.state or 'failed'
    other.state = redis.call('HGET', job_of(other.id), 'state') or gone
    count[other.state] = count[other.state] + 1
  end
  redis.call('HSET', job, 'children', cjson.encode(children))
  if get('state') == 'queued' and count.queued < #children then
    redis.call('HSET', job, 'state', 'running', 'started_at', now())
    announce('running')
  end
  local ended = #children - count.queued - count.running
  if tostring(ended) ~= get('ended') then
    local progress = cjson.encode({fraction = ended / #children, stage = 'stylizing',
      detail = ended .. ' of ' .. #children .. ' pictures'})
    redis.call('HSET', job, 'ended', ended, 'progress', progress)
    tell(1000, 'event', 'progress', 'progress', progress)
    for _, other in ipairs(children) do
      turn_to(other.id)
      if result_seconds and get('state') and is_terminal(other.state) then
        live_on(now(), result_seconds, tombstone_seconds)
      end
    end
    turn_to(batch)
  end
  if result_seconds and ended == #children then end_batch(children, count, result_seconds, tombstone_seconds) end
  turn_to(child)
end

-- Whatever batches the job is of.
settle_batches = function(result_seconds, tombstone_seconds)
  for batch in string.gmatch(get('batches') or '', '%S+') do settle(batch, result_seconds, tombstone_seconds) end
end

-- An id without a job (it was evicted: the memory policy of this Redis is wrong) leaves the sets at once, and its line
-- when its turn comes.
local function drop()
  for _, of_kind in pairs(sets) do
    redis.call('ZREM', of_kind[1], id)
    redis.call('ZREM', of_kind[2], id)
  end
end

-- It has been tried too often.
local function poison(error, result_seconds, tombstone_seconds)
  redis.call('HSET', job, 'error', error)
  redis.call('HINCRBY', job, 'fence', 1)
  finish('failed', result_seconds, tombstone_seconds)
end
"""
)

RESERVE = """
-- '', token, milliseconds; the idempotency key → {'reserved'} | {'in flight'} | {'known', job, fingerprint}
-- Whoever has the key reserved reserves it for longer. A key is known as long as its job is.
local key = KEYS[14]
local known = redis.call('HGET', key, 'job')
if known and redis.call('EXISTS', job_of(known)) == 1 then
  redis.call('HINCRBY', job_of(known), 'replays', 1)
  return {'known', known, redis.call('HGET', key, 'fingerprint')}
end
local holder = redis.call('HGET', key, 'token')
if holder and holder ~= ARGV[2] then return {'in flight'} end
redis.call('DEL', key)
redis.call('HSET', key, 'token', ARGV[2])
redis.call('PEXPIRE', key, ARGV[3])
return {'reserved'}
"""

UNRESERVE = """
-- '', token; the idempotency key → nothing. No job has come of the request that had it reserved.
if redis.call('HGET', KEYS[14], 'token') == ARGV[2] then redis.call('DEL', KEYS[14]) end
"""

ADMIT = """
-- id, request, terms as JSON; the idempotency key ('' is none) and other keys
-- → {'created' | …, job} | {why not, ''}. Asked twice with the same id, it creates once.
if redis.call('EXISTS', job) == 1 then return {'created', id} end
local key = KEYS[14]
local terms = cjson.decode(ARGV[3])
local kind, webhook = terms.kind, terms.webhook

local function lives(other)
  if not other then return false end
  for _, gone in ipairs(terms.gone) do
    if other == gone then return false end
  end
  return redis.call('EXISTS', job_of(other)) == 1
end

-- From now on the idempotency key means this job, as long as there is this job.
local function remember(other)
  if key == '' then return end
  redis.call('DEL', key)
  redis.call('HSET', key, 'job', other, 'fingerprint', terms.fingerprint)
  local left = redis.call('PTTL', job_of(other))
  if left > 0 then return redis.call('PEXPIRE', key, left) end
  local keys = redis.call('HGET', job_of(other), 'keys')
  redis.call('HSET', job_of(other), 'keys', keys and keys .. ' ' .. key or key)
end

-- Whether the webhook of this request, if it has one, has room at a job.
local function has_room(other)
  if webhook == '' then return true end
  local calls = tonumber(redis.call('HGET', job_of(other), 'calls') or 0)
  return #webhooks_of(other) < terms.max_webhooks and calls < terms.max_calls
end

-- From now on the job calls the webhook of this request, too: once, if two requests have the same.
local function subscribe(other)
  if webhook == '' then return end
  local known = redis.call('HGET', job_of(other), 'webhooks')
  if known and string.find(known, webhook, 1, true) then return end
  redis.call('HSET', job_of(other), 'webhooks', known and known .. ',' .. webhook or webhook)
end

-- A job that waits is asked for more urgently than before: it waits in that class.
local function hurry(other)
  turn_to(other)
  local rank = {}
  for number, priority in ipairs(PRIORITIES) do rank[priority] = number end
  if get('state') ~= 'queued' or rank[terms.priority] >= rank[get('priority') or 'normal'] then return end
  local since = redis.call('ZSCORE', queued, id)
  dequeue()
  redis.call('HSET', job, 'priority', terms.priority)
  enqueue(since)
end

-- Whether so many more jobs have no room in the queue. Where clients are told apart, none has all of it to itself.
local function is_full(more)
  local waiting, most = redis.call('ZCARD', sets[kind][1]) + more, math.ceil(terms.limit * CLIENT_SHARE)
  if waiting > terms.limit then return true end
  if terms.client == '' or waiting <= most then return false end
  local own = more
  for _, priority in ipairs(PRIORITIES) do
    own = own + redis.call('ZCARD', line_of(kind, priority, terms.client))
  end
  return own > most
end

-- A new job, as it is written down.
local function write_down(of_kind, request)
  redis.call('HSET', job, 'id', id, 'kind', of_kind, 'request', request, 'state', 'queued', 'attempt', 0, 'fence', 0,
    'created_at', now(), 'priority', terms.priority, 'client', terms.client, 'origin', terms.origin,
    'place', redis.call('INCR', order))
end

-- It waits, and is found by the same request ('' is none).
local function put_in_line(same)
  if same ~= '' then
    redis.call('SET', same, id)
    redis.call('HSET', job, 'same', same)
  end
  enqueue(now())
  announce('queued')
  count_one('admitted', get('kind'), 'created')
end

if key ~= '' then
  local known, holder = unpack(redis.call('HMGET', key, 'job', 'token'))
  if lives(known) then
    if redis.call('HGET', key, 'fingerprint') ~= terms.fingerprint then return {'other payload', ''} end
    redis.call('HINCRBY', job_of(known), 'replays', 1)
    return {'replayed', known}
  end
  if holder and holder ~= terms.token then return {'in flight', ''} end
end
"""

CREATE = (
    ADMIT
    + """
-- Further keys: that of the same request ('' is none).
-- → {'created' | 'replayed' | 'shared' | 'hit', job} | {'full' | 'taken' | 'other payload' | 'in flight', ''}
-- A name (of a style to train) may be that of one job at a time.
local same = KEYS[15]
local earlier = same ~= '' and terms.may_find and redis.call('GET', same)
if lives(earlier) and has_room(earlier) then
  local state = redis.call('HGET', job_of(earlier), 'state')
  if not is_terminal(state) then
    redis.call('HINCRBY', job_of(earlier), 'sharers', 1)
    remember(earlier)
    subscribe(earlier)
    hurry(earlier)
    count_one('admitted', kind, 'shared')
    return {'shared', earlier}
  end
  local left = redis.call('PTTL', job_of(earlier))
  if left >= terms.hit_milliseconds then
    remember(earlier)
    if webhook ~= '' then  -- what it waits for has happened
      call(earlier, 'job.' .. state, {cjson.decode(webhook)})
      redis.call('PEXPIRE', beside('deliveries:') .. earlier, left)
    end
    count_one('admitted', kind, 'hit')
    return {'hit', earlier}
  end
end

queued, running = unpack(sets[kind])
if terms.name ~= '' then
  local holder = redis.call('HGET', names, terms.name)
  local state = holder and redis.call('HGET', job_of(holder), 'state')
  if state and not is_terminal(state) then return {'taken', ''} end
end
if is_full(1) then return {'full', ''} end
if terms.name ~= '' then
  redis.call('HSET', names, terms.name, id)
  redis.call('HSET', job, 'name', terms.name)
end
write_down(kind, ARGV[2])
remember(id)
subscribe(id)
put_in_line(same)
return {'created', id}
"""
)

CREATE_BATCH = (
    ADMIT
    + """
-- Further keys: for each child that of the same request ('' is none), which may be a job that there is.
-- → {'created' | 'replayed', job} | {'full' | 'other payload' | 'in flight', ''}. All children are taken, or none.
queued, running = unpack(sets[kind])
local chosen, fresh, of_same = {}, {}, {}
local new = 0
for number, child in ipairs(terms.jobs) do
  local same = KEYS[14 + number]
  local earlier = same ~= '' and terms.may_find and (of_same[same] or redis.call('GET', same))
  if earlier and not of_same[same] then
    local state = lives(earlier) and redis.call('HGET', job_of(earlier), 'state')
    local lasts = state and redis.call('PTTL', job_of(earlier))
    local _, of = string.gsub(state and redis.call('HGET', job_of(earlier), 'batches') or '', '%S+', '')
    -- Whatever becomes of a job is written down in all of its batches, so they are few: then it gets a job of its own.
    local will_do = state and (is_terminal(state) and lasts >= terms.hit_milliseconds
      or not is_terminal(state) and of < MAX_BATCHES)
    if not will_do then earlier = false end
  end
  if not earlier then
    earlier, new = child.id, new + 1
    fresh[child.id] = {child.request, same}
  end
  if same ~= '' then of_same[same] = earlier end
  chosen[number] = earlier
end
if is_full(new) then return {'full', ''} end

write_down('batch', ARGV[2])
remember(id)
subscribe(id)
redis.call('SADD', beside('batches'), id)
announce('queued')
count_one('admitted', 'batch', 'created')
local batch, children, taken = id, {}, {}
for number, other in ipairs(chosen) do
  turn_to(other)
  if fresh[other] and not taken[other] then
    write_down(kind, fresh[other][1])
    put_in_line(fresh[other][2])
  elseif not taken[other] then
    if is_terminal(get('state')) then
      count_one('admitted', kind, 'hit')
    else
      redis.call('HINCRBY', job, 'sharers', 1)
      hurry(other)
      count_one('admitted', kind, 'shared')
    end
  end
  if not taken[other] and not is_terminal(get('state')) then
    redis.call('HSET', job, 'batches', (get('batches') or '') .. ' ' .. batch)
  end
  taken[other] = true
  children[number] = {id = other, state = get('state')}
end
turn_to(batch)
redis.call('HSET', job, 'children', cjson.encode(children), 'ended', 0)
settle(batch, terms.result_seconds, terms.tombstone_seconds)
return {'created', batch}
"""
)

SNAPSHOT = """
-- id → {fields and values of the job, its latest event}. Not a transaction: those are refused when memory is short.
local latest = redis.call('XREVRANGE', events, '+', '-', 'COUNT', 1)
return {redis.call('HGETALL', job), latest[1] and latest[1][1] or '0-0'}
"""

FORGET = """
-- id → nothing. Takes a job back whose ticket could not be sent, unless somebody has it already, or another request has
-- been given it: then the reaper sends the ticket. Of a batch, the jobs that came with it, too.
local function forget(needed)
  if needed or get('fence') ~= '0' or get('sharers') or get('replays') then return end
  free_name()
  free_same()
  for_keys('DEL')
  dequeue()
  local kind = get('kind') or 'stylize'
  redis.call('SREM', beside('batches'), id)
  redis.call('DEL', job, events, beside('deliveries:') .. id)
  count_one('finished', kind, 'forgotten')  -- last: a Redis short of memory takes it after what makes room only
end
local batch, children = id, cjson.decode(get('children') or '[]')
if #children > 0 then forget(is_terminal(get('state'))) else forget(get('state') ~= 'queued') end
if redis.call('EXISTS', job) == 1 then return end
for _, child in ipairs(children) do
  turn_to(child.id)
  if get('batches') == ' ' .. batch then forget(get('state') ~= 'queued') end
end
"""

PICK = """
-- '', kind, token, 1 when it is worked on alone, attempts allowed, lost_after, poison error, result_seconds,
-- tombstone_seconds; where the pick is noted → {'claimed', job, fence} | {'suspect', job, 0} | {'nothing', '', 0}
-- The job whose turn it is, and the right to work on it. One that was tried before (a suspect) is had alone only: one
-- who asks is told so, for the others it is passed over meanwhile, and keeps its turn. Asked twice with the same token
-- (the answer was lost), it picks once.
local kind, token, noted = ARGV[2], ARGV[3], KEYS[14]
local passed = order .. ':' .. kind  -- how often each class has been passed over since its last pick
local earlier = redis.call('GET', noted)
if earlier then
  turn_to(earlier)
  return get('claimed_by') == token and {'claimed', id, tonumber(get('fence'))} or {'nothing', '', 0}
end

-- The highest class in which somebody waits, unless a lower one has been passed over too often.
local function next_class()
  local highest
  for _, priority in ipairs(PRIORITIES) do
    if redis.call('EXISTS', clients_of(kind, priority)) == 1 then
      if highest and tonumber(redis.call('HGET', passed, priority) or 0) >= SHARE - 1 then return priority end
      highest = highest or priority
    end
  end
  return highest
end

-- This client of this class has had its turn.
local function pass_on(picked, client)
  for _, priority in ipairs(PRIORITIES) do
    if priority == picked then redis.call('HDEL', passed, priority)
    elseif redis.call('EXISTS', clients_of(kind, priority)) == 1 then redis.call('HINCRBY', passed, priority, 1) end
  end
  redis.call('ZADD', clients_of(kind, picked), 'XX', redis.call('INCR', order), client)
end

-- Whether a job is a suspect that somebody else has been told of.
local function is_spoken_for(other)
  return ARGV[4] == '0' and tonumber(redis.call('HGET', job_of(other), 'attempt') or 0) > 0
    and redis.call('EXISTS', beside('suspect:') .. other) == 1
end

-- The first of a class that may be had, and whose it is.
local function first_of(class)
  for _, client in ipairs(redis.call('ZRANGE', clients_of(kind, class), 0, -1)) do
    local other = redis.call('ZRANGE', line_of(kind, class, client), 0, 0)[1]
    if other and not is_spoken_for(other) then return other, client end
  end
end

-- Whose turn it is: the job, its class, its client. One that is in no line is of a version of Atelier that knew none,
-- or its record is gone.
local function next_job()
  local oldest = redis.call('ZRANGE', sets[kind][1], 0, 0)[1]
  if oldest and redis.call('HEXISTS', job_of(oldest), 'place') == 0 and not is_spoken_for(oldest) then return oldest end
  local class = next_class()
  if not class then return end
  local other, client = first_of(class)
  if other then return other, class, client end
  for _, lower in ipairs(PRIORITIES) do
    other, client = first_of(lower)
    if other then return other, lower, client end
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

SCRIPTS = (
    "RESERVE",
    "UNRESERVE",
    "CREATE",
    "CREATE_BATCH",
    "SNAPSHOT",
    "FORGET",
    "PICK",
    "BEAT",
    "PROGRESS",
    "COMMIT",
    "RELEASE",
    "CANCEL",
    "REQUEUE",
    "WAITING",
)
