"""The scripts that make a job of a request, on the terms of ``contract.admission``: a new one, or one that there is.

They keep idempotency keys, too, and take back a job whose ticket could not be sent. Each runs after the prelude
(``contract.prelude``), which says what keys it gets.
"""

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

-- A new job, as it is written down. How many pixels it has stands beside the request, where PICK looks for it.
local function write_down(of_kind, request)
  local size = cjson.decode(request)
  redis.call('HSET', job, 'id', id, 'kind', of_kind, 'request', request, 'state', 'queued', 'attempt', 0, 'fence', 0,
    'created_at', now(), 'priority', terms.priority, 'client', terms.client, 'origin', terms.origin,
    'place', redis.call('INCR', order), 'file_pixels', size.file_pixels or 0, 'result_pixels', size.result_pixels or 0)
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

SCRIPTS = {
    "RESERVE": RESERVE,
    "UNRESERVE": UNRESERVE,
    "CREATE": CREATE,
    "CREATE_BATCH": CREATE_BATCH,
    "FORGET": FORGET,
}
