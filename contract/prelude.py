"""What stands before every script of the job book: its keys, its numbers, and the functions that several scripts call.

A script is one step that a job can take, and atomic: it runs inside Redis (6.2 or newer, not a cluster). Those that
make jobs of requests are in ``contract.admission_scripts``, those for jobs that there are in ``contract.transitions``.

Every script gets the same keys: the job's hash, its heartbeat, its tombstone, its event stream, the names of styles
that are being trained, the stream that says which jobs have events, how long jobs take, how many there were, for each
kind of job the sets of those that wait and that run (scores are times), and under which name those that wait have their
order. The first argument is the job's id, or '' when the script is about none. What else a script gets, it says itself.
Time is Redis's own, so the clocks of gateways and workers do not matter.

The order of those that wait, of each kind: a set of clients for each class of priority (scores are the order of their
turns), and a set of jobs for each client of a class (scores are the order in which they came). Under the bare name
stands the latest number that was given out as such a score. Who picks small pictures only passes over large ones, which
keep their turns: the turns that clients have had by such picks are in sets of their own.

A batch is a job that nobody works on: its record holds its children, jobs like all others, as JSON with their states.
Whatever script moves a child moves its batches along, and ends them with the last child.
"""

ANNOUNCEMENTS_KEPT = 10_000
"""How many of the latest events can still be heard of by a process that was busy meanwhile."""
SHARE = 8
"""A class of priority in which somebody waits is given one pick in so many, whatever waits in higher ones."""
LOOK_PAST = 100
"""How many large pictures of one client are passed over, at most, by who looks for a small one of it."""

MAX_BATCHES = 8
"""Of which one job that waits or runs may be a child."""

CLIENT_SHARE = 0.75
"""How much of the queue may be filled by one client, where clients are told apart."""

PRELUDE = (
    f"local ANNOUNCEMENTS_KEPT, SHARE, LOOK_PAST = {ANNOUNCEMENTS_KEPT}, {SHARE}, {LOOK_PAST}\n"
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

-- Where the turns are that clients of a class have had when small pictures only were picked.
local function small_turns_of(kind, priority)
  return order .. ':small:' .. kind .. ':' .. priority
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
  if redis.call('EXISTS', line) == 1 then return end
  redis.call('ZREM', clients_of(kind, priority), client)
  redis.call('ZREM', small_turns_of(kind, priority), client)
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
