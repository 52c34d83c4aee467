-- Tokens of service accounts, one per fleet. Keys: 't' the token, 'l' the lease under which one is minted, 'z' the
-- mints of the last hour and 'r' when a token was last replaced before its time.
-- A token is 32 digits of its hash, 16 of when it was minted, in milliseconds, and the sealed token. A mint that
-- brought no living token has 'v:' before its id: it counts for the minute, and not for the hour.

local MINUTE, HOUR = 60000, 3600000
local HASH, HEAD = 32, 48

local function add_mint(mints_key, id, at, is_vain)
  if is_vain then
    redis.call('ZREM', mints_key, id)
    redis.call('ZADD', mints_key, 'NX', at, 'v:' .. id)
  elseif not redis.call('ZSCORE', mints_key, 'v:' .. id) then
    redis.call('ZADD', mints_key, 'NX', at, id)
  end
  redis.call('PEXPIRE', mints_key, HOUR)
end

-- In how many milliseconds as few of these times are within the last `span` as allow one more.
local function wait_of(times, most, span, now)
  if #times < most then return 0 end
  return math.max(times[#times - most + 1] + span - now, 1)
end

local function mint_wait(mints_key, now, most_a_minute, most_alive)
  redis.call('ZREMRANGEBYSCORE', mints_key, '-inf', now - HOUR)
  -- Those of the future were dated by a clock that has been set back.
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', mints_key, string.format('(%d', now), '+inf')) do
    redis.call('ZADD', mints_key, now, id)
  end
  local recent, alive = {}, {}
  local all = redis.call('ZRANGEBYSCORE', mints_key, '-inf', '+inf', 'WITHSCORES')
  for at = 1, #all, 2 do
    local asked = tonumber(all[at + 1])
    if asked > now - MINUTE then recent[#recent + 1] = asked end
    if all[at]:sub(1, 2) ~= 'v:' then alive[#alive + 1] = asked end
  end
  return math.max(wait_of(recent, most_a_minute, MINUTE, now), wait_of(alive, most_alive, HOUR, now))
end

-- A token other than the one that the replica has, or the right to mint one. Arguments: the lease to grant, which
-- is the mint's id, and its milliseconds; the hash of the replica's own token; why it wants another ('want',
-- 'refused' or 'doubted') and how far apart such replacements are; the most mints in a minute and alive.
-- Answers {'token', token, its age and what is left, in milliseconds}, {'lease'}, {'held', milliseconds} or
-- {'limited', milliseconds}.
local function token(keys, args)
  local now, own, why = now_ms(), args[3], args[4]
  local value = redis.call('GET', keys[1])
  local minted = value and tonumber(value:sub(HASH + 1, HEAD))
  if minted and value:sub(1, HASH) ~= own then
    return {'token', value, math.max(now - minted, 0), redis.call('PTTL', keys[1])}
  end
  if redis.call('EXISTS', keys[2]) == 1 then
    return {'held', redis.call('PTTL', keys[2])}
  end
  if value and why ~= 'want' then
    local replaced, between = tonumber(redis.call('GET', keys[4])), tonumber(args[5])
    local wait = replaced and math.min(replaced + between - now, between) or 0
    if wait > 0 then return {'limited', wait} end
    if why == 'refused' then redis.call('DEL', keys[1]) end
  end
  local wait = mint_wait(keys[3], now, tonumber(args[6]), tonumber(args[7]))
  if wait > 0 then return {'limited', wait} end
  add_mint(keys[3], args[1], now, false)
  redis.call('HSET', keys[2], 'id', args[1], 'early', why == 'want' and '0' or '1')
  redis.call('PEXPIRE', keys[2], args[2])
  return {'lease'}
end

-- Stores a token that was minted under a lease; without one only where there is none. Keys: 't', 'l', 'r'.
-- Arguments: the lease, the token's hash, its age and for how long it is kept, in milliseconds, the sealed token,
-- the bell. Answers whether it was stored.
local function store_token(keys, args)
  local now, lease = now_ms(), redis.call('HMGET', keys[2], 'id', 'early')
  local is_held = lease[1] == args[1]
  if not is_held and redis.call('EXISTS', keys[1]) == 1 then return 0 end
  local head = string.format('%s%016d', args[2], now - tonumber(args[3]))
  redis.call('SET', keys[1], head .. args[5], 'PX', args[4])
  if is_held then
    if lease[2] == '1' then redis.call('SET', keys[3], now, 'PX', HOUR) end
    redis.call('DEL', keys[2])
  end
  redis.call('PUBLISH', args[6], 'token')
  return 1
end

-- Ends a lease under which no token was minted. Keys: 'l', 'z'. Arguments: the lease, what came of the mint
-- ('unsent', 'vain' or 'unknown'), the bell.
local function fail_token(keys, args)
  if args[2] == 'unsent' then redis.call('ZREM', keys[2], args[1]) end
  if args[2] == 'vain' then add_mint(keys[2], args[1], now_ms(), true) end
  if redis.call('HGET', keys[1], 'id') == args[1] then
    redis.call('DEL', keys[1])
    redis.call('PUBLISH', args[3], 'token')
  end
  return 1
end

-- Adds what a replica knows of its own mints. Keys: 't', 'z'. Arguments: id, age in milliseconds and '1' if it was
-- in vain, of each. Answers the hash of the token that is there.
local function keep_token(keys, args)
  local now = now_ms()
  for at = 1, #args, 3 do
    add_mint(keys[2], args[at], now - tonumber(args[at + 1]), args[at + 2] == '1')
  end
  local value = redis.call('GET', keys[1])
  return value and value:sub(1, HASH) or ''
end

register('token', token)
register('store_token', store_token)
register('fail_token', fail_token)
register('keep_token', keep_token)
