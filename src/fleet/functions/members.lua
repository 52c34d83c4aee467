-- Who runs. Keys: the members. Arguments: the replica, the number of the last event that it has heard, the
-- fingerprint of its configuration, and the bell. Answers {members, with another fingerprint}.
local function here(keys, args)
  local now = now_ms()
  local before = redis.call('HGET', keys[1], args[1])
  if before and before:match('^%d+ (%d+) ') ~= args[2] then redis.call('PUBLISH', args[4], 'heard') end
  redis.call('HSET', keys[1], args[1], string.format('%016d %d %s', now, args[2], args[3]))
  redis.call('PEXPIRE', keys[1], 60000)
  local members, differing = 0, 0
  local all = redis.call('HGETALL', keys[1])
  for at = 1, #all, 2 do
    local seen, _, fingerprint = all[at + 1]:match('^(%d+) (%d+) (%w+)$')
    -- One that has stopped is gone after five seconds.
    if seen and now - tonumber(seen) < 5000 then
      members = members + 1
      if fingerprint ~= args[3] then differing = differing + 1 end
    else
      redis.call('HDEL', keys[1], all[at])
    end
  end
  return {members, differing}
end

-- How many replicas run, and how many of them have heard an event. Keys: the members. Arguments: its number.
local function heard(keys, args)
  local now, event = now_ms(), tonumber(args[1])
  local members, confirmed = 0, 0
  local all = redis.call('HGETALL', keys[1])
  for at = 1, #all, 2 do
    local seen, last = all[at + 1]:match('^(%d+) (%d+) ')
    if seen and now - tonumber(seen) < 5000 then
      members = members + 1
      if tonumber(last) >= event then confirmed = confirmed + 1 end
    end
  end
  return {members, confirmed}
end

register('here', here)
-- A replica stops. Keys: the members. Arguments: the replica.
register('leave', function(keys, args) return redis.call('HDEL', keys[1], args[1]) end)
register('heard', heard)
register('version', function() return 2 end)
