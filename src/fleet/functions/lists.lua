-- Lists, and the leases under which they are fetched. Keys: the entry, the lease, and the project's purges.
-- An entry is 49 bytes in clear and the sealed list: 'f' if its fetch was forced, else 'o'; when its lease was
-- granted, when it was stored and until when it is fresh, as 16 digits of milliseconds.

local function purges(marks_key, hard, soft)
  local marks = redis.call('HMGET', marks_key, 'hard', 'soft')
  return math.max(tonumber(marks[1]) or 0, tonumber(hard)), math.max(tonumber(marks[2]) or 0, tonumber(soft))
end

-- The entry, if it may be believed, and whether there is one at all.
local function look_at_entry(entry_key, marks_key, hard, soft, now)
  local value = redis.call('GET', entry_key)
  if not value then return nil, false end
  local entry = {
    value = value,
    forced = value:sub(1, 1) == 'f',
    granted = tonumber(value:sub(2, 17)),
    stored = tonumber(value:sub(18, 33)),
    fresh_until = tonumber(value:sub(34, 49)),
  }
  hard, soft = purges(marks_key, hard, soft)
  local is_whole = entry.granted and entry.stored and entry.fresh_until
  -- One from the future was dated by a clock that has been set back.
  if not is_whole or entry.stored > now or entry.stored <= hard then
    return nil, true
  end
  if entry.stored <= soft then entry.fresh_until = 0 end
  return entry, true
end

local function read_entry(entry_key, marks_key, hard, soft, now)
  local entry, is_there = look_at_entry(entry_key, marks_key, hard, soft, now)
  if is_there and not entry then redis.call('DEL', entry_key) end
  return entry
end

-- Arguments: 'fresh' or 'forced', and milliseconds: for how long the list must be fresh still, or since when at most
-- its fetch was forced; the lease to grant, if one is wanted, and its milliseconds; and the last purge and the last soft purge of
-- everything that the replica has heard of.
-- Answers {'list', now, entry}, {'lease', now, old entry}, {'free', now, old entry} without one, {'held', now, old entry, milliseconds} or
-- {'failed', now, failure}: a fourth key is the failure of the lease that was waited for.
local function open(keys, args)
  local now, is_forced, span = now_ms(), args[1] == 'forced', tonumber(args[2])
  local entry = read_entry(keys[1], keys[3], args[5], args[6], now)
  local old = entry and entry.value or ''
  local function is_recently_forced(forced, granted) return forced and now - granted < span end
  if entry then
    local will_do = entry.fresh_until - now > span
    if is_forced then will_do = is_recently_forced(entry.forced, entry.granted) end
    if will_do then return {'list', now, old} end
  end
  local failure = keys[4] and redis.call('GET', keys[4])
  if failure then return {'failed', now, failure} end
  local lease = redis.call('HMGET', keys[2], 'id', 'granted', 'forced')
  if lease[1] and (not is_forced or is_recently_forced(lease[3] == '1', tonumber(lease[2]))) then
    redis.call('HSET', keys[2], 'awaited', '1')
    return {'held', now, old, redis.call('PTTL', keys[2]), lease[1]}
  end
  if args[3] == '' then return {'free', now, old} end
  redis.call('HSET', keys[2], 'id', args[3], 'granted', now, 'forced', is_forced and '1' or '0', 'soft', '0')
  redis.call('PEXPIRE', keys[2], args[4])
  return {'lease', now, old}
end

-- What there is of a list, for an operator. Keys: the entry, the lease, and the project's purges. Arguments: the last
-- purges of everything. Answers 1 if there is an entry and 0 if there is none; how long ago it was stored and for how
-- long it is fresh; and for how long a lease is held. All in milliseconds.
local function look(keys, args)
  local now = now_ms()
  local entry = look_at_entry(keys[1], keys[3], args[1], args[2], now)
  local lease_left = math.max(redis.call('PTTL', keys[2]), 0)
  if not entry then return {0, 0, 0, lease_left} end
  return {1, now - entry.stored, math.max(entry.fresh_until - now, 0), lease_left}
end

-- Keeps a lease. Keys: the lease. Arguments: its id and milliseconds. Answers whether it is still held.
local function renew(keys, args)
  if redis.call('HGET', keys[1], 'id') ~= args[1] then return 0 end
  redis.call('PEXPIRE', keys[1], args[2])
  return 1
end

local function end_lease(lease_key, awaited, bell, name)
  redis.call('DEL', lease_key)
  if awaited == '1' then redis.call('PUBLISH', bell, name) end
end

-- Stores what was fetched under a lease, unless it was lost or purged meanwhile. Arguments: the lease, the last
-- purges of everything, milliseconds of freshness and of keeping, the sealed list, the bell and what to ring.
-- Answers whether it was stored.
local function store(keys, args)
  local now = now_ms()
  local lease = redis.call('HMGET', keys[2], 'id', 'granted', 'awaited', 'forced', 'soft')
  if lease[1] ~= args[1] then return 0 end
  local hard, soft = purges(keys[3], args[2], args[3])
  local granted = tonumber(lease[2])
  if granted > now or granted <= hard then
    end_lease(keys[2], lease[3], args[7], args[8])
    return 0
  end
  local fresh_until = now + tonumber(args[4])
  if lease[5] == '1' or granted <= soft then fresh_until = now end
  local head = string.format('%s%016d%016d%016d', lease[4] == '1' and 'f' or 'o', granted, now, fresh_until)
  redis.call('SET', keys[1], head .. args[6], 'PX', args[5])
  end_lease(keys[2], lease[3], args[7], args[8])
  return 1
end

-- Ends a lease whose fetch has failed. Keys: the lease and where its failure is kept for those who wait for it.
-- Arguments: the lease, the sealed failure and its milliseconds, the bell and what to ring.
local function fail(keys, args)
  local lease = redis.call('HMGET', keys[1], 'id', 'awaited')
  if lease[1] ~= args[1] then return 0 end
  if lease[2] == '1' then redis.call('SET', keys[2], args[2], 'PX', args[3]) end
  end_lease(keys[1], lease[2], args[4], args[5])
  return 1
end

-- Forgets one list and the fetch under way. Keys: the entry, the lease, the events and the last of them. Arguments:
-- 'hard' or 'soft', the sealed event, the bell. Answers the number of the event.
local function purge_list(keys, args)
  if args[1] == 'hard' then
    redis.call('DEL', keys[1])
    redis.call('DEL', keys[2])
  else
    if redis.call('EXISTS', keys[1]) == 1 then
      redis.call('SETRANGE', keys[1], 33, string.format('%016d', now_ms()))
    end
    if redis.call('EXISTS', keys[2]) == 1 then redis.call('HSET', keys[2], 'soft', '1') end
  end
  return note_event(keys[3], keys[4], args[1], args[2], args[3])
end

-- Forgets the lists of a project, or ends their fresh life. Keys: its purges, the events and the last of them.
-- Arguments: 'hard' or 'soft', the sealed event, the bell, for how long it is remembered.
local function purge_project(keys, args)
  redis.call('HSET', keys[1], args[1], now_ms())
  redis.call('PEXPIRE', keys[1], args[4])
  return note_event(keys[2], keys[3], args[1], args[2], args[3])
end

-- Tells the other replicas of something. Keys: the events and the last of them. Arguments: the kind, the sealed event,
-- the bell.
local function tell(keys, args)
  return note_event(keys[1], keys[2], args[1], args[2], args[3])
end

register('open', open)
register('look', look, {'no-writes'})
register('renew', renew)
register('store', store)
register('fail', fail)
register('purge_list', purge_list, {'allow-oom'})
register('purge_project', purge_project, {'allow-oom'})
register('tell', tell, {'allow-oom'})
