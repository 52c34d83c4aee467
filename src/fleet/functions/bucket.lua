-- A project's bucket at Atlas, for the whole fleet: our share of it (the generic cell rate algorithm of ITU-T I.371),
-- an estimate of what is left of it at Atlas, and the cooldown that Atlas has asked for. The rules are those of
-- `TokenBucket` and `Cooldown` in src/upstream/limiter, where a replica keeps its own bucket. Key: the bucket.
--
-- Each replica brings what it last knew, and the stricter holds, so that nothing is spent twice when the engine has
-- lost its memory. And nothing lies further ahead than it ever could, so that a clock that was set back holds up
-- nobody for long. Our share is counted in microseconds: the time in which one call comes back is a whole number.

local FIELDS = {
  'full_at', 'interval', 'remaining', 'seen', 'emptied', 'gate', 'cause', 'wait', 'probe', 'slow', 'second', 'admitted',
}
local KEPT, PERIOD, LONGEST_GATE, BETWEEN_PROBES, SLOW_START = 3600000, 60000, 330000, 1000, 10000
local LONGEST_HEARSAY = 1000
-- In microseconds.
local LONGEST_MESSAGE = 20000
-- Seconds of which the grants are remembered.
local GRANT_SLOTS = 128

local function named(names, values)
  local by_name = {}
  for at, name in ipairs(names) do
    local value = tonumber(values[at])
    -- Neither `nan` nor `inf`, which would stay for ever.
    if value and math.abs(value) < 2 ^ 53 then by_name[name] = value end
  end
  return by_name
end

local function read_bucket(key, now)
  local bucket = named(FIELDS, redis.call('HMGET', key, unpack(FIELDS)))
  for field, latest in pairs({seen = now, slow = now, gate = now + LONGEST_GATE, probe = now + LONGEST_GATE}) do
    if bucket[field] then bucket[field] = math.min(bucket[field], latest) end
  end
  return bucket
end

local function write_bucket(key, bucket)
  local values = {}
  for _, field in ipairs(FIELDS) do
    table.insert(values, field)
    table.insert(values, bucket[field] or '')
  end
  redis.call('HSET', key, unpack(values))
  redis.call('PEXPIRE', key, KEPT)
end

-- Remembers how many calls were granted in this second.
local function note_grants(key, calls, now)
  local second = math.floor(now / 1000)
  local field = 'granted ' .. second % GRANT_SLOTS
  local of, count = string.match(redis.call('HGET', key, field) or '', '^(%d+) (%d+)$')
  if tonumber(of) ~= second then count = 0 end
  redis.call('HSET', key, field, string.format('%d %d', second, count + calls))
end

-- How many calls were granted within a time. Those may have reached Atlas after an answer that comes now was made.
local function granted_within(key, window, now)
  local first, last, granted = math.floor((now - window) / 1000), math.floor(now / 1000), 0
  for _, value in ipairs(redis.call('HGETALL', key)) do
    local second, count = string.match(value, '^(%d+) (%d+)$')
    second = tonumber(second)
    if second and second >= first and second <= last then granted = granted + count end
  end
  return granted
end

-- What is missing of our share, in microseconds, by what is kept here and what the replica knows.
local function missing_share(bucket, ask, now)
  local missing = math.max((bucket.full_at or 0) - now * 1000, 0)
  if bucket.interval and bucket.interval ~= ask.interval then
    missing = math.ceil(missing / bucket.interval * ask.interval)
  end
  missing = math.max(missing - ask.returned * ask.interval, 0) + ask.untaken * ask.interval
  -- By less it differs in any case, because a message takes its time.
  if ask.missing > missing + LONGEST_MESSAGE then
    missing = ask.missing
    -- The engine has lost its memory. Since the replica last heard others may have taken what came back.
    if not bucket.full_at then missing = missing + math.min(ask.heard_ago, LONGEST_HEARSAY) * 1000 end
  end
  -- Further ahead than it ever could be: the clock was set back. Then all of it is missing.
  if missing > (2 * ask.capacity + 100) * ask.interval then return ask.burst * ask.interval end
  return missing
end

-- Brings what is kept up to now, and takes up what the replica knows where that is stricter.
local function bring_up(bucket, ask, now)
  bucket.missing, bucket.interval = missing_share(bucket, ask, now), ask.interval
  if bucket.seen then
    local periods = math.floor((now - bucket.seen) / PERIOD)
    bucket.remaining = bucket.remaining + periods * ask.refill + ask.returned - ask.untaken
    bucket.seen = bucket.seen + periods * PERIOD
    -- What was seen earlier does not count: more may have come back since.
    if now - ask.seen_ago >= bucket.seen then bucket.remaining = math.min(bucket.remaining, ask.remaining) end
  else
    bucket.remaining, bucket.seen = ask.remaining, now - ask.seen_ago
  end
  bucket.remaining = math.max(math.min(bucket.remaining, ask.capacity), 0)
  if not bucket.gate and ask.gate_left > 0 then
    bucket.gate = now + math.min(ask.gate_left, LONGEST_GATE)
    bucket.probe, bucket.cause, bucket.wait = bucket.gate, ask.cause, ask.wait
  end
end

local function forget_cooldown(bucket)
  for _, field in ipairs({'gate', 'cause', 'wait', 'probe', 'slow', 'second', 'admitted'}) do bucket[field] = nil end
end

-- A few fetches each second, and more with each. Answers how long to wait, if that is so.
local function admit_slowly(bucket, ask, now)
  local elapsed = now - bucket.slow
  if elapsed >= SLOW_START then return forget_cooldown(bucket) end
  local second = math.floor(elapsed / 1000)
  if second ~= bucket.second then bucket.second, bucket.admitted = second, 0 end
  if ask.first == 1 and bucket.admitted >= 2 ^ second then return (second + 1) * 1000 - elapsed end
  bucket.admitted = bucket.admitted + ask.calls
end

-- Answers 'granted', or which limit holds the calls back and for how many milliseconds.
local function admit(bucket, ask, now)
  if bucket.gate and not bucket.slow then
    if bucket.probe > now then return 'cooldown', bucket.probe - now end
    -- The probe is how we learn what is left. One that is lost is followed by another.
    bucket.probe = now + BETWEEN_PROBES
    return 'granted', 0
  end
  local needed = ask.calls + ask.kept_back
  if ask.burst - math.ceil(bucket.missing / ask.interval) < needed then
    local spare = math.max(ask.burst - needed, 0) * ask.interval
    return 'own_share', math.ceil((bucket.missing - spare) / 1000)
  end
  local short = ask.least + ask.calls - bucket.remaining
  if short > 0 then
    return 'bucket_low', bucket.seen + math.ceil(short / math.max(ask.refill, 1)) * PERIOD - now
  end
  local wait = bucket.slow and admit_slowly(bucket, ask, now)
  if wait then return 'cooldown', wait end
  return 'granted', 0
end

local TAKE = {
  'calls', 'first', 'kept_back', 'least', 'burst', 'capacity', 'refill', 'interval', 'returned', 'untaken', 'missing',
  'heard_ago', 'remaining', 'seen_ago', 'gate_left', 'cause', 'wait',
}

-- Takes so many calls, or none. Arguments: those of `TAKE`. `kept_back` is what must be left of our share, `least`
-- what must be left at Atlas; `returned` are calls that were taken and not made, `untaken` those that were made and not
-- taken; from `missing` on they are what the replica knows. Answers {what, milliseconds to wait} and the bucket as it is now: what is missing of our share, what
-- is left at Atlas, how long ago that was seen, and of the cooldown whether it has begun, begins to end or is over
-- ('closed', 'slow', 'open'), how long it still is, its cause and how long it is in all.
local function take(keys, args)
  local ask, now = named(TAKE, args), now_ms()
  local bucket = read_bucket(keys[1], now)
  bring_up(bucket, ask, now)
  local what, wait = admit(bucket, ask, now)
  local made = ask.untaken
  if what == 'granted' then
    bucket.missing = bucket.missing + ask.calls * ask.interval
    bucket.remaining = math.max(bucket.remaining - ask.calls, 0)
    made = made + ask.calls
  end
  if made > 0 then note_grants(keys[1], made, now) end
  bucket.full_at = now * 1000 + bucket.missing
  write_bucket(keys[1], bucket)
  local phase = bucket.slow and 'slow' or bucket.gate and 'closed' or 'open'
  local gate_left = math.max((bucket.gate or now) - now, 0)
  return {
    what, wait, bucket.missing, bucket.remaining, now - bucket.seen, phase, gate_left, bucket.cause or 0,
    bucket.wait or 0,
  }
end

local OBSERVE = {'is_answered', 'remaining', 'reserved', 'window', 'capacity', 'cause', 'wait'}

-- Learns from an answer of Atlas. Arguments: those of `OBSERVE`. `remaining` may be empty; `reserved` are calls of the
-- replica that were not sent yet; within `window` milliseconds calls were granted that the answer may not know of;
-- `cause` is 429 or 503 if Atlas asks for a cooldown, for `wait` milliseconds.
local function observe(keys, args)
  local told, now = named(OBSERVE, args), now_ms()
  local bucket = read_bucket(keys[1], now)
  if told.is_answered == 1 and bucket.gate and not bucket.slow and now >= bucket.gate then
    bucket.slow, bucket.second, bucket.admitted = now, 0, 0
    if bucket.emptied then bucket.remaining, bucket.emptied = told.capacity, nil end
  end
  -- Where nothing is kept, the next replica that asks brings what it knows.
  if told.remaining and bucket.seen then
    local maybe_missing = math.max(granted_within(keys[1], told.window, now) - 1, told.reserved)
    local least, most = math.max(told.remaining - maybe_missing, 0), math.max(told.remaining - told.reserved, 0)
    bucket.remaining = math.min(math.max(bucket.remaining, least), most, told.capacity)
    bucket.seen = now
  end
  if told.cause > 0 then
    local gate = now + math.min(told.wait, LONGEST_GATE)
    -- Several calls may be told to wait at the same time; the longest wait holds.
    if not bucket.gate or bucket.slow or gate > bucket.gate then
      forget_cooldown(bucket)
      bucket.gate, bucket.probe, bucket.cause, bucket.wait = gate, gate, told.cause, told.wait
    end
    if told.cause == 429 then bucket.remaining, bucket.seen, bucket.emptied = 0, now, 1 end
  end
  write_bucket(keys[1], bucket)
  return 1
end

register('take', take)
register('observe', observe)
