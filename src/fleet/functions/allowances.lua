-- What callers have spent of their allowances at one replica; answers after how long each is whole again, by what all
-- replicas say. Each is kept as the one instant at which it is whole (the generic cell rate algorithm).
-- Keys: the accounts. Arguments: how far ahead an instant may lie, then for each account how many it may spend in a
-- minute, how many were spent since this replica last said so, how long ago the first of them was, and after how long
-- the account is whole by what the replica knows: an engine that has forgotten all hears of it from them.
register('spend', function(keys, args)
  local now, most = now_ms(), tonumber(args[1])
  local missing = {}
  for at, key in ipairs(keys) do
    local limit, spent, ago, known = unpack(args, 4 * at - 2, 4 * at + 1)
    local whole_at = math.max(tonumber(redis.call('GET', key)) or 0, now - ago) + spent * 60000 / limit
    whole_at = math.min(math.max(whole_at, now + known), now + most)
    -- One that is whole may have been so for less time than another replica looks back.
    local kept = math.ceil(whole_at - now) + 60000
    if kept > 0 then redis.call('SET', key, string.format('%.3f', whole_at), 'PX', kept) end
    missing[at] = math.max(0, math.floor(whole_at - now))
  end
  return missing
end)
